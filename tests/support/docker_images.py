"""The image that container tests run: static busybox with a link for each of its programs, built when it is missing."""

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import docker

BUSYBOX = "pupload/busybox:latest"
_DOCKERFILE = b'FROM scratch\nADD root.tar /\nENV PATH=/bin\nCMD ["/bin/sh"]\n'


def ensure_busybox() -> str:
    """The name of the image, which is on the engine now."""
    client = docker.from_env(timeout=120)
    try:
        if not client.images.list(BUSYBOX):
            client.images.build(fileobj=_context(), custom_context=True, tag=BUSYBOX, rm=True, forcerm=True)
    finally:
        client.close()
    return BUSYBOX


@contextmanager
def an_image_with_entrypoint(name: str, entrypoint: Sequence[str]) -> Iterator[str]:
    """The name of an image as busybox is, but with an entrypoint; it is gone after the block."""
    dockerfile = f"FROM {ensure_busybox()}\nENTRYPOINT {json.dumps(entrypoint)}\n"
    client = docker.from_env(timeout=120)
    try:
        client.images.build(fileobj=io.BytesIO(dockerfile.encode()), tag=name, rm=True, forcerm=True)
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
