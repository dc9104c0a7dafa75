"""Outputs as a program left them: every way in which one may be an attempt on the host is refused here.

The descriptor that is checked is the one that is hashed and uploaded; a name is never opened twice.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pupload.flow.mime import matches
from pupload.flow.plan import Reason
from pupload.protocol import OutputSpec, PutWish
from pupload.units import format_size
from pupload.worker.failure import NodeFailure
from pupload.worker.source import Shortened, Source
from pupload.worker.workdir import WorkDir

SPARSE_FROM_BYTES = 16 * 1024**2
SPARSE_RATIO = 16
HASHED_FIRST_BYTES = 8 * 1024**2
"""What is larger is hashed as it goes to the store: to read it once more would take half as long as that."""
_FOLLOW_NOTHING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class NotPlain(Exception):
    """What lies there is no plain file of its own, or too large; the text says what it is."""


@dataclass(frozen=True, slots=True)
class Output:
    """An output, open and checked; a small one is hashed as well."""

    spec: OutputSpec
    source: Source
    content_type: str

    def wish(self) -> PutWish:
        """What to sign for it."""
        md5 = self.source.sums.md5 if self.source.sums else ""
        return PutWish(edge=self.spec.edge, size_bytes=self.source.size_bytes, md5=md5, content_type=self.content_type)


def file_name(spec: OutputSpec) -> str:
    """The name that the program is to write."""
    return f"{spec.port}{spec.extension}"


@contextlib.contextmanager
def opened(place: WorkDir, specs: list[OutputSpec]) -> Iterator[list[Output]]:
    """The outputs that are there, open as long as the block lasts.

    Errors: NodeFailure for one that is required and missing, is no plain file, is too large or of a wrong type.
    """
    with contextlib.ExitStack() as stack:
        root = _open_dir(stack, str(place.root))
        folder = _open_dir(stack, "out", dir_fd=root)
        found = []
        for spec in specs:
            fd = _open(folder, spec, place.out_device)
            if fd is not None:
                stack.callback(os.close, fd)
                found.append(_read(fd, spec))
        yield found


def _open_dir(stack: contextlib.ExitStack, name: str, dir_fd: int | None = None) -> int:
    fd = os.open(name, _FOLLOW_NOTHING | os.O_DIRECTORY, dir_fd=dir_fd)
    stack.callback(os.close, fd)
    return fd


def _open(folder: int, spec: OutputSpec, device: int) -> int | None:
    try:
        return _open_plain(folder, file_name(spec), device, spec.max_size_bytes)
    except FileNotFoundError:
        if spec.required:
            raise _missing(folder, spec) from None
        return None
    except NotPlain as error:
        raise _refused(spec, str(error)) from error


@contextlib.contextmanager
def plain_file(folder: Path, name: str, device: int, limit_bytes: int) -> Iterator[int]:
    """The file that a program may have written, open for reading as long as the block lasts.

    Errors: FileNotFoundError; NotPlain.
    """
    with contextlib.ExitStack() as stack:
        fd = _open_plain(_open_dir(stack, str(folder)), name, device, limit_bytes)
        stack.callback(os.close, fd)
        yield fd


def _open_plain(folder: int, name: str, device: int, limit_bytes: int) -> int:
    try:
        fd = os.open(name, _FOLLOW_NOTHING, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise NotPlain(_UNOPENED.get(error.errno or 0, f"not readable ({error.strerror})")) from error
    try:
        _check_file(os.fstat(fd), device, limit_bytes)
    except NotPlain:
        os.close(fd)
        raise
    return fd


def _missing(folder: int, spec: OutputSpec) -> NodeFailure:
    there = sorted(os.listdir(folder))[:5]
    wrote = f"; it wrote {', '.join(ascii(name) for name in there)}" if there else "; it wrote nothing there"
    text = f"the program ended with 0 but did not write /pup/out/{file_name(spec)}, which output {spec.port} requires"
    return NodeFailure(Reason.EXIT, text + wrote, final=True, exit_code=0)


def _refused(spec: OutputSpec, what: str) -> NodeFailure:
    return NodeFailure(
        Reason.POLICY, f"output {spec.port} is {what}; only a plain file of its own is taken", final=True, exit_code=0
    )


_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


_UNOPENED = {
    errno.ELOOP: "a symbolic link",
    errno.EMLINK: "a symbolic link",
    errno.ENXIO: "a socket or a device",
    errno.ENODEV: "a socket or a device",
}


def _check_file(found: os.stat_result, device: int, limit_bytes: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise NotPlain(_KINDS.get(stat.S_IFMT(found.st_mode), "no file"))
    if found.st_nlink != 1:
        raise NotPlain("a file with several hard links")
    if found.st_dev != device:
        raise NotPlain("on another file system")
    if found.st_size > limit_bytes:
        limit = format_size(limit_bytes)
        raise NotPlain(f"{format_size(found.st_size)} large, beyond the limit of {limit}")
    if found.st_size >= SPARSE_FROM_BYTES and found.st_blocks * 512 * SPARSE_RATIO < found.st_size:
        raise NotPlain(f"a sparse file that claims {format_size(found.st_size)}")


def _read(fd: int, spec: OutputSpec) -> Output:
    source = Source(fd, os.fstat(fd).st_size)
    try:
        found = source.look() if source.size_bytes > HASHED_FIRST_BYTES else source.sum_up().content_type
    except Shortened as error:
        raise _refused(spec, "a file that becomes shorter while it is read") from error
    if not matches(found, spec.types):
        text = f"output {spec.port} is {found}; allowed: {', '.join(spec.types)}"
        raise NodeFailure(Reason.TYPE, text, final=True, exit_code=0)
    return Output(spec, source, found)
