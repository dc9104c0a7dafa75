"""What became of each attempt of a run: when, where, how it ended, and with a trace wanted, what it read and wrote."""

import json
from collections.abc import Mapping
from datetime import datetime

import asyncpg

from pupload.answers.traces import AttemptTrace, RunTrace, TextSnapshot, TraceContext
from pupload.controller.service import Service
from pupload.db.pool import Connection
from pupload.db.runs import no_such_run
from pupload.db.sql import SQL
from pupload.errors import InvalidRequest
from pupload.flow.plan import Plan
from pupload.protocol import Snapshot
from pupload.run.state import RunID

LATEST, ALL = "latest", "all"
_RUNNING = "running"
_MOST_DIGITS = 10

Queued = Mapping[tuple[str, int], datetime]


class Traces:
    """Answers about attempts."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def of(self, run_id: RunID, attempt: str, node: str | None) -> RunTrace:
        """The trace of the run's attempts that `attempt` picks: latest, all, or a number.

        Errors: NotFound; InvalidRequest.
        """
        number = number_of(attempt)
        # One moment's: the newest attempt is the node's newest.
        return await self._service.database.read(
            lambda connection: self._read(connection, run_id, node, number, latest=attempt == LATEST)
        )

    async def _read(
        self, connection: Connection, run_id: RunID, node: str | None, number: int | None, *, latest: bool
    ) -> RunTrace:
        header = await connection.fetchrow(SQL["run_header"], run_id)
        if header is None:
            raise no_such_run(run_id)
        plan = await self._service.plans.get(connection, run_id)
        rows = await connection.fetch(SQL["traced_attempts"], run_id, node, number, latest)
        queued = {
            (row["node_id"], row["attempt"]): row["at"]
            for row in await connection.fetch(SQL["queued_attempts"], run_id)
        }
        return RunTrace(
            run_id=run_id,
            flow_name=header["flow_name"],
            status=header["status"],
            traced=plan.trace,
            attempts=[_attempt(row, plan, queued) for row in rows],
        )


def number_of(attempt: str) -> int | None:
    """The number of the attempt that is picked; None for latest and all.

    Errors: InvalidRequest.
    """
    if attempt in {LATEST, ALL}:
        return None
    digits = attempt.isascii() and attempt.isdecimal() and len(attempt) <= _MOST_DIGITS
    if not digits or not 0 < int(attempt) < 2**31:
        raise InvalidRequest(f"attempt is {LATEST}, {ALL}, or a number from 1, not {attempt[:50]!r}")
    return int(attempt)


def _attempt(row: asyncpg.Record, plan: Plan, queued: Queued) -> AttemptTrace:
    return AttemptTrace(
        node_id=row["node_id"],
        attempt=row["attempt"],
        outcome=row["state"],
        reason=row["reason"] or "",
        message=row["message"],
        exit_code=row["exit_code"],
        queued_at=queued.get((row["node_id"], row["attempt"])),
        started_at=row["claimed_at"],
        finished_at=row["finished_at"],
        timings=json.loads(row["timings"]) if row["timings"] else {},
        image_digest=row["image_digest"],
        tier=row["tier"],
        worker=row["worker"],
        bytes_in=row["bytes_in"],
        bytes_out=row["bytes_out"],
        context=_context(row) if plan.trace and row["state"] != _RUNNING else None,
    )


def _context(row: asyncpg.Record) -> TraceContext:
    snapshots = [Snapshot.model_validate(each) for each in json.loads(row["snapshots"] or "[]")]
    return TraceContext(
        inputs=[_text(each) for each in snapshots if each.side == "input"],
        outputs=[_text(each) for each in snapshots if each.side == "output"],
    )


def _text(snapshot: Snapshot) -> TextSnapshot:
    return TextSnapshot(
        port=snapshot.port,
        edge=snapshot.edge,
        content_type=snapshot.content_type,
        size=snapshot.size_bytes,
        text=snapshot.text,
        truncated=snapshot.truncated,
    )
