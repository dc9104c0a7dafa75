"""Runs as clients see them, read from the rows at the moment of the question."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile

import asyncpg

from pupload.answers.runs import (
    ArtifactAnswer,
    FlowRun,
    LogRecord,
    NodeCounts,
    NodeState,
    RunError,
    RunEvent,
    RunPage,
    RunSummary,
    ToolCallAnswer,
    WaitingURL,
)
from pupload.answers.webhooks import RunReport
from pupload.config import ControllerConfig
from pupload.controller.gathering import Gathering
from pupload.controller.hooks import Hooks
from pupload.controller.service import Service
from pupload.controller.stores import Stores
from pupload.controller.turns import waits_for
from pupload.controller.uploads import Awaited, Uploads
from pupload.controller.workers import unservable
from pupload.db.pool import Connection
from pupload.db.runs import failure_of, no_such_run
from pupload.db.sql import SQL
from pupload.flow.plan import Edge, Plan
from pupload.run.state import NodeStatus, RunID, RunStatus, tries

LAST_LINES = 200
_LOG_BYTES = 8 * 1024**2
"""Of log lines in one answer: a run has thousands of nodes, and each may print lines of 16 KB."""
_QUEUED = {NodeStatus.READY.value, NodeStatus.RETRYING.value}


@dataclass(frozen=True, slots=True)
class _Rows:
    """Everything that is stored of one run."""

    header: asyncpg.Record
    plan: Plan
    nodes: Sequence[asyncpg.Record]
    artifacts: Sequence[asyncpg.Record]
    logs: Mapping[str, list[LogRecord]]
    pending: Mapping[str, str]
    calls: Mapping[str, list[ToolCallAnswer]]
    children: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Page:
    """Events that somebody wants to read."""

    run_id: RunID
    after: int
    limit: int


class Views:
    """Answers about runs."""

    def __init__(
        self, config: ControllerConfig, service: Service, stores: Stores, uploads: Uploads, hooks: Hooks
    ) -> None:
        self._config, self._service, self._stores, self._uploads = config, service, stores, uploads
        self._hooks = hooks
        self._reading = Gathering(self._pages, self._pages)

    async def run(self, run_id: RunID) -> FlowRun:
        """The run, whole, with upload URLs signed now.

        Errors: NotFound.
        """
        # One moment's: an answer that says COMPLETE also has the last artifact.
        rows = await self._service.database.read(lambda connection: self._rows(connection, run_id))
        awaited = await self._uploads.awaited_by(run_id) if rows.header["finished_at"] is None else []
        self._uploads.expect(awaited)
        echo = json.loads(rows.header["echo"])
        return FlowRun(
            **summary_of(rows.header),
            inputs=_inputs(rows),
            parameters=echo.get("Parameters", {}),
            overrides=echo.get("Overrides", {}),
            only_nodes=echo.get("OnlyNodes", []),
            definition=rows.header["digest"],
            node_state={row["node_id"]: _node_state(row, rows) for row in rows.nodes},
            artifacts={row["edge"]: _artifact(row) for row in rows.artifacts},
            waiting_urls=[await self._waiting_url(upload, rows.header["deadline"]) for upload in awaited],
            tool_calls=dict(rows.calls),
            counts=_counts(rows.header),
            deadline=rows.header["deadline"],
        )

    async def _rows(self, connection: Connection, run_id: RunID) -> _Rows:
        header = await connection.fetchrow(SQL["run_as_called"], run_id)
        if header is None:
            raise no_such_run(run_id)
        plan = await self._service.plans.get(connection, run_id)
        nodes = await connection.fetch(SQL["nodes_of_run"], run_id)
        artifacts = await connection.fetch(SQL["artifacts_of_run"], run_id)
        logs: dict[str, list[LogRecord]] = defaultdict(list)
        for row in await connection.fetch(SQL["last_lines"], run_id, LAST_LINES, _LOG_BYTES):
            logs[row["node_id"]].append(log_record(row))
        pending = await self._pending(connection, run_id, plan, nodes)
        calls = await _tool_calls(connection, run_id, nodes)
        children = await _children(connection, run_id, plan)
        return _Rows(header, plan, nodes, artifacts, logs, pending, calls, children)

    async def _pending(
        self, connection: Connection, run_id: RunID, plan: Plan, nodes: Sequence[asyncpg.Record]
    ) -> dict[str, str]:
        """Why nodes that are ready do not run, by node: only what needs somebody to act is found out."""
        ready = [plan.nodes[row["node_id"]] for row in nodes if row["status"] in _QUEUED]
        tier_of = {str(node.id): node.tier for node in ready if node.calls is None}
        if not tier_of:
            return {}
        reasons = await unservable(connection, {t.name: t for t in tier_of.values()}.values(), self._config.lease_s)
        held = await waits_for(connection, plan, run_id) if plan.session_id else ""
        waiting = {str(node.id): held for node in ready if held and node.session}
        return {
            node: waiting.get(node) or reasons.get(tier.name, "waiting for a worker with free capacity")
            for node, tier in tier_of.items()
        }

    async def _waiting_url(self, upload: Awaited, deadline: datetime) -> WaitingURL:
        artifact = ArtifactAnswer(store_name=upload.store, object_name=upload.key, edge_name=upload.edge, size=0)
        if upload.hooked:
            left_s = (deadline - datetime.now(UTC)).total_seconds()
            post_url = self._hooks.url(upload.run_id, upload.edge)
            return WaitingURL(artifact=artifact, put_url="", ttl=max(0, int(left_s)), post_url=post_url)
        store = await self._stores.of_run(upload.run_id, upload.store)
        ttl_s = self._config.upload_ttl_s
        return WaitingURL(
            artifact=artifact,
            put_url=store.sign_put(upload.key, ttl_s, public=True).url,
            ttl=int(ttl_s),
        )

    async def page(
        self,
        account: str | None,
        *,
        flow: str | None,
        status: Sequence[str] | None,
        session: str | None,
        cursor: str | None,
        limit: int,
    ) -> RunPage:
        """Runs of the account, None for all, newest first, after the one that `cursor` names."""
        async with self._service.database.connection() as connection:
            rows = await connection.fetch(SQL["list_runs"], flow, status, session, cursor, account, limit + 1)
        runs = [RunSummary(**summary_of(row)) for row in rows[:limit]]
        return RunPage(runs=runs, next_cursor=runs[-1].id if len(rows) > limit else "")

    async def report(self, run_id: RunID) -> RunReport:
        """The run as it is told to others.

        Errors: NotFound.
        """
        async with self._service.database.connection() as connection:
            header = await connection.fetchrow(SQL["run_header"], run_id)
            artifacts = await connection.fetch(SQL["artifacts_of_run"], run_id)
        if header is None:
            raise no_such_run(run_id)
        return RunReport(**summary_of(header), artifacts={row["edge"]: _artifact(row) for row in artifacts})

    async def events(self, run_id: RunID, after: int, limit: int) -> list[RunEvent]:
        """The run's events from number `after` + 1."""
        return await self._reading.ask(_Page(run_id, after, limit))

    async def _pages(self, pages: Sequence[_Page]) -> list[list[RunEvent]]:
        async with self._service.database.connection() as connection:
            rows = await connection.fetch(
                SQL["events_after"],
                [page.run_id for page in pages],
                [page.after for page in pages],
                [page.limit for page in pages],
            )
        events = defaultdict[str, dict[int, RunEvent]](dict)
        for row in rows:
            events[row["run_id"]][row["seq"]] = _event(RunID(row["run_id"]), row)
        return [_those_of(page, events[page.run_id]) for page in pages]

    async def has_ended(self, run_id: RunID) -> bool:
        """True when the run is over.

        Errors: NotFound.
        """
        async with self._service.database.connection() as connection:
            header = await connection.fetchrow(SQL["run_header"], run_id)
        if header is None:
            raise no_such_run(run_id)
        return header["finished_at"] is not None


def _those_of(page: _Page, events: Mapping[int, RunEvent]) -> list[RunEvent]:
    """Of what is known of the run; somebody else may have asked for other events of it."""
    numbers = takewhile(events.__contains__, range(page.after + 1, page.after + page.limit + 1))
    return [events[number] for number in numbers]


async def _children(connection: Connection, run_id: RunID, plan: Plan) -> dict[str, str]:
    """The newest run of each node that calls a flow; nobody is asked where none does."""
    if all(node.calls is None for node in plan.nodes.values()):
        return {}
    return {row["parent_node"]: row["id"] for row in await connection.fetch(SQL["children_of_run"], run_id)}


async def _tool_calls(
    connection: Connection, run_id: RunID, nodes: Sequence[asyncpg.Record]
) -> dict[str, list[ToolCallAnswer]]:
    """What waits for the client's answer, by node."""
    if not any(row["status"] == NodeStatus.WAITING.value for row in nodes):
        return {}
    rows = await connection.fetch(SQL["open_rounds"], run_id)
    return {row["node_id"]: [ToolCallAnswer.model_validate(call) for call in json.loads(row["calls"])] for row in rows}


def log_record(row: asyncpg.Record) -> LogRecord:
    """The log line that an event's row holds."""
    data = json.loads(row["data"])
    return LogRecord(
        timestamp=row["at"], message=data["Message"], level=data["Level"], stream=data["Stream"], fields=data["Fields"]
    )


def summary_of(row: asyncpg.Record) -> dict[str, object]:
    """What a list says of the run that a row holds."""
    failure = failure_of(row["failure"])
    return {
        "id": row["id"],
        "flow_name": row["flow_name"],
        "flow_version": row["flow_version"],
        "status": row["status"],
        "status_reason": row["status_reason"],
        "error": RunError(code=failure.code, message=failure.message, node_id=failure.node or "") if failure else None,
        "progress": _progress(row),
        "session_id": row["session_id"],
        "parent_run_id": row["parent_run"] or "",
        "root_run_id": row["root_run"] or row["id"],
        "replay_of": row["replay_of"],
        "created_at": row["created_at"],
        "started_at": row["started_at"],
        "finished_at": row["finished_at"],
        "duration_ms": _duration_ms(row),
    }


def _duration_ms(row: asyncpg.Record) -> int | None:
    if row["finished_at"] is None or row["started_at"] is None:
        return None
    took: timedelta = row["finished_at"] - row["started_at"]
    return round(took.total_seconds() * 1000)


def _inputs(rows: _Rows) -> dict[str, ArtifactAnswer]:
    """The objects that no node of the run's plan writes."""
    return {
        row["edge"]: _artifact(row) for row in rows.artifacts if rows.plan.edges[Edge(row["edge"])].producer is None
    }


def _counts(row: asyncpg.Record) -> NodeCounts:
    by_status: dict[str, int] = json.loads(row["counts"])
    total, skipped = sum(by_status.values()), by_status.get("SKIPPED", 0)
    executed = sum(by_status.get(status, 0) for status in ("COMPLETE", "ERROR", "STOPPED"))
    return NodeCounts(
        total=total,
        executed=executed,
        running=by_status.get("RUNNING", 0),
        remaining=total - executed - skipped,
        skipped=skipped,
    )


def _progress(row: asyncpg.Record) -> float:
    """Percent of the nodes that are through; 100 is kept for COMPLETE."""
    if row["status"] == RunStatus.COMPLETE.value:
        return 100.0
    counts = _counts(row)
    return min(99.0, round(100 * (counts.executed + counts.skipped) / max(1, counts.total), 1))


def _node_state(row: asyncpg.Record, rows: _Rows) -> NodeState:
    return NodeState(
        status=row["status"],
        logs=rows.logs.get(row["node_id"], []),
        error=row["error"],
        reason=row["reason"] or "",
        attempt=tries(row["attempt"], row["rounds"], row["asked"]),
        max_attempts=rows.plan.nodes[row["node_id"]].max_attempts,
        progress=row["progress"],
        pending_reason=rows.pending.get(row["node_id"], ""),
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        exit_code=row["exit_code"],
        worker=row["worker"],
        tool_rounds=row["rounds"],
        child_run_id=rows.children.get(row["node_id"], ""),
    )


def _artifact(row: asyncpg.Record) -> ArtifactAnswer:
    return ArtifactAnswer(
        store_name=row["store"],
        object_name=row["key"],
        edge_name=row["edge"],
        size=row["size_bytes"],
        content_type=row["content_type"],
        sha256=row["sha256"],
    )


def _event(run_id: RunID, row: asyncpg.Record) -> RunEvent:
    return RunEvent(
        seq=row["seq"],
        type=row["type"],
        run_id=run_id,
        node_id=row["node_id"] or "",
        time=row["at"],
        data=json.loads(row["data"]),
    )
