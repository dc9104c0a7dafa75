"""The one transaction: lock the run, ask `transition`, write what changed, queue what is to be done, commit.

Everything that changes a run goes through `Service.apply`. Nothing outward happens here but rows: a worker learns of
its work from the queue, of a stop from its attempt's row, a client of the rest from the events.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from pupload.controller.fencing import lost_lease
from pupload.controller.plans import PlanCache
from pupload.db.creation import NewRun, insert_run, join_session
from pupload.db.files import take_over
from pupload.db.origins import hold_origins
from pupload.db.pool import Connection, Database
from pupload.db.runs import LockedRun, Wanted, load_runs, lock_run
from pupload.db.sql import SQL
from pupload.db.writing import Written, dispatches, save
from pupload.errors import Conflict
from pupload.failpoints import reach
from pupload.flow.plan import Edge, NodeID, NodePlan, Plan
from pupload.queue import ChoreKind, QueuedAttempt, enqueue, withdraw
from pupload.run.commands import Record, Step, joined
from pupload.run.events import Event, RunCancelled, RunCreated, UploadReceived
from pupload.run.scope import scope_of
from pupload.run.state import Artifact, NodeStatus, Run, RunID, new_run
from pupload.run.transition import transition

Guard = Callable[[Connection], Awaitable[bool]]
"""A condition that must hold under the run's lock; it may write, and does so in the same transaction."""

Follower = Callable[[Connection, Step], Awaitable[None]]
"""Writes what follows from a step that was not stale, in the step's own transaction: a delivery, a chore. It must be
quick, and touch no other run."""


@dataclass(frozen=True, slots=True)
class Due:
    """An event of a locked run. `said` is what its stream is told before; `present` as in `Run`."""

    locked: LockedRun
    plan: Plan
    event: Event
    present: frozenset[Edge] = frozenset()
    said: Sequence[tuple[Record, datetime]] = ()


@dataclass(frozen=True, slots=True)
class Beginning:
    """What of a new run exists already, what of it is not wanted, and what will never come. See `RunCreated`."""

    present: tuple[Artifact, ...] = ()
    kept: frozenset[NodeID] = frozenset()
    skipped: frozenset[NodeID] = frozenset()
    absent: frozenset[Edge] = frozenset()


class Service:
    """Changes of runs."""

    def __init__(self, database: Database, followers: Sequence[Follower] = ()) -> None:
        self.database = database
        self.plans = PlanCache()
        self._followers = tuple(followers)

    async def create(self, new: NewRun, beginning: Beginning = Beginning()) -> tuple[RunID, bool]:
        """The id of the stored run, and whether it is new; an idempotency key seen before gives the earlier run.

        Errors: Conflict when the key came with another request; Gone for an object of another run that nothing keeps.
        """

        async def store(connection: Connection) -> bool:
            run = new_run(new.id, new.plan, called=new.caller is not None)
            locked = await insert_run(connection, new, run)
            if locked is None:
                return False
            await hold_origins(connection, beginning.present)
            await join_session(connection, new)
            await take_over(connection, new, beginning.present)
            created = RunCreated(locked.now, beginning.present, beginning.kept, beginning.skipped, beginning.absent)
            step = transition(run, created)
            await save(connection, [Written(locked, step)])
            await enqueue(connection, _queued(new.plan, step))
            await self._follow(connection, step)
            await reach("submission.before_commit")
            return True

        if not await self.database.transact(store):
            return await self._same_request(new), False
        self.plans.put(new.id, new.plan)
        await reach("submission.committed")
        return new.id, True

    async def _follow(self, connection: Connection, step: Step) -> None:
        for follower in self._followers:
            await follower(connection, step)

    async def earlier(self, key: str | None, sha256: bytes) -> RunID | None:
        """The run that this key made before; None for a new key, or none.

        Errors: Conflict when the key came with another request.
        """
        if key is None:
            return None
        async with self.database.connection() as connection:
            earlier = await connection.fetchrow(SQL["find_idempotent"], key)
        if earlier is not None and earlier["request_sha256"] != sha256:
            raise Conflict(
                "this Idempotency-Key came with another request before; use a new key", code="IDEMPOTENCY_CONFLICT"
            )
        return RunID(earlier["id"]) if earlier else None

    async def _same_request(self, new: NewRun) -> RunID:
        earlier = await self.earlier(new.idempotency_key, new.request_sha256 or b"")
        if earlier is None:
            raise Conflict("the run of this Idempotency-Key was removed just now; use a new key")
        return earlier

    async def plan(self, run_id: RunID) -> Plan:
        """The run's plan, mostly without asking the database.

        Errors: NotFound.
        """
        if (plan := self.plans.known(run_id)) is not None:
            return plan
        async with self.database.connection() as connection:
            return await self.plans.get(connection, run_id)

    async def apply(self, run_id: RunID, event_at: Callable[[datetime], Event], guard: Guard | None = None) -> Step:
        """The step that the event made, committed.

        Errors: NotFound; LostLease when `guard` does not hold, and nothing is written then.
        """
        return await self.database.transact(lambda connection: self.apply_in(connection, run_id, event_at, guard))

    async def apply_in(
        self,
        connection: Connection,
        run_id: RunID,
        event_at: Callable[[datetime], Event],
        guard: Guard | None = None,
    ) -> Step:
        """As `apply`, within the caller's transaction."""
        plan = await self.plans.get(connection, run_id)
        locked = await lock_run(connection, run_id)
        if guard is not None and not await guard(connection):
            raise lost_lease()
        event = event_at(locked.now)
        present = await _present(connection, run_id, event)
        (step,) = await self.apply_all_in(connection, [Due(locked, plan, event, present)])
        return step

    async def apply_all_in(self, connection: Connection, due: Sequence[Due]) -> list[Step]:
        """The steps that the events made, in their order, within the caller's transaction, which has locked the runs.

        However many they are, it takes as many statements as one of them.
        """
        runs = await load_runs(connection, _wanted(due))
        made: dict[RunID, list[Step]] = {}
        steps = [_advance(runs, made, each) for each in due]
        said = _said(due)
        written = [
            Written(locked, joined(made[run_id]), said.get(run_id, ()))
            for run_id, locked in {each.locked.id: each.locked for each in due}.items()
        ]
        if changed := [each for each in written if each.said or not each.step.stale]:
            await save(connection, changed)
            await enqueue(connection, [job for each in changed for job in _queued(each.step.run.plan, each.step)])
            await withdraw(connection, [job for each in changed for job in _unwanted(each.step)])
            for each in changed:
                if not each.step.stale:
                    await self._follow(connection, each.step)
        return steps

    async def receive(self, run_id: RunID, artifact: Artifact) -> bool:
        """Tell the run that the object of an input edge exists; False when it knew, or is over."""
        await reach("upload.found")
        return not (await self.apply(run_id, lambda at: UploadReceived(at, artifact))).stale

    async def cancel(self, run_id: RunID) -> None:
        """Ask the run to stop. Right in every state, and twice.

        Errors: NotFound.
        """
        await self.apply(run_id, RunCancelled)
        await reach("cancel.committed")


def _wanted(due: Sequence[Due]) -> list[Wanted]:
    """What the events need of each run, together."""
    wanted: dict[RunID, Wanted] = {}
    for each in due:
        scope, present = scope_of(each.plan, each.event), each.present
        if (known := wanted.get(each.locked.id)) is not None:
            scope, present = known.scope | scope, known.present | present
        wanted[each.locked.id] = Wanted(each.locked, each.plan, scope, present)
    return list(wanted.values())


def _advance(runs: dict[RunID, Run], made: dict[RunID, list[Step]], due: Due) -> Step:
    step = transition(runs[due.locked.id], due.event)
    runs[due.locked.id] = step.run
    made.setdefault(due.locked.id, []).append(step)
    return step


def _said(due: Sequence[Due]) -> dict[RunID, list[tuple[Record, datetime]]]:
    said: dict[RunID, list[tuple[Record, datetime]]] = {}
    for each in due:
        if each.said:
            said.setdefault(each.locked.id, []).extend(each.said)
    return said


async def _present(connection: Connection, run_id: RunID, event: Event) -> frozenset[Edge]:
    if not isinstance(event, UploadReceived):
        return frozenset()
    exists = await connection.fetchval(SQL["artifact_exists"], run_id, event.artifact.edge)
    return frozenset({event.artifact.edge}) if exists else frozenset()


def _queued(plan: Plan, step: Step) -> list[QueuedAttempt]:
    return [
        QueuedAttempt(step.run.id, each.node, each.attempt, queue_of(plan.nodes[each.node]), each.delay_s)
        for each in dispatches(step)
    ]


def queue_of(node: NodePlan) -> str:
    """Who takes the node's attempts: workers with its tier, or controllers where it calls a flow."""
    return ChoreKind.CALL.value if node.calls else node.tier.name


def _unwanted(step: Step) -> list[tuple[str, str, int]]:
    """The attempts that nobody is to take any more: left in the queue, they would be in the way of what is wanted."""
    return [(step.run.id, node.id, node.attempt + 1) for node in step.changed if node.status is NodeStatus.STOPPED]
