"""The worker of `pup dev`: a process of its own, tied to ours, started anew when it dies.

It begins while its controller does, and loads; whom to serve it is told as soon as that is known.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import sys
from pathlib import Path

from pupload.stores import tether

_LOG = logging.getLogger(__name__)
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 15.0
_STOP_S = 6.0
_STEADY_S = 60.0


class WorkerChild:
    """One `pup worker`."""

    def __init__(self, data_dir: Path, *, verbose: bool) -> None:
        quiet = [] if verbose else ["--quiet"]
        self._arguments = ["-m", "pupload.cli.main", "worker", "--settings-on-stdin", *quiet]
        self._env = worker_environment(dict(os.environ), data_dir)
        self._settings: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._child: asyncio.subprocess.Process | None = None
        self._keeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """From now on the worker runs, until `stop`; it claims nothing before `serve`."""
        self._keeping = asyncio.create_task(self._keep_up(), name="worker")

    def serve(self, url: str, token: str) -> None:
        """Have it serve the controller at `url`, which knows the token."""
        settings = {"PUPLOAD_CONTROLLER_URL": url, "PUPLOAD_WORKER_TOKEN": token}
        self._settings.set_result(json.dumps(settings).encode() + b"\n")

    async def _keep_up(self) -> None:
        pause_s, loop = _FIRST_PAUSE_S, asyncio.get_running_loop()
        while True:
            began = loop.time()
            code = await self._ended(await self._launch())
            if loop.time() - began > _STEADY_S:
                pause_s = _FIRST_PAUSE_S
            _LOG.warning("the worker ended (%s); starting it again in %g s", code, pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _launch(self) -> asyncio.subprocess.Process:
        self._child = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), sys.executable, *self._arguments,
            env=self._env,
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us: the worker is asked to stop while its controller still answers
        )  # fmt: skip
        return self._child

    async def _ended(self, child: asyncio.subprocess.Process) -> int:
        telling = asyncio.create_task(self._tell(child))
        try:
            return await child.wait()
        finally:
            telling.cancel()

    async def _tell(self, child: asyncio.subprocess.Process) -> None:
        assert child.stdin is not None
        child.stdin.write(await asyncio.shield(self._settings))
        # One that has ended already is started again, and told again.
        with contextlib.suppress(ConnectionError):
            await child.stdin.drain()
        child.stdin.close()

    async def stop(self) -> None:
        """Returns when the worker is gone: asked to drain, then told to let go at once, then killed."""
        if self._keeping is not None:
            self._keeping.cancel()
        child = self._child
        if child is None:
            return
        try:
            for within_s in (_STOP_S / 2, _STOP_S / 2):
                if child.returncode is None:
                    child.terminate()
                if await _gone(child, within_s):
                    return
        finally:
            if child.returncode is None:
                child.kill()
                await asyncio.shield(child.wait())


async def _gone(child: asyncio.subprocess.Process, within_s: float) -> bool:
    try:
        await asyncio.wait_for(child.wait(), within_s)
    except TimeoutError:
        return False
    return True


def worker_name(data_dir: Path) -> str:
    """The worker's name: equal at each start over a folder, and unlike that of any other folder.

    Containers are labelled with it, and a worker removes those that it does not know: two workers of one name on one
    engine would remove each other's.
    """
    return f"local-{hashlib.sha256(str(data_dir.resolve()).encode()).hexdigest()[:8]}"


def worker_environment(ours: dict[str, str], data_dir: Path) -> dict[str, str]:
    """The environment of the worker: ours, but with its own name and place.

    The configuration file is the controller's and holds settings that no worker knows.
    """
    kept = {name: value for name, value in ours.items() if name != "PUPLOAD_CONFIG"}
    return kept | {
        "PUPLOAD_WORKER_NAME": worker_name(data_dir),
        "PUPLOAD_WORK_DIR": str(data_dir.resolve() / "work"),
    }
