"""A real PostgreSQL for tests: one embedded server a session, a database of its own for each test."""

import itertools
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from pupload.db.embedded import embedded_postgres

_LEFT = "SELECT query FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend'"
"""The server's own work, as its autovacuum, is nobody's to close."""

_numbers = itertools.count(1)


@contextmanager
def a_postgres() -> Iterator[str]:
    """The address of a server that lives as long as the block."""
    with (
        tempfile.TemporaryDirectory(prefix="pup-pg-", ignore_cleanup_errors=True) as folder,
        embedded_postgres(Path(folder) / "data") as dsn,
    ):
        yield dsn


@asynccontextmanager
async def a_database(server_dsn: str) -> AsyncIterator[str]:
    """The address of an empty database, dropped at the end; a session left in it fails the test."""
    name = f"test_{next(_numbers)}"
    connection = await asyncpg.connect(server_dsn)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
        parts = urlsplit(server_dsn)
        yield urlunsplit(parts._replace(path=f"/{name}"))
        left = await connection.fetch(_LEFT, name)
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        assert not left, f"database sessions left behind: {left}"
    finally:
        await connection.close()
