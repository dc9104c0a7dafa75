"""The queue of attempts, and of what controllers do themselves: PgQueuer's `Queries` layer behind a few functions.

Every function works on the caller's connection, so a job is queued and taken in the very transaction that changes the
run. An entrypoint is a tier, or a kind of chore; the payload names run, node and attempt and nothing else. A job ends
at the claim: from then on the attempt's lease is the only truth (docs/adr/0004). A chore only makes quicker what a
look finds as well (controller/chores.py).
"""

import json
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

import asyncpg
from pgqueuer.models import Job
from pgqueuer.queries import EntrypointExecutionParameter, Queries
from pgqueuer.types import QueueEntrypoint, QueueManagerId

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy

CHANNEL = "ch_pgqueuer"
"""PgQueuer notifies here whenever the queue changes; the payload names the operation."""
CHORE_CHANNEL = "pupload_chore"
"""Notified when there is something for controllers to do; who only queues attempts does not wake them."""


class ChoreKind(StrEnum):
    """What a controller does itself, soon. No tier can be called so."""

    CALL = "chore:call"
    """Start the run of a node that calls a flow; queued and withdrawn as the node's attempt."""
    STOP = "chore:stop"
    ENDED = "chore:ended"
    EVALUATE = "chore:evaluate"


_DUE_TIERS = """
SELECT tier FROM unnest($1::text[]) AS tier
CROSS JOIN LATERAL (
    SELECT id FROM pgqueuer WHERE entrypoint = tier AND status = 'queued' AND execute_after < now()
    ORDER BY priority DESC, id LIMIT 1
) AS first
ORDER BY first.id
"""
"""PgQueuer's own statements do not part tiers."""

_WITHDRAW = """
DELETE FROM pgqueuer WHERE id IN (
    SELECT id FROM pgqueuer WHERE dedupe_key = ANY($1) AND status = 'queued' FOR UPDATE SKIP LOCKED
)
"""
"""SKIP LOCKED: who takes a job waits for its run, which the caller holds."""

_NO_LIMIT = EntrypointExecutionParameter(concurrency_limit=0)
_NEVER = timedelta(days=3650)
_CLAIMER = QueueManagerId(uuid.uuid4())


@dataclass(frozen=True, slots=True)
class QueuedAttempt:
    """An attempt that waits for a worker of its tier, or for a controller. Units: `delay_s` seconds before it may be
    claimed."""

    run_id: str
    node_id: str
    attempt: int
    tier: str
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Chore:
    """Something to do about a run, or about one attempt of it."""

    kind: ChoreKind
    run_id: str
    node_id: str = ""
    attempt: int = 0


async def enqueue_chores(connection: Connection, chores: Sequence[Chore]) -> None:
    """Queue the chores; one that is queued already is not queued again."""
    if not chores:
        return
    await _queries(connection).enqueue(
        [chore.kind.value for chore in chores],
        [json.dumps([chore.run_id, chore.node_id, chore.attempt]).encode() for chore in chores],
        [0] * len(chores),
        dedupe_key=[f"{chore.kind}/{chore.run_id}/{chore.node_id}/{chore.attempt}" for chore in chores],
        on_conflict="skip",
    )


async def call_controllers(connection: Connection) -> None:
    """Tell the controllers, at the commit, that there are chores."""
    await connection.execute("SELECT pg_notify($1, '')", CHORE_CHANNEL)


async def take_chore(connection: Connection) -> Chore | None:
    """The next chore, gone from the queue when the transaction commits."""
    taken = await take(connection, await due_tiers(connection, [kind.value for kind in ChoreKind]))
    return Chore(ChoreKind(taken.tier), taken.run_id, taken.node_id, taken.attempt) if taken else None


async def enqueue(connection: Connection, attempts: Sequence[QueuedAttempt]) -> None:
    """Queue the attempts in their order; one that is queued already stays as it is."""
    if not attempts:
        return
    await _queries(connection).enqueue(
        [attempt.tier for attempt in attempts],
        [_payload(attempt) for attempt in attempts],
        [0] * len(attempts),
        execute_after=[timedelta(seconds=attempt.delay_s) for attempt in attempts],
        dedupe_key=[f"{attempt.run_id}/{attempt.node_id}/{attempt.attempt}" for attempt in attempts],
        # Under "raise" a duplicate would poison the whole transaction.
        on_conflict="skip",
    )


async def withdraw(connection: Connection, attempts: Iterable[tuple[str, str, int]]) -> None:
    """Take attempts, each a run, a node and a number, out of the queue; one that is being taken is left alone."""
    if keys := [f"{run_id}/{node_id}/{attempt}" for run_id, node_id, attempt in attempts]:
        await connection.execute(_WITHDRAW, keys)


async def due_tiers(connection: Connection, tiers: Collection[str]) -> list[str]:
    """Those of the tiers that have an attempt which may be taken now, that with the oldest first."""
    return [row["tier"] for row in await connection.fetch(_DUE_TIERS, list(tiers))]


async def take(connection: Connection, tiers: Iterable[str]) -> QueuedAttempt | None:
    """The next attempt of the first of the tiers that has one, gone from the queue when the transaction commits."""
    # One tier at a time: asked for all at once, PgQueuer locks the first job of each until this transaction ends, and
    # whoever looks meanwhile finds nothing, and is not called again.
    for tier in tiers:
        jobs = await _queries(connection).dequeue(
            batch_size=1,
            entrypoints={QueueEntrypoint(tier): _NO_LIMIT},
            queue_manager_id=_CLAIMER,
            global_concurrency_limit=None,
            heartbeat_timeout=_NEVER,
        )
        if jobs:
            await _queries(connection).log_jobs([(jobs[0], "successful", None)])
            return _attempt(jobs[0])
    return None


async def next_due_s(connection: Connection, tiers: Collection[str]) -> float | None:
    """Seconds until the first delayed attempt of the tiers may be taken, of which nothing will tell; None for none."""
    eta = await _queries(connection).next_deferred_eta([QueueEntrypoint(tier) for tier in tiers])
    return None if eta is None else max(0.0, eta.total_seconds())


async def forget_history(connection: Connection, tiers: Collection[str]) -> None:
    """Drop PgQueuer's own log of past jobs: the attempts table says more."""
    await _queries(connection).clear_queue_log(list(tiers))


def _queries(connection: Connection) -> Queries:
    return Queries.from_asyncpg_connection(connection)  # type: ignore[arg-type]  # a pool's proxy is a connection


def _payload(attempt: QueuedAttempt) -> bytes:
    return json.dumps([attempt.run_id, attempt.node_id, attempt.attempt]).encode()


def _attempt(job: Job) -> QueuedAttempt:
    run_id, node_id, attempt = json.loads(job.payload or b"[]")
    return QueuedAttempt(run_id, node_id, attempt, job.entrypoint)
