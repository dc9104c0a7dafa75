"""What the embedded store's folder keeps: who may use it, its server's address and keys, and nothing unfinished."""

import contextlib
import fcntl
import json
import os
import select
import signal
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pupload.errors import InvalidConfig

TEMPORARY = ".rclone_temp_"
"""How names of unfinished uploads begin; they lie beside the object that they become."""

_END_S = 5.0


@dataclass(frozen=True, slots=True)
class Keeping:
    """What the folder keeps of its server. `pid` is 0 until the first start."""

    port: int
    access_key: str
    secret_key: str = field(repr=False)
    pid: int = 0


def locked(path: Path) -> int:
    """The lock on a folder, held until it is closed or this process ends.

    Errors: InvalidConfig where another process holds it.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(lock, 32, 0).decode(errors="replace").strip()
        os.close(lock)
        raise InvalidConfig(
            f"the store in {path.parent} is in use by process {holder}: stop that, or choose another data directory"
        ) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def kept(path: Path) -> Keeping | None:
    """What `path` keeps; None before the first start.

    Errors: InvalidConfig where it is damaged.
    """
    try:
        return Keeping(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise InvalidConfig(f"{path} is damaged: delete it, and new keys are made") from error


def keep(path: Path, keeping: Keeping) -> None:
    """Leaves `keeping` in `path`, whole or not at all, for the owner alone."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600, exist_ok=False)
    new.write_text(json.dumps(asdict(keeping)))
    new.replace(path)


def end_orphan(pid: int, buckets: Path) -> None:
    """Returns when no server over `buckets` runs under `pid`; any other process of that number is left alone."""
    if not serves(pid, buckets):
        return
    with contextlib.suppress(ProcessLookupError):
        orphan = os.pidfd_open(pid)
        try:
            if serves(pid, buckets):  # the number could have passed on before it was held
                signal.pidfd_send_signal(orphan, signal.SIGKILL)
                _wait_for_end(orphan)
        finally:
            os.close(orphan)


def _wait_for_end(process: int) -> None:
    watch = select.poll()
    watch.register(process, select.POLLIN)
    watch.poll(1000 * _END_S)


def serves(pid: int, buckets: Path) -> bool:
    """True when `pid` is a server over `buckets`."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"serve" in arguments and os.fsencode(buckets) in arguments


def sweep(buckets: Path) -> None:
    """Removes what was left by uploads that were cut off together with their server, and empty folders.

    Only while no server runs: it makes a folder before it fills it.
    """
    for at, _, files in os.walk(buckets, topdown=False):
        place = Path(at)
        left = [name for name in files if name.startswith(TEMPORARY)]
        for name in left:
            (place / name).unlink()
        if buckets not in {place, place.parent} and len(left) == len(files):
            with contextlib.suppress(OSError):  # one of its folders holds something
                place.rmdir()
