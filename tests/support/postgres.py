"""A real PostgreSQL for tests: one embedded server a session, a database of its own for each test."""

import asyncio
import itertools
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from pupload.db.embedded import embedded_postgres
from pupload.db.pool import migrate

_LEFT = "SELECT query FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend'"
"""The server's own work, as its autovacuum, is nobody's to close."""

_MIGRATED = "migrated"
"""The database that all others are copies of: to copy it costs a third of what its schema costs."""

_numbers = itertools.count(1)


@contextmanager
def a_postgres() -> Iterator[str]:
    """The address of a server that lives as long as the block."""
    with (
        tempfile.TemporaryDirectory(prefix="pup-pg-", ignore_cleanup_errors=True) as folder,
        embedded_postgres(Path(folder) / "data") as dsn,
    ):
        asyncio.run(_prepare(dsn))
        yield dsn


async def _prepare(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        # Nobody crashes this server and wants its rows back.
        await connection.execute("ALTER SYSTEM SET fsync = off")
        await connection.execute("SELECT pg_reload_conf()")
        await connection.execute(f"CREATE DATABASE {_MIGRATED}")
    finally:
        await connection.close()
    await migrate(_named(dsn, _MIGRATED))


def _named(server_dsn: str, database: str) -> str:
    return urlunsplit(urlsplit(server_dsn)._replace(path=f"/{database}"))


async def _left_in(connection: "asyncpg.Connection[asyncpg.Record]", database: str) -> list[asyncpg.Record]:
    """The sessions in the database; those whose connection was cut have a moment to notice."""
    for _ in range(500):
        if not (left := await connection.fetch(_LEFT, database)):
            break
        await asyncio.sleep(0.01)
    return left


@asynccontextmanager
async def a_database(server_dsn: str) -> AsyncIterator[str]:
    """The address of a database with the schema and no rows; dropped at the end, and a session left in it
    fails the test.
    """
    name = f"test_{next(_numbers)}"
    connection = await asyncpg.connect(server_dsn)
    try:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {_MIGRATED}")
        yield _named(server_dsn, name)
        left = await _left_in(connection, name)
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        assert not left, f"database sessions left behind: {left}"
    finally:
        await connection.close()
