"""A folder as a tar and back: plain files and folders, and nothing else, whoever has written the one or the other.

The same folder always gives the same bytes: names in order, permission bits kept, owners and times left out. Nothing is
followed: the folder was a program's to write, and a tar may say anything.
"""

import itertools
import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pupload.errors import PuploadError
from pupload.units import format_size

MAX_DEPTH = 64
MAX_PATH_BYTES = 2048
MAX_NAME_BYTES = 255
_PIECE = 256 * 1024
_FOLLOW_NOTHING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_END = b"\0" * (2 * tarfile.BLOCKSIZE)
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}

Owner = tuple[int, int]
"""(uid, gid)."""


class NotKept(PuploadError):
    """The folder, or the tar, holds what is not kept: something that is no plain file or folder, or too much."""

    code = "FOLDER_NOT_KEPT"


@dataclass(slots=True)
class Room:
    """What may still come: bytes of all files together, and files and folders."""

    size_bytes: int
    entries: int

    def take(self, path: str, size_bytes: int = 0) -> None:
        """Count one entry.

        Errors: NotKept when it is one too many, too large, or too deep.
        """
        self.entries -= 1
        self.size_bytes -= size_bytes
        if self.entries < 0:
            raise NotKept("it holds too many files and folders")
        if self.size_bytes < 0:
            raise NotKept(f"its files are too large; {path!a} has {format_size(size_bytes)} of them")
        parts = os.fsencode(path).split(b"/")
        if len(parts) > MAX_DEPTH or len(os.fsencode(path)) > MAX_PATH_BYTES:
            raise NotKept(f"it is too deep at {path[:60]!a}")
        if max(map(len, parts)) > MAX_NAME_BYTES:
            raise NotKept(f"a name in it is too long: {path[:60]!a}")


def packed(folder: Path, room: Room, *, under: str = "", owner: Owner = (0, 0)) -> Iterator[bytes]:
    """The folder's content as a tar, in pieces; names begin with `under`.

    Errors: NotKept; OSError.
    """
    root = os.open(folder, _FOLLOW_NOTHING | os.O_DIRECTORY)
    try:
        yield from _packed(_Open(root, os.fstat(root).st_dev), "", room, under, owner)
    finally:
        os.close(root)
    yield _END


@dataclass(frozen=True, slots=True)
class _Open:
    """A folder that is open, and the file system that the whole tree lies on."""

    fd: int
    device: int


def _packed(folder: _Open, path: str, room: Room, under: str, owner: Owner) -> Iterator[bytes]:
    for name in _names(folder, room):
        inner = f"{path}{name}"
        found = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
        _refuse_strange(found, folder, inner)
        is_folder = stat.S_ISDIR(found.st_mode)
        fd = _opened(folder, name, inner, os.O_DIRECTORY if is_folder else 0)
        try:
            # What was looked at may have been replaced before it was opened.
            found = os.fstat(fd)
            _refuse_strange(found, folder, inner)
            size = 0 if is_folder else found.st_size
            room.take(inner, size)
            yield header(under + inner, folder=is_folder, mode=found.st_mode, size_bytes=size, owner=owner)
            if is_folder:
                yield from _packed(_Open(fd, folder.device), f"{inner}/", room, under, owner)
            else:
                yield from _content(fd, size, inner)
        finally:
            os.close(fd)


def _names(folder: _Open, room: Room) -> list[str]:
    """The names in order; no more are read than there is room for, and one."""
    with os.scandir(folder.fd) as found:
        return sorted(entry.name for entry in itertools.islice(found, room.entries + 1))


def _opened(folder: _Open, name: str, path: str, flags: int) -> int:
    try:
        return os.open(name, _FOLLOW_NOTHING | flags, dir_fd=folder.fd)
    except PermissionError as error:
        raise NotKept(f"{path!a} cannot be read") from error


def _refuse_strange(found: os.stat_result, folder: _Open, path: str) -> None:
    if found.st_dev != folder.device:
        raise NotKept(f"{path!a} is on another file system")
    if stat.S_ISDIR(found.st_mode):
        return
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "no file")
        raise NotKept(f"{path!a} is {kind}; only plain files and folders are kept")
    if found.st_nlink != 1:
        raise NotKept(f"{path!a} is a file with several hard links; only plain files and folders are kept")


def header(path: str, *, folder: bool, mode: int, size_bytes: int = 0, owner: Owner = (0, 0)) -> bytes:
    """The head of an entry, without a time."""
    entry = tarfile.TarInfo(path)
    entry.type = tarfile.DIRTYPE if folder else tarfile.REGTYPE
    entry.mode, entry.size = stat.S_IMODE(mode) & 0o777, size_bytes
    entry.uid, entry.gid = owner
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _content(fd: int, size: int, path: str) -> Iterator[bytes]:
    at = 0
    while at < size:
        piece = os.pread(fd, min(_PIECE, size - at), at)
        if not piece:
            raise NotKept(f"{path!a} becomes shorter while it is read")
        yield piece
        at += len(piece)
    if size % tarfile.BLOCKSIZE:
        yield b"\0" * (tarfile.BLOCKSIZE - size % tarfile.BLOCKSIZE)


def unpack(tar: IO[bytes], target: Path, room: Room, *, under: str = "", owner: Owner | None = None) -> None:
    """Fill the empty folder `target` with what `tar` holds below `under`, given to `owner` where there is one.

    Errors: NotKept for anything but plain files and folders in their place; OSError.
    """
    modes: list[tuple[Path, int]] = []
    try:
        with tarfile.open(fileobj=tar, mode="r|", encoding="utf-8", errors="surrogateescape") as entries:
            for entry in entries:
                if path := _inner(entry.name, under):
                    _refuse_strange_entry(entry, path)
                    room.take(path, entry.size)
                    _place(entries, entry, target / path, modes, owner)
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise NotKept(f"it is no tar that can be read: {error}") from error
    except (FileExistsError, FileNotFoundError, NotADirectoryError) as error:
        raise NotKept(f"its tar has an entry out of place: {error.strerror}") from error
    # Last, and from the inside: a folder that may not be written could not be filled.
    for folder, mode in reversed(modes):
        folder.chmod(mode)


def _inner(name: str, under: str) -> str:
    """The entry's path in the folder, "" for the folder itself.

    Errors: NotKept for a path that leaves it.
    """
    if f"{name}/" == under:
        return ""
    path = name.removeprefix(under)
    if not name.startswith(under) or "\0" in path or any(part in {"", ".", ".."} for part in path.split("/")):
        raise NotKept(f"its tar names a strange place: {name[:60]!a}")
    return path


def _refuse_strange_entry(entry: tarfile.TarInfo, path: str) -> None:
    plain = entry.type in {tarfile.REGTYPE, tarfile.AREGTYPE} and not entry.issparse()
    if not (plain or entry.isdir()):
        raise NotKept(f"{path!a} is no plain file or folder; only these are kept")
    if entry.size < 0:
        raise NotKept(f"{path!a} claims less than no bytes")


def _place(
    entries: tarfile.TarFile, entry: tarfile.TarInfo, path: Path, modes: list[tuple[Path, int]], owner: Owner | None
) -> None:
    if entry.isdir():
        path.mkdir(mode=0o700)
        modes.append((path, entry.mode & 0o777))
    else:
        _place_file(entries.extractfile(entry), path, entry.mode & 0o777)
    if owner is not None:
        os.chown(path, *owner, follow_symlinks=False)


def _place_file(content: IO[bytes] | None, path: Path, mode: int) -> None:
    with path.open("xb") as file:
        while content is not None and (piece := content.read(_PIECE)):
            file.write(piece)
        os.fchmod(file.fileno(), mode)
