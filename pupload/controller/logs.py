"""The whole log of a node: from the events, or from the store for attempts that wrote more than is kept there."""

import json

from pupload.answers.runs import LogRecord
from pupload.controller.service import Service
from pupload.controller.stores import Stores
from pupload.controller.views import log_record
from pupload.db.runs import no_such_run
from pupload.db.sql import SQL
from pupload.errors import NotFound
from pupload.flow.plan import DEFAULT_STORE
from pupload.protocol import Line, level_of
from pupload.run.state import RunID

_MOST_LINES = 1_000_000
_MOST_BYTES = 64 * 1024**2


class NodeLogs:
    """Reads logs."""

    def __init__(self, service: Service, stores: Stores) -> None:
        self._service, self._stores = service, stores

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

    async def whole(self, run_id: RunID, node: str) -> list[LogRecord]:
        """Every line of every attempt, in order."""
        async with self._service.database.connection() as connection:
            rows = await connection.fetch(SQL["log_events"], run_id, node, 0, _MOST_LINES)
            kept = await connection.fetch(SQL["logs_of_attempts"], run_id, node)
        by_attempt: dict[int, list[LogRecord]] = {}
        for row in rows:
            by_attempt.setdefault(json.loads(row["data"])["Attempt"], []).append(log_record(row))
        for row in kept:
            by_attempt[row["attempt"]] = await self._stored(run_id, row["log_key"])
        return [record for attempt in sorted(by_attempt) for record in by_attempt[attempt]]

    async def _stored(self, run_id: RunID, key: str) -> list[LogRecord]:
        store = await self._stores.of_run(run_id, DEFAULT_STORE)
        lines = (await store.get(key, _MOST_BYTES)).splitlines()
        return [_record(Line.model_validate_json(line)) for line in lines]


def _record(line: Line) -> LogRecord:
    return LogRecord(timestamp=line.at, message=line.text, level=level_of(line.stream), stream=line.stream)
