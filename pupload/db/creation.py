"""A run about to be stored, and how it becomes rows, all of them in the transaction that makes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal

from pupload.db.pool import Connection
from pupload.db.room import NO_LIMIT, Room, hold_account, no_room
from pupload.db.runs import LockedRun, lock_run, no_such_session
from pupload.db.sql import SQL
from pupload.flow.plan import Edge, NodeID, Plan, dump_plan
from pupload.run.state import Run, RunID

_MOST_COUNTED = 2**31 - 1


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
