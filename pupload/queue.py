"""The queue of attempts, and of what controllers do themselves: PgQueuer's table behind a few functions.

Every function works on the caller's connection, so a job is queued and taken in the very transaction that changes the
run. An entrypoint is a tier, or a kind of chore; the payload names run, node and attempt and nothing else. A job ends
at the claim: from then on the attempt's lease is the only truth (docs/adr/0004). A chore only makes quicker what a
look finds as well (controller/chores.py).
"""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from operator import itemgetter

import asyncpg
from pgqueuer.queries import Queries
from pgqueuer.types import QueueEntrypoint

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


_DUE = """
SELECT id, tier FROM unnest($1::text[]) AS tier
CROSS JOIN LATERAL (
    SELECT id FROM pgqueuer WHERE entrypoint = tier AND status = 'queued' AND execute_after < now()
    ORDER BY priority DESC, id LIMIT $2
) AS first
ORDER BY id LIMIT $2
"""

_TAKE = """
DELETE FROM pgqueuer WHERE id = ANY (ARRAY(
    SELECT id FROM pgqueuer WHERE entrypoint = $1 AND status = 'queued' AND execute_after < now()
    ORDER BY priority DESC, id LIMIT $2 FOR UPDATE SKIP LOCKED
))
RETURNING id, entrypoint, payload
"""
"""PgQueuer's own statement keeps the job, and asks for much that we have no use for: see docs/adr/0004."""

_WITHDRAW = """
DELETE FROM pgqueuer WHERE id IN (
    SELECT id FROM pgqueuer WHERE dedupe_key = ANY($1) AND status = 'queued' FOR UPDATE SKIP LOCKED
)
"""
"""SKIP LOCKED: who takes a job waits for its run, which the caller holds."""


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
    for kind in await due_tiers(connection, [kind.value for kind in ChoreKind], 1):
        for taken in await take(connection, kind, 1):
            return Chore(ChoreKind(taken.tier), taken.run_id, taken.node_id, taken.attempt)
    return None


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


async def due_tiers(connection: Connection, tiers: Collection[str], most: int) -> list[str]:
    """The tier of each of the oldest attempts that may be taken now, oldest first; up to `most` of them."""
    return [row["tier"] for row in await connection.fetch(_DUE, list(tiers), most)]


async def take(connection: Connection, tier: str, most: int) -> list[QueuedAttempt]:
    """The tier's next attempts that nobody else is taking, oldest first, gone from the queue when the transaction
    commits."""
    # Those and no more: whoever looks meanwhile does not see what is locked here, and is not called again.
    rows = await connection.fetch(_TAKE, tier, most)
    return [_attempt(row) for row in sorted(rows, key=itemgetter("id"))]


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


def _attempt(row: asyncpg.Record) -> QueuedAttempt:
    run_id, node_id, attempt = json.loads(row["payload"])
    return QueuedAttempt(run_id, node_id, attempt, row["entrypoint"])
