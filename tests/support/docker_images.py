"""The image that container tests run: static busybox with a link for each of its programs, built when it is missing."""

import fcntl
import io
import json
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import docker
import pytest

from tests.support.claims import own

BUSYBOX = "pupload/busybox:latest"
WITH_PERL = "pupload/resize:latest"
"""A Debian, made by the scripts; Perl is in every one."""
_DOCKERFILE = b'FROM scratch\nADD root.tar /\nENV PATH=/bin\nCMD ["/bin/sh"]\n'


def ensure_busybox() -> str:
    """The name of the image, which is on the engine now."""
    client = docker.from_env(timeout=120)
    try:
        with _alone():
            if not client.images.list(BUSYBOX):
                client.images.build(fileobj=_context(), custom_context=True, tag=BUSYBOX, rm=True, forcerm=True)
    finally:
        client.close()
    return BUSYBOX


@contextmanager
def _alone() -> Iterator[None]:
    """One test process at a time."""
    with (own().parent / "pupload-busybox.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def an_image_with_entrypoint(name: str, entrypoint: Sequence[str]) -> Iterator[str]:
    """The name of an image as busybox is, but with an entrypoint; it is gone after the block."""
    with _an_image(name, f"ENTRYPOINT {json.dumps(entrypoint)}"):
        yield name


@contextmanager
def an_image_with_volumes(name: str, *places: str) -> Iterator[str]:
    """The name of an image as busybox is, but with volumes declared; it is gone after the block."""
    with _an_image(name, f"VOLUME {json.dumps(places)}"):
        yield name


@contextmanager
def _an_image(name: str, more: str) -> Iterator[str]:
    dockerfile = f"FROM {ensure_busybox()}\n{more}\n"
    client = docker.from_env(timeout=120)
    try:
        client.images.build(fileobj=io.BytesIO(dockerfile.encode()), tag=name, rm=True, forcerm=True)
        yield name
        client.images.remove(name, force=True)
    finally:
        client.close()


def ensure_perl() -> str:
    """The name of an image whose Perl can make any system call; the test is skipped where nobody has made it."""
    client = docker.from_env(timeout=120)
    try:
        if not client.images.list(WITH_PERL):
            pytest.skip(f"{WITH_PERL} is not on this engine: scripts/images.py node makes it")
    finally:
        client.close()
    return WITH_PERL


@contextmanager
def an_image_with_rooted_su(name: str) -> Iterator[str]:
    """The name of an image as busybox is, with an `su` that is root by its mode; it is gone after the block."""
    root, context = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=root, mode="w") as tar:
        _add(tar, "rooted/su", Path("/bin/busybox").read_bytes(), 0o4755)
    with tarfile.open(fileobj=context, mode="w") as tar:
        _add(tar, "Dockerfile", f"FROM {ensure_busybox()}\nADD root.tar /\n".encode(), 0o644)
        _add(tar, "root.tar", root.getvalue(), 0o644)
    context.seek(0)
    client = docker.from_env(timeout=120)
    try:
        client.images.build(fileobj=context, custom_context=True, tag=name, rm=True, forcerm=True)
        yield name
        client.images.remove(name, force=True)
    finally:
        client.close()


def _context() -> io.BytesIO:
    binary = Path("/bin/busybox").read_bytes()
    programs = subprocess.run(["/bin/busybox", "--list"], check=True, capture_output=True, text=True).stdout.split()
    root = io.BytesIO()
    with tarfile.open(fileobj=root, mode="w") as tar:
        _add(tar, "bin/busybox", binary, 0o755)
        for program in sorted(set(programs) - {"busybox"}):
            link = tarfile.TarInfo(f"bin/{program}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        _add(tar, "Dockerfile", _DOCKERFILE, 0o644)
        _add(tar, "root.tar", root.getvalue(), 0o644)
    context.seek(0)
    return context


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))
