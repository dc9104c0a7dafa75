"""Runs as rows: what `transition` needs, read under the run's lock, and what it answered, written back."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

import asyncpg

from pupload.db.pool import Connection
from pupload.db.room import NO_LIMIT, Room, hold_account, no_room
from pupload.db.sql import SQL
from pupload.errors import NotFound
from pupload.flow.plan import Edge, NodeID, Plan, Reason, dump_plan, load_plan
from pupload.run.commands import DispatchNode, Record, Step, StopAttempt
from pupload.run.scope import Scope
from pupload.run.state import Artifact, End, Failure, Node, NodeStatus, Run, RunID, status_of, status_reason

_MOST_COUNTED = 2**31 - 1


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


@dataclass(frozen=True, slots=True)
class Written:
    """What is to be written of a locked run: all that was changed since, and before that, what was `said`."""

    locked: LockedRun
    step: Step
    said: Sequence[tuple[Record, datetime]] = ()

    @property
    def records(self) -> list[tuple[Record, datetime]]:
        """Everything that the stream is told, in order."""
        return [*self.said, *((record, self.locked.now) for record in self.step.records)]


@dataclass(frozen=True, slots=True)
class NewUpload:
    """An object that is awaited from outside; a `hooked` one is posted to the server. Units: bytes."""

    edge: Edge
    store: str
    key: str
    max_size_bytes: int
    hooked: bool = False


@dataclass(frozen=True, slots=True)
class Caller:
    """The node attempt of another run that a run is made for."""

    run_id: RunID
    node: NodeID
    attempt: int


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run about to be stored. `secrets` are encrypted, by store name; `request_sha256` goes with the key.

    `documents` and `request` are the JSON of what was posted, without secrets; `echo` is the part of it that every
    answer repeats. `root` is the run that all of this began with, "" for the run itself. `intakes` is how many given
    inputs were stored for it, `attachments` are encrypted URLs by name, `room` is what the account may have.
    `images` are exact images by the names that mean them, where that is settled already. `counted_nodes` are those that
    take room, with the ones of runs that it will call; None for its own.
    """

    id: RunID
    plan: Plan
    timeout: timedelta
    uploads: Sequence[NewUpload]
    secrets: Mapping[str, bytes]
    session_id: str = ""
    session_is_new: bool = False
    idempotency_key: str | None = None
    request_sha256: bytes | None = None
    version: str = ""
    digest: str = ""
    documents: str = "{}"
    request: str = "{}"
    echo: str = "{}"
    caller: Caller | None = None
    root: str = ""
    replay_of: str = ""
    account: str = ""
    budget: float | None = None
    intakes: int = 0
    attachments: Mapping[str, bytes] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    room: Room = NO_LIMIT
    counted_nodes: int | None = None

    @property
    def weight(self) -> int:
        """How many nodes of room it takes."""
        return len(self.plan.nodes) if self.counted_nodes is None else min(self.counted_nodes, _MOST_COUNTED)


async def insert_run(connection: Connection, new: NewRun, run: Run) -> LockedRun | None:
    """The run stored and locked, every node as in `run`; None when its idempotency key is taken.

    Errors: TooMany.
    """
    if not await _insert_run(connection, new, new.room.at_ease(new.weight)) and not (
        new.room and await _insert_into_what_is_left(connection, new)
    ):
        return None
    if new.budget is not None:
        await connection.execute(SQL["set_budget"], new.id, Decimal(str(new.budget)))
    await connection.execute(
        SQL["insert_plan"], new.id, dump_plan(new.plan).decode(), new.documents, new.request, new.echo
    )
    nodes = list(run.nodes.values())
    await connection.execute(
        SQL["insert_nodes"],
        new.id,
        [node.id for node in nodes],
        [new.plan.nodes[node.id].position for node in nodes],
        [node.status.value for node in nodes],
        [node.unresolved for node in nodes],
    )
    await _insert_uploads(connection, new)
    if new.secrets:
        await connection.execute(SQL["insert_store_secrets"], new.id, list(new.secrets), list(new.secrets.values()))
    if new.images:
        await connection.execute(SQL["insert_images"], new.id, list(new.images), list(new.images.values()))
    return await lock_run(connection, new.id)


async def _insert_into_what_is_left(connection: Connection, new: NewRun) -> bool:
    """As `_insert_run`, alone with the account. Errors: TooMany."""
    await hold_account(connection, new.account)
    if await _insert_run(connection, new, new.room):
        return True
    if new.idempotency_key and await connection.fetchrow(SQL["find_idempotent"], new.idempotency_key):
        return False
    raise await no_room(connection, new.account, new.room, new.weight)


async def _insert_run(connection: Connection, new: NewRun, room: Room) -> bool:
    """True when the row is stored: there is room, and its idempotency key is not taken."""
    caller = new.caller
    now = await connection.fetchval(
        SQL["insert_run"],
        new.id,
        new.plan.name,
        new.version,
        new.digest or new.plan.digest,
        new.session_id,
        new.timeout,
        new.idempotency_key,
        new.request_sha256,
        *((caller.run_id, caller.node, caller.attempt) if caller else (None, None, None)),
        new.root or new.id,
        new.replay_of,
        new.account,
        new.weight,
        room.runs,
        room.nodes,
    )
    return now is not None


async def join_session(connection: Connection, new: NewRun) -> None:
    """Make the new run one of its session's, if it has any; after all rows of runs that it locks.

    Errors: NotFound for a session that is gone.
    """
    if not new.session_id:
        return
    if new.session_is_new:
        await connection.execute(SQL["add_session"], new.session_id, new.account, "{}", new.id)
    elif await connection.fetchval(SQL["use_session"], new.session_id) is None:
        raise no_such_session(new.session_id)


async def _insert_uploads(connection: Connection, new: NewRun) -> None:
    if new.uploads:
        await connection.execute(
            SQL["insert_uploads"],
            new.id,
            [upload.edge for upload in new.uploads],
            [upload.store for upload in new.uploads],
            [upload.key for upload in new.uploads],
            [upload.max_size_bytes for upload in new.uploads],
            [upload.hooked for upload in new.uploads],
        )


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


async def save(connection: Connection, all_written: Sequence[Written]) -> None:
    """Write what changed: nodes, artifacts, records, and last the runs themselves; each run at most once."""
    await _save_nodes(connection, [(each.locked.id, node) for each in all_written for node in each.step.changed])
    await _insert_artifacts(
        connection, [(each.locked.id, artifact) for each in all_written for artifact in each.step.artifacts]
    )
    await _insert_records(
        connection,
        [
            (each.locked.id, each.locked.row["last_seq"] + place, record, at)
            for each in all_written
            for place, (record, at) in enumerate(each.records, 1)
        ],
    )
    await _stop_attempts(
        connection,
        [
            (each.locked.id, command)
            for each in all_written
            for command in each.step.commands
            if isinstance(command, StopAttempt)
        ],
    )
    await _save_headers(connection, all_written)


def dispatches(step: Step) -> list[DispatchNode]:
    """The attempts that the step wants queued, in order."""
    return [command for command in step.commands if isinstance(command, DispatchNode)]


async def append_records(connection: Connection, run_id: RunID, records: Sequence[tuple[Record, datetime]]) -> None:
    """Append records that are no transitions, such as log lines, and tell the run's followers."""
    last_seq = await connection.fetchval(SQL["lock_sequence"], run_id, len(records))
    if last_seq is None:
        raise no_such_run(run_id)
    await _insert_records(
        connection, [(run_id, last_seq + place, record, at) for place, (record, at) in enumerate(records, 1)]
    )
    await connection.execute(SQL["notify_run"], run_id)


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


async def _insert_records(connection: Connection, numbered: Sequence[tuple[RunID, int, Record, datetime]]) -> None:
    if numbered:
        await connection.execute(
            SQL["insert_events"],
            [run_id for run_id, _, _, _ in numbered],
            [seq for _, seq, _, _ in numbered],
            [record.type.value for _, _, record, _ in numbered],
            [record.node for _, _, record, _ in numbered],
            [at for _, _, _, at in numbered],
            [json.dumps(record.data) for _, _, record, _ in numbered],
        )


async def _save_nodes(connection: Connection, changed: Sequence[tuple[RunID, Node]]) -> None:
    if changed:
        nodes = [node for _, node in changed]
        await connection.execute(
            SQL["save_nodes"],
            [run_id for run_id, _ in changed],
            [node.id for node in nodes],
            [node.status.value for node in nodes],
            [node.unresolved for node in nodes],
            [node.attempt for node in nodes],
            [node.charged for node in nodes],
            [node.restarts for node in nodes],
            [node.rounds for node in nodes],
            [node.asked for node in nodes],
            [node.error for node in nodes],
            [node.reason.value if node.reason else None for node in nodes],
            [node.exit_code for node in nodes],
            [node.worker for node in nodes],
            [node.started_at for node in nodes],
            [node.finished_at for node in nodes],
        )


async def _insert_artifacts(connection: Connection, made: Sequence[tuple[RunID, Artifact]]) -> None:
    if not made:
        return
    artifacts = [artifact for _, artifact in made]
    await connection.execute(
        SQL["insert_artifacts"],
        [run_id for run_id, _ in made],
        [artifact.edge for artifact in artifacts],
        [artifact.store for artifact in artifacts],
        [artifact.key for artifact in artifacts],
        [artifact.size_bytes for artifact in artifacts],
        [artifact.content_type for artifact in artifacts],
        [artifact.sha256 for artifact in artifacts],
        [artifact.etag for artifact in artifacts],
        [artifact.node for artifact in artifacts],
        [artifact.attempt for artifact in artifacts],
        [artifact.origin for artifact in artifacts],
    )
    if outside := [(run_id, artifact.edge) for run_id, artifact in made if artifact.node is None]:
        await connection.execute(
            SQL["settle_uploads"], [run_id for run_id, _ in outside], [edge for _, edge in outside]
        )


async def _stop_attempts(connection: Connection, stops: Sequence[tuple[RunID, StopAttempt]]) -> None:
    if stops:
        await connection.execute(
            SQL["stop_attempts"],
            [run_id for run_id, _ in stops],
            [stop.node for _, stop in stops],
            [stop.attempt for _, stop in stops],
            [stop.reason.value for _, stop in stops],
        )


async def _save_headers(connection: Connection, all_written: Sequence[Written]) -> None:
    runs = [each.step.run for each in all_written]
    if over := [run.id for run in runs if run.finished_at is not None]:
        await connection.execute(SQL["abandon_uploads"], over)
    await connection.execute(
        SQL["save_runs"],
        [run.id for run in runs],
        [status_of(run).value for run in runs],
        [status_reason(run) for run in runs],
        [json.dumps(dict(run.counts)) for run in runs],
        [run.end.value if run.end else None for run in runs],
        [_failure_document(run.failure) for run in runs],
        [each.locked.row["last_seq"] + len(each.records) for each in all_written],
        [run.started_at for run in runs],
        [run.finished_at for run in runs],
    )


def _failure_document(failure: Failure | None) -> str | None:
    return json.dumps([failure.code, failure.message, failure.node]) if failure else None


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
