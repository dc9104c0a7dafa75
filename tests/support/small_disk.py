"""A disk of a few megabytes, to be filled and given room again."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

only_root_mounts = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
_CHUNK = bytes(64 * 1024)


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """The disk at `place`."""

    place: Path

    def fill(self) -> None:
        """No byte is free any more."""
        with (self.place / "ballast").open("ab", buffering=0) as ballast:
            for size in (len(_CHUNK), 1):
                try:
                    while ballast.write(_CHUNK[:size]):
                        pass
                except OSError:
                    continue

    def empty(self) -> None:
        """What was filled is free again."""
        (self.place / "ballast").unlink(missing_ok=True)


@contextmanager
def a_small_disk(place: Path, options: str) -> Iterator[SmallDisk]:
    """A tmpfs at `place`, as long as the block."""
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)
    try:
        yield SmallDisk(place)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
