"""The directory of one attempt: where its inputs lie and its outputs are written."""

import os
from dataclasses import dataclass
from pathlib import Path

from pupload.config import WorkerConfig
from pupload.containers.janitor import remove_tree

MARGIN_BYTES = 64 * 1024**2
MARGIN_INODES = 256


@dataclass(frozen=True, slots=True)
class WorkDir:
    """`root` holds `in`, `out`, kept folders if there are any, and what the worker itself keeps.

    `owner` is (uid, gid) of the container's program.
    """

    root: Path
    owner: tuple[int, int]
    out_device: int

    @property
    def inputs(self) -> Path:
        """Where the container reads; mounted read-only."""
        return self.root / "in"

    @property
    def outputs(self) -> Path:
        """Where the container writes."""
        return self.root / "out"

    @property
    def asked(self) -> Path:
        """Where the file lies in which a program asks the client for tools; only there for one that may."""
        return self.root / "asked"

    @property
    def attachments(self) -> Path:
        """Where what came with the run's request lies, if anything did; mounted read-only."""
        return self.root / "attachments"

    def folder(self, name: str) -> Path:
        """Where the kept folder of this name lies while the container uses it."""
        return self.root / "folders" / name


def make_work_dir(parent: Path, name: str, owner: tuple[int, int]) -> WorkDir:
    """A fresh directory for the attempt `name`; an older one of that name is removed.

    Errors: OSError.
    """
    root = parent / name
    if root.exists():
        remove_tree(root)
    for folder, mode in ((root, 0o700), (root / "in", 0o755), (root / "out", 0o700)):
        folder.mkdir(mode=mode)
        # The umask may have taken the traverse bit that the container's user needs.
        folder.chmod(mode)
    if os.geteuid() == 0:
        os.chown(root, *owner)
        os.chown(root / "out", *owner)
    return WorkDir(root, owner, (root / "out").stat().st_dev)


def lacking(parent: Path, needed_bytes: int) -> str:
    """Why `parent` has no room for files of that size; "" when it has."""
    disk = os.statvfs(parent)
    free = disk.f_bavail * disk.f_frsize
    if free < needed_bytes + MARGIN_BYTES:
        return f"{free} bytes are free under the worker's directory, {needed_bytes + MARGIN_BYTES} are needed"
    # Some file systems make inodes as they need them and say that there are none.
    if disk.f_files and disk.f_favail < MARGIN_INODES:
        return f"{disk.f_favail} inodes are free under the worker's directory, {MARGIN_INODES} are needed"
    return ""


def work_dir_of(config: WorkerConfig) -> Path:
    """Where attempts have their directories, made if need be."""
    config.work_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    return config.work_dir.resolve()
