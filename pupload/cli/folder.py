"""The data folder, held by one process at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pupload.cli.exits import Occupied


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """The folder, made if need be, is ours for the block. The kernel lets go of it however we end.

    Errors: Occupied, naming the process that has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "another"
            raise Occupied(
                f"{folder} is in use by process {holder}: stop that one, or choose another folder with --data"
            ) from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(lock)
