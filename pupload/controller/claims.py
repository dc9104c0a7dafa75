"""What a worker asks for: a greeting, work, news. An attempt begins here, with a lease."""

import asyncio
import json
import logging
import time
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import random

import asyncpg

from pupload.controller.assignments import Assignments, TakenAttempt
from pupload.controller.gathering import AT_ONCE, Gathering, in_transactions
from pupload.controller.ground import Ground
from pupload.controller.leasing import Draining, Job, KnownWorker, Leasing, replaced
from pupload.controller.picking import Room, pick
from pupload.controller.secrets import token_digest
from pupload.controller.signals import QUEUE, worker_topic
from pupload.controller.waits import Waits
from pupload.db.pool import Connection, Database
from pupload.db.sql import SQL
from pupload.errors import PuploadError, Unauthorized
from pupload.failpoints import reach
from pupload.flow.plan import NodeID, Reason
from pupload.protocol import (
    Assignment,
    AttemptRef,
    Beat,
    BeatAnswer,
    Claim,
    Claimed,
    Hello,
    Outcome,
    StopOrder,
    Welcome,
)
from pupload.queue import next_due_s
from pupload.run.events import Event, NodeFailed, NodeReleased
from pupload.run.state import RunID

_LOG = logging.getLogger(__name__)
_LONGEST_HOLD_S = 30.0
_JUST_AFTER_S = 0.005
_KNOWN_S = 2.0
_WAITING = 10_000
"""Wishes in one turn: whoever waits is woken by every new attempt, and most of them find nothing."""


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a worker asks for."""

    worker: KnownWorker
    claim: Claim
    room: Room


@dataclass(slots=True)
class _Given:
    """What it gets. `again`: a further look may bring more, since some of what was found had moved on, or was too much
    for one turn."""

    taken: list[TakenAttempt]
    again: bool = False


class Claims:
    """Hands out attempts and keeps their leases."""

    def __init__(self, ground: Ground) -> None:
        self._config, self._service, self._signals, self._tiers = (
            ground.config,
            ground.service,
            ground.signals,
            ground.tiers,
        )
        self._assignments = Assignments(ground)
        self._leasing = Leasing(ground)
        self._giving = in_transactions(ground.database, self._give, _WAITING)
        self._asking_when = Gathering(self._next_due, self._next_due, _WAITING)
        self.waits = Waits()
        self._known: dict[bytes, tuple[float, KnownWorker]] = {}

    @property
    def _database(self) -> Database:
        return self._service.database

    async def know(self, token: str, turn: AbstractAsyncContextManager[object] | None = None) -> KnownWorker:
        """The worker with this token, looked for in its `turn`. One that was revoked elsewhere is believed for a moment
        yet.

        Errors: Unauthorized.
        """
        digest = token_digest(token)
        known = self._known.get(digest)
        if known is None or known[0] < time.monotonic():
            async with turn or nullcontext():
                known = self._known[digest] = (time.monotonic() + _KNOWN_S, await self._find(digest))
        return known[1]

    async def _find(self, digest: bytes) -> KnownWorker:
        self._known.pop(digest, None)
        async with self._database.connection() as connection:
            row = await connection.fetchrow(SQL["find_worker"], digest)
        if row is None:
            raise Unauthorized("this worker token is unknown or revoked; `pup worker-token add NAME` makes a new one")
        return KnownWorker(row["id"], row["name"])

    async def hello(self, worker: KnownWorker, hello: Hello) -> Welcome:
        """Greet a worker that starts; whatever an earlier instance of it held is lost, and noticed at once."""
        async with self._database.connection() as connection:
            await connection.execute(
                SQL["greet_worker"],
                worker.id,
                hello.instance,
                hello.version,
                hello.engine,
                hello.architecture,
                json.dumps(hello.wire()["Capacity"]),
            )
        config = self._config
        return Welcome(worker_id=worker.id, beat_s=config.beat_s, fence_s=config.fence_s, lease_s=config.lease_s)

    async def fill(self, worker: KnownWorker, claim: Claim) -> list[Assignment]:
        """Up to `most` attempts that fit into what is free, without waiting.

        Errors: Conflict when another instance of the worker has started; Draining.
        """
        taken = list[TakenAttempt]()
        try:
            await self._take(worker, claim, taken)
            if taken:
                await reach("claim.committed")
            found = [await self._answerable(each) for each in taken]
        except BaseException:
            # Whoever asked has hung up, or gets an error: nobody will ever hear of these attempts.
            await self._hand_back(taken)
            raise
        if taken:
            await reach("claim.answering")
        return [assignment for assignment in found if assignment is not None]

    async def follow_up(self, worker: KnownWorker, claim: Claim) -> list[Assignment]:
        """As `fill`, in an answer that says something else first, which no failure here may hide."""
        try:
            return await self.fill(worker, claim)
        except Draining:
            return []
        except PuploadError as error:
            _LOG.warning("no further work for worker %s: %s", worker.name, error)
            return []

    async def claim(self, worker: KnownWorker, claim: Claim) -> Claimed:
        """Up to `most` attempts that fit into what is free, waiting for the first one as long as `wait_s`."""
        deadline = time.monotonic() + min(claim.wait_s, _LONGEST_HOLD_S)
        if claim.recalls:
            self.waits.recall(claim.instance)
        with self._signals.listen(QUEUE) as heard, self.waits.holding(claim.instance, heard) as wait:
            while True:
                try:
                    assignments = await self.fill(worker, claim)
                except Draining:
                    # Others may have looked while we held what was not for us.
                    self._signals.call(QUEUE)
                    return Claimed(assignments=[])
                left_s = deadline - time.monotonic()
                if assignments or left_s <= 0:
                    return Claimed(assignments=assignments)
                await self._signals.wait(heard, min(left_s, await self._asking_when.ask(worker)))
                if wait.recalled:
                    return Claimed(assignments=[])

    async def _next_due(self, asking: Sequence[KnownWorker]) -> list[float]:
        """Seconds until the next delayed attempt may be taken, told to all."""
        async with self._database.connection() as connection:
            due_s = await next_due_s(connection, self._tiers)
        return [_LONGEST_HOLD_S if due_s is None else due_s + _JUST_AFTER_S for _ in asking]

    async def _take(self, worker: KnownWorker, claim: Claim, taken: list[TakenAttempt]) -> None:
        """Add to `taken` what the worker gets; what is there is the worker's, also when this is cut off."""
        room = Room(claim.free, claim.most)
        while any(room.has(tier) for tier in self._tiers.values()):
            given = await _undivided(self._giving.ask(_Wish(worker, claim, room)), taken)
            if not given.again:
                break
            for each in given.taken:
                room = room.less(each.node.tier)

    async def _give(self, connection: Connection, wishes: Sequence[_Wish]) -> list[_Given]:
        """What each gets of the queue; jobs of nodes that have moved on are dropped on the way."""
        picked = await pick(connection, self._tiers, [wish.room for wish in wishes], AT_ONCE)
        jobs = [Job(queued, wishes[place].worker, wishes[place].claim) for place, queued in picked]
        begun = await self._leasing.begin(connection, jobs)
        if any(begun):
            await reach("claim.before_commit")
        given = [_Given([], again=len(picked) == AT_ONCE) for _ in wishes]
        for (place, _), one in zip(picked, begun, strict=True):
            if one is None:
                given[place].again = True
            else:
                given[place].taken.append(one)
        return given

    async def _answerable(self, taken: TakenAttempt) -> Assignment | None:
        """What the worker is to do; None, and a failed attempt that says why, when that cannot be put together."""
        try:
            return await self._assignments.of(taken)
        except Exception as error:  # noqa: BLE001 - see below
            # Whatever it is, it must end: the attempt would come back for ever, and be in the way of all others.
            message = f"the attempt could not be handed out: {error}"
            _LOG.warning("attempt %d of node %s in run %s: %s", *_named(taken.ref), message, exc_info=error)
            await self._end(taken.ref, Reason.INFRA, message)
            return None

    async def _hand_back(self, taken: Iterable[TakenAttempt]) -> None:
        for each in taken:
            try:
                await self._end(each.ref, None, "its worker never heard of it")
            except PuploadError as error:
                # The lease ends by itself.
                _LOG.info("attempt %d of node %s in run %s is not handed back: %s", *_named(each.ref), error)

    async def _end(self, ref: AttemptRef, reason: Reason | None, message: str) -> None:
        """End an attempt that no worker has heard of: failed for `reason`, or released if there is none."""
        node, state = NodeID(ref.node_id), Outcome.FAILED if reason else Outcome.RELEASED

        def event(at: datetime) -> Event:
            if reason is None:
                return NodeReleased(at, node, ref.attempt)
            return NodeFailed(at, node, ref.attempt, reason, message, jitter=random())  # noqa: S311 - spreads retries

        async def is_ours(connection: Connection) -> bool:
            return (
                await connection.fetchval(
                    SQL["hand_back_attempt"],
                    *(ref.run_id, ref.node_id, ref.attempt, ref.lease),
                    *(state.value, reason, message),
                )
                is not None
            )

        await self._service.apply(RunID(ref.run_id), event, guard=is_ours)

    async def beat(self, worker: KnownWorker, beat: Beat) -> BeatAnswer:
        """Leases extended at once; then held until there is news for the worker, at most `wait_s`."""
        deadline = time.monotonic() + min(beat.wait_s, self._config.beat_s)
        with self._signals.listen(worker_topic(worker.id)) as heard:
            answer = await self._extend(worker, beat)
            await reach("beat.extended")
            while True:
                left_s = deadline - time.monotonic()
                if answer.lost or answer.stop or left_s <= 0:
                    return answer
                await self._signals.wait(heard, left_s)
                answer = BeatAnswer(stop=await self._stop_orders(worker), lost=answer.lost)

    async def _extend(self, worker: KnownWorker, beat: Beat) -> BeatAnswer:
        async def extend(connection: Connection) -> list[asyncpg.Record]:
            heard = await connection.fetchval(
                SQL["hear_worker"], worker.id, beat.instance, json.dumps(beat.wire()["Free"]), beat.draining
            )
            if heard is None:
                raise replaced()
            return await connection.fetch(
                SQL["extend_leases"],
                [ref.run_id for ref in beat.attempts],
                [ref.node_id for ref in beat.attempts],
                [ref.attempt for ref in beat.attempts],
                [ref.lease for ref in beat.attempts],
                timedelta(seconds=self._config.lease_s),
            )

        rows = await self._database.transact(extend)
        held = {row["lease"] for row in rows}
        return BeatAnswer(
            stop=[_stop_order(row) for row in rows if row["stop"]],
            lost=[ref for ref in beat.attempts if ref.lease not in held],
        )

    async def _stop_orders(self, worker: KnownWorker) -> list[StopOrder]:
        async with self._database.connection() as connection:
            return [_stop_order(row) for row in await connection.fetch(SQL["stopping_attempts"], worker.id)]


async def _undivided(asking: Coroutine[None, None, _Given], taken: list[TakenAttempt]) -> _Given:
    """What was given, which is added to `taken` even if the caller is cancelled meanwhile.

    A transaction that is cut off in its commit may have been committed all the same.
    """
    one = asyncio.create_task(asking)
    try:
        await asyncio.shield(one)
    finally:
        given = await one
        taken += given.taken
    return given


def _named(ref: AttemptRef) -> tuple[int, str, str]:
    return ref.attempt, ref.node_id, ref.run_id


def _stop_order(row: asyncpg.Record) -> StopOrder:
    ref = AttemptRef(run_id=row["run_id"], node_id=row["node_id"], attempt=row["attempt"], lease=row["lease"])
    return StopOrder(ref=ref, reason=Reason(row["stop"]))
