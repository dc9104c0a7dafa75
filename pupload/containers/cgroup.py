"""What this machine's kernel knows of a container's processes, where its cgroups can be seen.

Processes may outlive their container: when the engine's shim is killed, it says "exited" while they run on. And they
end long before the engine says so: it tells of an exit once it has taken the container apart, some 50 ms later.
"""

import asyncio
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
_LOOK_S = 0.005


class Departures:
    """Tells when nothing runs in a container any more, for runtimes whose processes have been seen in its cgroup.

    One that keeps them elsewhere, as one with virtual machines may, is not believed to have ended them.
    """

    def __init__(self, root: Path = _ROOT) -> None:
        self._root = root
        self._seen: set[str] = set()

    async def until_empty(self, container: str, runtime: str) -> None:
        """Return when nothing runs any more in a container that was started; never where that cannot be seen."""
        first, passed_s = 0, 0.0
        # Asked on the event loop: the kernel answers from memory, in a tenth of a thread's turn.
        while (running := _processes(container, self._root)) or runtime not in self._seen:
            if running:
                self._seen.add(runtime)
                # The container's first process; when it ends, the kernel ends all others. It is waited for once.
                first, before = min(running), first
                if first != before and await _ended(first):
                    continue
            # What cannot be waited for is looked for. What has run for long may end a little later: to look often would
            # cost more than it spares.
            pause_s = max(_LOOK_S, passed_s / 4)
            await asyncio.sleep(pause_s)
            passed_s += pause_s


async def _ended(process: int) -> bool:
    """True once the process has ended; False where the kernel does not tell, as of one in another namespace."""
    try:
        descriptor = os.pidfd_open(process)
    except OSError:
        return False
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return True


def _processes(container: str, root: Path) -> list[int]:
    found: list[int] = []
    for place in _PLACES:
        with contextlib.suppress(OSError):
            found += map(int, (root / place.format(id=container) / "cgroup.procs").read_text().split())
    return found


def survivors(container: str, root: Path = _ROOT) -> list[int]:
    """Process ids that the container's cgroup still holds."""
    # A process of another pid namespace reads as 0, and a kill of 0 would be one of ourselves.
    return [process for process in _processes(container, root) if process > 1]


def kill_survivors(container: str, root: Path = _ROOT) -> int:
    """How many processes were left and are killed now."""
    left = survivors(container, root)
    for process in left:
        with contextlib.suppress(OSError):
            os.kill(process, signal.SIGKILL)
    return len(left)
