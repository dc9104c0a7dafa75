"""Runs as rows: what `transition` needs, read under the run's lock. What it answers goes back by `writing.py`."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from pupload.db.pool import Connection
from pupload.db.sql import SQL
from pupload.errors import NotFound
from pupload.flow.plan import Edge, NodeID, Plan, Reason, load_plan
from pupload.run.scope import Scope
from pupload.run.state import Artifact, End, Failure, Node, NodeStatus, Run, RunID


@dataclass(frozen=True, slots=True)
class LockedRun:
    """A run's own row under its lock. `now` is the transaction's time, by the database's clock."""

    id: RunID
    now: datetime
    row: asyncpg.Record


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be read of a locked run: the nodes of `scope`; `present` goes into the run as it is."""

    locked: LockedRun
    plan: Plan
    scope: Scope
    present: frozenset[Edge] = frozenset()


async def lock_run(connection: Connection, run_id: RunID) -> LockedRun:
    """The run's row, held until the transaction ends.

    Errors: NotFound.
    """
    locked = await lock_runs(connection, [run_id])
    if not locked:
        raise no_such_run(run_id)
    return locked[run_id]


async def lock_runs(connection: Connection, run_ids: Collection[RunID]) -> dict[RunID, LockedRun]:
    """The rows of these runs, as far as they are there, held until the transaction ends.

    Lock all that a transaction needs at once: two that lock one after the other wait for each other.
    """
    rows = await connection.fetch(SQL["lock_runs"], list(run_ids))
    return {RunID(row["id"]): LockedRun(RunID(row["id"]), row["now"], row) for row in rows}


async def load_runs(connection: Connection, wanted: Sequence[Wanted]) -> dict[RunID, Run]:
    """The locked runs, each with the nodes of its scope."""
    named = [(each.locked.id, node) for each in wanted for node in each.scope.nodes]
    rows = await connection.fetch(
        SQL["load_nodes"],
        [run_id for run_id, _ in named],
        [node for _, node in named],
        [each.locked.id for each in wanted if each.scope.stoppable],
    )
    nodes: dict[str, dict[NodeID, Node]] = {each.locked.id: {} for each in wanted}
    for row in rows:
        nodes[row["run_id"]][NodeID(row["node_id"])] = _node(row)
    return {each.locked.id: _run(each, nodes[each.locked.id]) for each in wanted}


def _run(wanted: Wanted, nodes: Mapping[NodeID, Node]) -> Run:
    row = wanted.locked.row
    return Run(
        id=wanted.locked.id,
        plan=wanted.plan,
        counts={NodeStatus(status): count for status, count in json.loads(row["counts"]).items()},
        nodes=nodes,
        present=wanted.present,
        end=End(row["ending"]) if row["ending"] else None,
        failure=failure_of(row["failure"]),
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        called=row["parent_run"] is not None,
    )


async def fetch_plan(connection: Connection, run_id: RunID) -> Plan:
    """The run's plan, which never changes.

    Errors: NotFound.
    """
    document = await connection.fetchval(SQL["load_plan"], run_id)
    if document is None:
        raise no_such_run(run_id)
    return load_plan(document)


def no_such_run(run_id: str) -> NotFound:
    """The error for a run that is not, or no longer, there."""
    return NotFound(f"there is no run {run_id!r}", code="RUN_NOT_FOUND")


def no_such_session(session_id: str) -> NotFound:
    """The error for a session that is not, or no longer, there."""
    return NotFound(f"there is no session {session_id!r}; leave out SessionID to begin one", code="SESSION_NOT_FOUND")


def failure_of(document: str | None) -> Failure | None:
    """The failure that a run's row holds as JSON."""
    if document is None:
        return None
    code, message, node = json.loads(document)
    return Failure(code, message, node)


def artifact_of(row: asyncpg.Record) -> Artifact:
    """The artifact that a row holds."""
    return Artifact(
        edge=Edge(row["edge"]),
        store=row["store"],
        key=row["key"],
        size_bytes=row["size_bytes"],
        content_type=row["content_type"],
        sha256=row["sha256"],
        etag=row["etag"],
        node=row["node_id"],
        attempt=row["attempt"],
        origin=row["origin"],
    )


def _node(row: asyncpg.Record) -> Node:
    return Node(
        id=NodeID(row["node_id"]),
        status=NodeStatus(row["status"]),
        unresolved=row["unresolved"],
        attempt=row["attempt"],
        charged=row["charged"],
        restarts=row["restarts"],
        rounds=row["rounds"],
        asked=row["asked"],
        error=row["error"],
        reason=Reason(row["reason"]) if row["reason"] else None,
        exit_code=row["exit_code"],
        worker=row["worker"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
    )
