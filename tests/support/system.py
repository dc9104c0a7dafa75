"""A running system for tests: `pup dev` as a process of its own over its own folder, and a look at what it left."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from pupload.cli.child import worker_name
from tests.support.claims import claim

READY_S = 60.0
STOP_S = 30.0
SETTLE_S = 15.0
_POLL_S = 0.02


@dataclass(slots=True)
class System:
    """`pup dev` over `data`. `url` is good between `start` and `stop`, and stays the same over a restart."""

    data: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the controller is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """All that it has said since its first start."""
        path = self._log_path
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def _log_path(self) -> Path:
        return self.data.with_name(self.data.name + ".log")

    @property
    def work_dir(self) -> Path:
        """Where its worker keeps the files of running attempts."""
        return self.data / "work"

    def start(self) -> None:
        """Returns when the system takes runs, with its worker there."""
        before = len(self.log)
        self.launch()
        self._await(lambda: "is ready at" in self.log[before:], READY_S)
        self.port = int(self.log[before:].split("is ready at http://127.0.0.1:")[1].split()[0])
        self._await(self._is_ready, READY_S)

    def launch(self) -> None:
        """Returns at once, with all yet to begin."""
        claim(worker_name(self.data))
        with self._log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pupload.cli.main", "dev", "-v", "--port", str(self.port), "--data", self.data],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def _await(self, holds: Callable[[], bool], within_s: float) -> None:
        assert self.process is not None
        deadline = time.monotonic() + within_s
        while not holds():
            assert self.process.poll() is None, f"pup dev ended with {self.process.returncode}:\n{self.log}"
            assert time.monotonic() < deadline, f"pup dev is not ready:\n{self.log}"
            time.sleep(_POLL_S)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """The exit code of the system, asked to stop as a user would."""
        assert self.process is not None
        self.process.send_signal(number)
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"pup dev did not stop:\n{self.log}") from None

    def kill(self) -> None:
        """Kill all of its processes at once, as a power cut would; the containers of its runs live on."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait(STOP_S)

    def kill_part(self, command: bytes) -> list[int]:
        """The processes with `command`, between NUL bytes, in their arguments; they are dead now."""
        found = [pid for pid in self.processes() if command in _told(pid)]
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        return found

    def processes(self) -> list[int]:
        """Every process of the system, the database's and the store's included."""
        mark = os.fsencode(self.data.resolve())
        return [pid for pid in _pids() if pid != os.getpid() and mark in _told(pid)]

    def programs(self) -> list[str]:
        """What its processes run, but for the database's own, which come and go."""
        commands = {pid: _command(pid) for pid in self.processes()}
        return sorted(command for command in commands.values() if command and "postgres" not in command)

    def open_transactions(self) -> list[str]:
        """The last statements of database sessions that hold a transaction open and do nothing."""
        return asyncio.run(_open_transactions(self.data / "postgres"))

    def change_rows(self, statement: str) -> None:
        """Execute the statement in its database, as to let time pass for a row."""
        asyncio.run(_execute(self.data / "postgres", statement))

    @contextlib.contextmanager
    def unwritable(self, table: str) -> Iterator[None]:
        """Whoever writes the table waits, until the block ends or the database is killed."""
        with asyncio.Runner() as runner:
            connection = runner.run(_connected(self.data / "postgres"))
            runner.run(connection.execute(f"BEGIN; LOCK TABLE {table} IN EXCLUSIVE MODE"))
            try:
                yield
            finally:
                runner.run(_hung_up(connection))

    def objects(self) -> list[str]:
        """The keys of what lies in its store, but for what is still being written."""
        buckets = self.data / "store" / "buckets"
        found = [path.relative_to(buckets) for path in buckets.rglob("*") if path.is_file()]
        return ["/".join(path.parts[1:]) for path in found if not path.name.startswith(".rclone_temp_")]

    def containers(self) -> list[str]:
        """Names of its containers, in any state."""
        asked = ["docker", "ps", "-a", "--filter", f"label=pupload.worker={worker_name(self.data)}"]
        listed = subprocess.run([*asked, "--format", "{{.Names}}"], check=True, capture_output=True, text=True)
        return listed.stdout.split()

    def work_dirs(self) -> list[str]:
        """Names of the directories of attempts."""
        return [path.name for path in self.work_dir.iterdir() if path.is_dir()] if self.work_dir.exists() else []

    def unfinished_objects(self) -> list[str]:
        """Names of uploads in its store that were begun and not finished."""
        return [path.name for path in (self.data / "store").rglob(".rclone_temp_*")]

    def leftovers(self) -> list[str]:
        """What attempts that are over have left, once what is being removed has had its time."""
        deadline = time.monotonic() + SETTLE_S
        while left := [*self.containers(), *self.work_dirs(), *self.unfinished_objects()]:
            if time.monotonic() > deadline:
                return left
            time.sleep(_POLL_S)
        return []


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


async def _open_transactions(folder: Path) -> list[str]:
    connection = await _connected(folder)
    try:
        rows = await connection.fetch(
            "SELECT query FROM pg_stat_activity"
            " WHERE state LIKE 'idle in transaction%' AND state_change < now() - interval '2 seconds'"
        )
    finally:
        await connection.close()
    return [row["query"] for row in rows]


async def _execute(folder: Path, statement: str) -> None:
    connection = await _connected(folder)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _connected(folder: Path) -> asyncpg.Connection:
    _, _, _, port, socket_dir, *_ = (folder / "postmaster.pid").read_text().splitlines()
    return await asyncpg.connect(host=socket_dir, port=int(port), user="postgres", database="postgres")


async def _hung_up(connection: asyncpg.Connection) -> None:
    connection.terminate()
    await asyncio.sleep(0)


def _told(pid: int) -> bytes:
    """Arguments and environment of a process; nothing where there is none any more."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
    return b""


@contextlib.contextmanager
def a_system(data: Path, environment: Mapping[str, str] | None = None) -> Iterator[System]:
    """A system that runs for the block; nothing of it may be left afterwards."""
    system = System(data, environment or {})
    try:
        system.start()
        yield system
    except BaseException:
        system.kill()
        raise
    if system.process is not None and system.process.poll() is None:
        assert system.stop() == 0, system.log
    left = [f"process {pid}" for pid in system.processes()] + system.leftovers()
    system.kill()
    assert not left, f"left behind: {left}\n{system.log}"
