"""The whole log of a node: from the events, or from the store for attempts that wrote more than is kept there.

It may be gigabytes, so that no answer ever has all of it in memory.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable
from datetime import UTC, datetime

import asyncpg
from pydantic import ValidationError

from pupload.answers.runs import LogRecord
from pupload.controller.objects import log_key
from pupload.controller.service import Service
from pupload.controller.spool import a_spool
from pupload.controller.stores import Stores
from pupload.controller.views import log_record
from pupload.db.runs import no_such_run
from pupload.db.sql import SQL
from pupload.errors import NotFound
from pupload.flow.plan import DEFAULT_STORE
from pupload.protocol import AttemptRef, Line, level_of
from pupload.run.state import RunID

_PAGE = 1000
_MOST_BYTES = 64 * 1024**2
_READS_AT_ONCE = 4
"""Of logs that lie in the store: each is in memory until it is on this machine's disk."""


class NodeLogs:
    """Reads logs."""

    def __init__(self, service: Service, stores: Stores) -> None:
        self._service, self._stores = service, stores
        self._reads = asyncio.Semaphore(_READS_AT_ONCE)

    async def require(self, run_id: RunID, node: str) -> None:
        """Returns when the run has such a node.

        Errors: NotFound.
        """
        async with self._service.database.connection() as connection:
            if await connection.fetchrow(SQL["run_header"], run_id) is None:
                raise no_such_run(run_id)
            plan = await self._service.plans.get(connection, run_id)
        if node not in plan.nodes:
            raise NotFound(f"run {run_id!r} has no node {node!r}", code="NODE_NOT_FOUND")

    async def whole(self, run_id: RunID, node: str) -> AsyncGenerator[list[LogRecord], None]:
        """Every line of every attempt, in order, some at a time.

        Errors: what the database and the stores raise.
        """
        async with self._service.database.connection() as connection:
            kept = [row["attempt"] for row in await connection.fetch(SQL["logs_of_attempts"], run_id, node)]
        async for page in self._told(run_id, node):
            lines: list[LogRecord] = []
            for attempt, record in page:
                while kept and kept[0] < attempt:
                    yield lines
                    lines = []
                    async for stored in self._stored(run_id, node, kept.pop(0)):
                        yield stored
                if attempt not in kept[:1]:
                    lines.append(record)
            yield lines
        for attempt in kept:
            async for stored in self._stored(run_id, node, attempt):
                yield stored

    async def _told(self, run_id: RunID, node: str) -> AsyncGenerator[list[tuple[int, LogRecord]], None]:
        """The lines that events tell of, each with its attempt; those of one attempt come before the next one's."""
        after, rows = 0, list[asyncpg.Record]()
        while not after or len(rows) == _PAGE:
            async with self._service.database.connection() as connection:
                rows = await connection.fetch(SQL["log_events"], run_id, node, after, _PAGE)
            after = rows[-1]["seq"] if rows else 1
            yield [(json.loads(row["data"])["Attempt"], log_record(row)) for row in rows]

    async def _stored(self, run_id: RunID, node: str, attempt: int) -> AsyncGenerator[list[LogRecord], None]:
        store = await self._stores.of_run(run_id, DEFAULT_STORE)
        # By what is ours to say: whoever reported the attempt does not tell us what to read.
        key = log_key(AttemptRef(run_id=run_id, node_id=node, attempt=attempt, lease=""))
        async with a_spool() as spool:
            async with self._reads:
                await spool.fill(_once(await store.get(key, _MOST_BYTES)), _MOST_BYTES)
            rest = b""
            async for piece in spool.pieces():
                *lines, rest = (rest + piece).split(b"\n")
                for start in range(0, len(lines), _PAGE):
                    yield await asyncio.to_thread(_records, lines[start : start + _PAGE])
            yield _records([rest])


async def _once(content: bytes) -> AsyncGenerator[bytes, None]:
    yield content


def _records(lines: Iterable[bytes]) -> list[LogRecord]:
    return [_record(line) for line in lines if line]


def _record(line: bytes) -> LogRecord:
    try:
        told = Line.model_validate_json(line)
    except ValidationError:
        # It lay in a store that may be a stranger's.
        told = Line(at=datetime.now(UTC), stream="system", text="a line of this log is not as it was stored")
    return LogRecord(timestamp=told.at, message=told.text, level=level_of(told.stream), stream=told.stream)
