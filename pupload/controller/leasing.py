"""Attempts that begin: many at once, each with a lease for the worker that is to have it."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from pupload.controller.assignments import TakenAttempt
from pupload.controller.ground import Ground
from pupload.controller.objects import inputs_of_all
from pupload.controller.service import Due
from pupload.controller.tools import going, state_folder
from pupload.controller.turns import WAIT_S, Turn, lent, turn_of
from pupload.db.pool import Connection
from pupload.db.runs import LockedRun, lock_run, lock_runs
from pupload.db.sql import SQL
from pupload.errors import Conflict
from pupload.failpoints import reach
from pupload.flow.plan import NodeID, NodePlan, Plan
from pupload.protocol import AttemptRef, Claim
from pupload.queue import QueuedAttempt, enqueue
from pupload.run.commands import Step
from pupload.run.events import NodeClaimed
from pupload.run.state import RunID, tries


@dataclass(frozen=True, slots=True)
class KnownWorker:
    """Who a token belongs to."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Job:
    """An attempt out of the queue, and who gets it for which claim."""

    queued: QueuedAttempt
    worker: KnownWorker
    claim: Claim


@dataclass(frozen=True, slots=True)
class _Start:
    """A job whose run is there, and locked."""

    job: Job
    locked: LockedRun
    plan: Plan
    turn: Turn | None
    ref: AttemptRef

    @property
    def node(self) -> NodePlan:
        """What is to be attempted."""
        return self.plan.nodes[NodeID(self.ref.node_id)]

    @property
    def due(self) -> Due:
        """The event that it is."""
        event = NodeClaimed(self.locked.now, self.node.id, self.ref.attempt, self.job.worker.name)
        return Due(self.locked, self.plan, event)


class Draining(Exception):
    """Whoever claims takes no more work; the attempt stays for others."""


class Leasing:
    """Begins attempts."""

    def __init__(self, ground: Ground) -> None:
        self._config, self._service = ground.config, ground.service

    async def begin(self, connection: Connection, jobs: Sequence[Job]) -> list[TakenAttempt | None]:
        """The attempt of each job, begun and leased; None where its run wants it no more, or not yet.

        Errors: Conflict when another instance of one of the workers has started; Draining when one of them drains.
        """
        if not jobs:
            return []
        locked = await lock_runs(connection, {RunID(job.queued.run_id) for job in jobs})
        starts = [
            await self._start(connection, job, locked[RunID(job.queued.run_id)])
            for job in jobs
            if job.queued.run_id in locked
        ]
        together = [start for start in starts if start.turn is None]
        begun = await self._lease(connection, together) if together else {}
        for start in starts:
            # One by one: whoever is seated is in the way of the next, and the run is another after each.
            if start.turn is not None and await self._has_come(connection, start, start.turn):
                begun |= await self._lease(
                    connection, [replace(start, locked=await lock_run(connection, start.locked.id))]
                )
        by_job = {id(start.job): begun.get(start.ref.lease) for start in starts}
        return [by_job.get(id(job)) for job in jobs]

    async def _start(self, connection: Connection, job: Job, locked: LockedRun) -> _Start:
        plan = await self._service.plans.get(connection, locked.id)
        queued = job.queued
        ref = AttemptRef(
            run_id=queued.run_id, node_id=queued.node_id, attempt=queued.attempt, lease=secrets.token_hex(16)
        )
        return _Start(job, locked, plan, turn_of(plan, locked.id, plan.nodes[NodeID(queued.node_id)]), ref)

    async def _has_come(self, connection: Connection, start: _Start, turn: Turn) -> bool:
        if await turn.has_come(connection):
            return True
        # Others' attempts are looked at meanwhile.
        await enqueue(connection, [replace(start.job.queued, delay_s=WAIT_S)])
        return False

    async def _lease(self, connection: Connection, starts: Sequence[_Start]) -> dict[str, TakenAttempt]:
        """Those that are not stale, by lease."""
        steps = await self._service.apply_all_in(connection, [start.due for start in starts])
        wanted = [(start, step) for start, step in zip(starts, steps, strict=True) if not step.stale]
        exact = await self._insert(connection, [start for start, _ in wanted]) if wanted else {}
        inputs = await inputs_of_all(connection, [(start.ref.run_id, start.node) for start, _ in wanted])
        taken = {}
        for start, step in wanted:
            one = await self._taken(connection, start, step)
            ref = start.ref
            taken[ref.lease] = replace(one, inputs=inputs.get(ref.run_id, {}), exact=exact[ref.lease])
        return taken

    async def _insert(self, connection: Connection, starts: Sequence[_Start]) -> dict[str, str]:
        rows = await connection.fetch(
            SQL["insert_attempts"],
            timedelta(seconds=self._config.lease_s),
            [start.ref.run_id for start in starts],
            [start.ref.node_id for start in starts],
            [start.ref.attempt for start in starts],
            [start.ref.lease for start in starts],
            [start.job.worker.id for start in starts],
            [start.job.claim.instance for start in starts],
            [start.node.tier.name for start in starts],
            [start.node.image for start in starts],
            [start.job.claim.images.get(start.node.image, "") for start in starts],
        )
        if len(rows) < len(starts):
            raise await self._refusal(connection, [start.job for start in starts])
        return {row["lease"]: row["exact"] for row in rows}

    @staticmethod
    async def _refusal(connection: Connection, jobs: Sequence[Job]) -> Exception:
        ids, instances = [job.worker.id for job in jobs], [job.claim.instance for job in jobs]
        return Draining() if await connection.fetchval(SQL["any_drains"], ids, instances) else replaced()

    async def _taken(self, connection: Connection, start: _Start, step: Step) -> TakenAttempt:
        begun = step.run.nodes[start.node.id]
        goes_on = await going(connection, start.ref, begun.rounds)
        taken = TakenAttempt(
            start.plan,
            start.node,
            start.ref,
            {},
            folders=state_folder(start.node, goes_on, self._config),
            goes_on=goes_on,
            counts_as=tries(begun.attempt, begun.rounds, begun.asked),
        )
        return await self._seated(connection, taken, start.turn) if start.turn else taken

    async def _seated(self, connection: Connection, taken: TakenAttempt, turn: Turn) -> TakenAttempt:
        seat = await turn.sit(connection, taken.ref)
        await reach("session.seated")
        return replace(taken, seat=seat, folders=(*taken.folders, lent(seat, self._config))) if seat else taken


def replaced() -> Conflict:
    """The error for a worker that was started anew elsewhere."""
    return Conflict("another instance of this worker has started; this one must end", code="REPLACED")
