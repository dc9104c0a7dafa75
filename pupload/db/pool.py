"""PostgreSQL: the pool, transactions whose faults are ours to name, and the schema.

Only this database's clock decides leases and deadlines.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from typing import Any, TypeVar

import asyncpg
from pgqueuer.queries import Queries

from pupload.errors import DatabaseUnavailable

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
T = TypeVar("T")

_LOG = logging.getLogger(__name__)
_MIGRATIONS = files("pupload.db") / "migrations"
_ADVISORY_KEY = 0x70757001
_CONNECT_S = 10.0
_SILENT_S = 1.0
_ANSWER_S = 20.0
"""A server that says nothing for so long is taken for gone; a statement that takes longer is ended by itself before."""

_SERVER_SETTINGS = {
    "application_name": "pupload",
    "statement_timeout": "15s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "10s",
    # Small statements by the thousand: compiling them costs more than running them.
    "jit": "off",
}
_QUICK_S = 5.0
_BRIEFLY = "SET LOCAL lock_timeout = '100ms'"
_PASSING = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    # A newer controller has changed a table since the statement was prepared; the driver prepares it anew.
    asyncpg.InvalidCachedStatementError,
)
_GONE = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # What the driver says of a connection that ended between two of its own steps.
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
    asyncpg.OperatorInterventionError,
    # No disk, memory or connection left.
    asyncpg.InsufficientResourcesError,
    # This process stood still within a transaction for too long.
    asyncpg.IdleInTransactionSessionTimeoutError,
)


class Crowded(Exception):
    """What was to be done quickly would have had to wait for somebody else."""


class Database:
    """A pool of connections. Made by `open_database`."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", dsn: str) -> None:
        self._pool = pool
        self._used: dict[Connection, float] = {}
        self.dsn = dsn

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection outside any transaction, for single statements.

        Errors: DatabaseUnavailable when PostgreSQL is gone, or in the middle of it goes, or somebody else holds for too
        long what a statement needs.
        """
        try:
            connection = await self._pool.acquire(timeout=_CONNECT_S)
            self._used[connection] = time.monotonic()
            try:
                yield connection
            except TimeoutError:
                await self._hang_up(connection)
                raise
            except (asyncio.CancelledError, asyncpg.InterfaceError):
                # The driver prepares a statement by one message and runs it by another, which alone ends both. The
                # server would wait between them, with the statement's locks, for whoever comes next.
                _end(connection)
                raise
            finally:
                try:
                    await self._release(connection)
                finally:
                    del self._used[connection]
        except (*_GONE, *_PASSING) as error:
            raise DatabaseUnavailable(_told(error)) from error

    async def renew(self) -> None:
        """The server is silent on one connection: hang up where it is waited for, and use none of before again.

        What has made one silent, a firewall that forgot them or a server's end that nobody told, has made all so.
        """
        since = time.monotonic() - _SILENT_S
        for connection in [each for each, begun in self._used.items() if begun < since]:
            _end(connection)
        await self._pool.expire_connections()

    async def _hang_up(self, connection: Connection) -> None:
        """Wait for nothing more on a connection that is silent, neither for a cancel's end nor for a rollback's."""
        _end(connection)
        await self._pool.expire_connections()

    async def _release(self, connection: asyncpg.pool.PoolConnectionProxy) -> None:
        try:
            await self._pool.release(connection)
        except _GONE as error:
            # What was done on it is done, and told as such; the pool has dropped the connection.
            _LOG.info("a connection ended after its work: %s", error)

    async def transact(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """The result of `work`, run in one transaction; run again, from its beginning, when a deadlock broke it.

        Errors: DatabaseUnavailable when PostgreSQL is gone; whether the commit happened is then unknown, and every
        caller must be right either way.
        """
        return await self._insist(work)

    async def read(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """As `transact`, for what writes nothing: all statements of `work` see one moment of the database."""
        return await self._insist(work, isolation="repeatable_read", readonly=True)

    async def _insist(self, work: Callable[[Connection], Awaitable[T]], **kind: Any) -> T:
        for again in range(5):
            try:
                async with self.connection() as connection, connection.transaction(**kind):
                    return await self._heard_out(connection, work)
            except DatabaseUnavailable as error:
                if not isinstance(error.__cause__, _PASSING):
                    raise
                _LOG.info("transaction repeated: %s", error)
                await asyncio.sleep(0.02 * 2**again)
        raise DatabaseUnavailable("the database kept breaking this transaction; try again")

    async def _heard_out(self, connection: Connection, work: Callable[[Connection], Awaitable[T]]) -> T:
        try:
            return await work(connection)
        except TimeoutError:
            await self._hang_up(connection)
            raise

    async def quickly(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """As `transact`, but once, in a few seconds, and without waiting for a row that somebody else holds.

        Errors: Crowded when that was not possible, and nothing is written; DatabaseUnavailable as for `transact`.
        """
        try:
            async with self.connection() as connection, connection.transaction():
                try:
                    async with asyncio.timeout(_QUICK_S):
                        await connection.execute(_BRIEFLY)
                        return await work(connection)
                except TimeoutError:
                    await self._hang_up(connection)
                    raise
        except DatabaseUnavailable as error:
            if isinstance(error.__cause__, (*_PASSING, TimeoutError)):
                raise Crowded("somebody else is in the way") from error
            raise

    async def close(self) -> None:
        """Give all connections back."""
        try:
            async with asyncio.timeout(5):
                await self._pool.close()
        except _GONE:
            self._pool.terminate()


def _end(connection: Connection) -> None:
    # It may have ended by itself meanwhile.
    with suppress(asyncpg.InterfaceError):
        connection.terminate()


def _told(error: Exception) -> str:
    """What is wrong with the database, for whoever asked for something."""
    if isinstance(error, asyncpg.InsufficientResourcesError):
        return f"the database has no room for this: {error}"
    # Who hangs up on a silent server in a transaction hears of that instead.
    if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):
        return "the database does not answer in time"
    if isinstance(error, asyncpg.InternalClientError):
        return "the connection to the database has ended"
    return f"the database does not answer: {error}"


async def open_database(dsn: str, size: int) -> Database:
    """A pool on `dsn`, with the schema brought up to date.

    Errors: DatabaseUnavailable when PostgreSQL does not answer or refuses.
    """
    try:
        pool = await asyncpg.create_pool(
            dsn,
            min_size=min(2, size),
            max_size=size,
            server_settings=_SERVER_SETTINGS,
            command_timeout=_ANSWER_S,
            reset=_as_it_is,
        )
        await migrate(dsn)
    except (*_GONE, asyncpg.PostgresError) as error:
        raise DatabaseUnavailable(f"PostgreSQL cannot be used: {error}") from error
    return Database(pool, dsn)


async def _as_it_is(_connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Nothing to undo on a connection that is given back: all that we set ends with its transaction.

    The driver has rolled back an open transaction by then, and one that was left in the midst of a statement is not
    given back. Its own reset is a round trip after each use, more than all our statements beside it.
    """


async def migrate(dsn: str) -> None:
    """Bring the schema up to date: the files of `migrations/` in order, each once, forward only.

    Any number of controllers may call this at once: an advisory lock lets one do it.
    """
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _ADVISORY_KEY)
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY, at timestamptz NOT NULL)"
        )
        done = {row["name"] for row in await connection.fetch("SELECT name FROM migrations")}
        for file in sorted(_MIGRATIONS.iterdir(), key=lambda each: each.name):
            if file.name.endswith(".sql") and file.name not in done:
                await _apply(connection, file.name, file.read_text())
        queue = Queries.from_asyncpg_connection(connection)
        await (queue.upgrade() if await queue.schema_is_installed() else queue.install())
    finally:
        await connection.close()


async def _apply(connection: "asyncpg.Connection[asyncpg.Record]", name: str, script: str) -> None:
    async with connection.transaction():
        await connection.execute(script)
        await connection.execute("INSERT INTO migrations VALUES ($1, now())", name)
    _LOG.info("applied migration %s", name)
