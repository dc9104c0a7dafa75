"""Processes that outlive their container: when the engine's shim is killed, it says "exited" while they run on.

Only where this machine's cgroups can be seen and the processes be killed; elsewhere there is nothing to find.
"""

import contextlib
import os
import signal
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_PLACES = (
    "docker/{id}",
    "system.slice/docker-{id}.scope",
    "pids/docker/{id}",
    "pids/system.slice/docker-{id}.scope",
)
"""cgroup v2 and v1, each with the engine's cgroupfs and systemd drivers."""


def survivors(container: str, root: Path = _ROOT) -> list[int]:
    """Process ids that the container's cgroup still holds."""
    found: list[int] = []
    for place in _PLACES:
        with contextlib.suppress(OSError):
            found += map(int, (root / place.format(id=container) / "cgroup.procs").read_text().split())
    # A process of another pid namespace reads as 0, and a kill of 0 would be one of ourselves.
    return [process for process in found if process > 1]


def kill_survivors(container: str, root: Path = _ROOT) -> int:
    """How many processes were left and are killed now."""
    left = survivors(container, root)
    for process in left:
        with contextlib.suppress(OSError):
            os.kill(process, signal.SIGKILL)
    return len(left)
