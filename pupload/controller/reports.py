"""What a worker tells of an attempt that counts in its run: which image it found, and how it ended."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from random import random

from pupload.controller.fencing import check_lease, columns_of, held_leases, key_of, lost_lease
from pupload.controller.gathering import in_transactions
from pupload.controller.lines import unrecorded
from pupload.controller.objects import attempt_key, own_key
from pupload.controller.service import Due, Service
from pupload.controller.stores import Stores
from pupload.controller.tools import Counted, Tools
from pupload.controller.turns import keep_session
from pupload.db.pool import Connection, Database
from pupload.db.runs import LockedRun, lock_runs
from pupload.db.sql import SQL
from pupload.errors import InvalidRequest, LostLease, NotFound
from pupload.failpoints import reach
from pupload.flow.plan import Edge, NodeID, Plan, Reason
from pupload.protocol import AttemptRef, Finish, Outcome, OutputFound, Pin, Pinned
from pupload.run.events import Event, NodeAsked, NodeFailed, NodeReleased, NodeSucceeded
from pupload.run.state import Artifact, RunID


@dataclass(frozen=True, slots=True)
class _Weighed:
    """An end as far as it can be judged before its run is held, with the artifacts that it would make."""

    counted: Counted
    artifacts: tuple[Artifact, ...] = ()

    @property
    def ref(self) -> AttemptRef:
        """Whose end it is."""
        return self.counted.finish.ref


@dataclass(frozen=True, slots=True)
class _Ended:
    """An end as it counts, and the event that it is."""

    counted: Counted
    due: Due


class Reports:
    """Takes what workers tell of their attempts."""

    def __init__(self, service: Service, stores: Stores, tools: Tools) -> None:
        self._service, self._stores, self._tools = service, stores, tools
        self._ending = in_transactions(service.database, self._end)

    @property
    def _database(self) -> Database:
        return self._service.database

    async def pin(self, pin: Pin) -> Pinned:
        """What the image means in the attempt's run: what this worker has found, unless another was first.

        Errors: LostLease; InvalidRequest for an image of another node, which is not this worker's to tell.
        """
        async with self._database.connection() as connection:
            await self._require_own_image(connection, pin)
            exact = await connection.fetchval(SQL["pin_image"], *key_of(pin.ref), pin.image, pin.exact)
        if exact is None:
            raise lost_lease()
        await reach("image.pinned")
        return Pinned(exact=exact)

    async def _require_own_image(self, connection: Connection, pin: Pin) -> None:
        try:
            plan = await self._service.plans.get(connection, RunID(pin.ref.run_id))
            node = plan.nodes[NodeID(pin.ref.node_id)]
        except (NotFound, KeyError) as error:
            raise lost_lease() from error
        if node.image != pin.image:
            raise InvalidRequest(f"node {node.id!r} does not run image {pin.image[:200]!r}")

    async def finish(self, finish: Finish) -> None:
        """Record the end of an attempt, once.

        Errors: LostLease: nothing was recorded.
        """
        try:
            weighed = await self._weigh(finish)
            await reach("finish.weighed")
            await self._ending.ask(weighed)
            await reach("finish.committed")
        except NotFound as error:
            raise LostLease("the run of this attempt is gone") from error

    async def _end(self, connection: Connection, ends: Sequence[_Weighed]) -> list[LostLease | None]:
        """Of each that does not hold its lease any more, that it does not."""
        locked = await lock_runs(connection, {RunID(each.ref.run_id) for each in ends})
        held = await held_leases(connection, [each.ref for each in ends])
        # The same end told twice at once counts once.
        count = {each.ref.lease: each for each in ends if each.ref.lease in held}
        due = [await self._due(connection, locked[RunID(each.ref.run_id)], each) for each in count.values()]
        if due:
            await _end_attempts(connection, [each.counted.finish for each in due])
            steps = await self._service.apply_all_in(connection, [each.due for each in due])
            for each, step in zip(due, steps, strict=True):
                await self._tools.record(connection, each.counted, step)
            await reach("finish.before_commit")
        return [None if count.get(each.ref.lease) is each else lost_lease() for each in ends]

    async def _due(self, connection: Connection, locked: LockedRun, weighed: _Weighed) -> _Ended:
        """The end as it counts, now that the run is as it is."""
        finish = weighed.counted.finish
        plan = await self._service.plans.get(connection, locked.id)
        changed = await _changed_input(connection, plan, finish)
        finish = _failed_by_change(finish, changed) if changed else await self._with_version(connection, finish)
        if finish.folders:
            finish = await _kept(connection, plan, locked, finish)
        counted = Counted(finish, weighed.counted.calls, "" if changed else weighed.counted.code)
        said = await unrecorded(connection, finish)
        return _Ended(counted, Due(locked, plan, _event(counted, locked.now, weighed.artifacts), said=said))

    async def _with_version(self, connection: Connection, finish: Finish) -> Finish:
        """The finish, saying which version of the flow it was that wanted an exact image which is not there."""
        if finish.reason is not Reason.IMAGE:
            return finish
        plan = await self._service.plans.get(connection, RunID(finish.ref.run_id))
        if "sha256:" not in plan.nodes[NodeID(finish.ref.node_id)].image:
            return finish
        run = await connection.fetchrow(SQL["run_header"], finish.ref.run_id)
        if run is None or not run["flow_version"].isdecimal():
            return finish
        published = f"version {run['flow_version']} of flow {run['flow_name']} was published with exactly this image"
        advice = "bring it back, or publish the flow again"
        return finish.model_copy(update={"message": f"{finish.message}; {published}: {advice}"})

    async def _weigh(self, finish: Finish) -> _Weighed:
        """The end as it counts, and the attempt's objects as artifacts.

        A well with a key of its own gets a copy there, by the store itself.
        """
        if finish.outcome not in {Outcome.SUCCEEDED, Outcome.ASKED}:
            return _Weighed(Counted(finish))
        plan, counted = await self._service.plan(RunID(finish.ref.run_id)), Counted(finish)
        unspoken = _unspoken(plan, finish)
        if unspoken or _must_be_current(plan, finish):
            async with self._database.connection() as connection:
                await check_lease(connection, finish.ref)
                counted = await self._tools.counted(connection, plan, finish)
        if counted.finish.outcome is not Outcome.SUCCEEDED:
            return _Weighed(counted)
        if unspoken:
            raise InvalidRequest(unspoken)
        return _Weighed(counted, tuple([await self._artifact(plan, finish.ref, found) for found in finish.outputs]))

    async def _artifact(self, plan: Plan, ref: AttemptRef, found: OutputFound) -> Artifact:
        edge, run_id = plan.edges[Edge(found.edge)], RunID(ref.run_id)
        key, etag = attempt_key(edge, run_id, ref.attempt, found.content_type), found.etag
        if edge.key is not None:
            attempts_key, key = key, own_key(plan, edge, run_id, ref)
            etag = (await (await self._stores.of_run(run_id, edge.store)).copy(attempts_key, key)).etag
        return Artifact(
            edge=edge.name,
            store=edge.store,
            key=key,
            size_bytes=found.size_bytes,
            content_type=found.content_type,
            sha256=found.sha256,
            etag=etag,
            node=NodeID(ref.node_id),
            attempt=ref.attempt,
        )


async def _changed_input(connection: Connection, plan: Plan, finish: Finish) -> str:
    """The first edge fed from outside whose bytes are not those that an earlier reader found; "" for none."""
    for found in finish.inputs:
        if plan.edges[Edge(found.edge)].producer is None:
            noted = finish.ref.run_id, found.edge, found.sha256, found.content_type
            if await connection.fetchval(SQL["note_input"], *noted) is None:
                return found.edge
    return ""


async def _kept(connection: Connection, plan: Plan, locked: LockedRun, finish: Finish) -> Finish:
    """The finish as it counts once the folders that the attempt has changed are kept.

    Nothing is kept for a run that is ending: the attempt comes to nothing there.
    """
    if locked.row["ending"] is not None or locked.row["finished_at"] is not None:
        return finish
    return await keep_session(connection, plan, finish, locked.now)


def _event(counted: Counted, at: datetime, artifacts: tuple[Artifact, ...]) -> Event:
    finish = counted.finish
    node, attempt = NodeID(finish.ref.node_id), finish.ref.attempt
    match finish.outcome:
        case Outcome.SUCCEEDED:
            absent = tuple(Edge(edge) for edge in finish.absent)
            return NodeSucceeded(at, node, attempt, artifacts, absent, finish.exit_code)
        case Outcome.FAILED:
            reason = finish.reason or Reason.INFRA
            return NodeFailed(
                at,
                node,
                attempt,
                reason,
                finish.message,
                finish.exit_code,
                final=finish.final,
                jitter=random(),  # noqa: S311 - spreads retries, guards nothing
                code=counted.code,
            )
        case Outcome.ASKED:
            return NodeAsked(at, node, attempt, tuple(call.wire() for call in counted.calls), finish.exit_code)
        case Outcome.RELEASED:
            return NodeReleased(at, node, attempt)


def _must_be_current(plan: Plan, finish: Finish) -> bool:
    """True where something is done about the end before it counts: tools are weighed, objects copied."""
    asks = finish.outcome is Outcome.ASKED or plan.nodes[NodeID(finish.ref.node_id)].ask_exit_code is not None
    return asks or any(plan.edges[Edge(found.edge)].key is not None for found in finish.outputs)


def _unspoken(plan: Plan, finish: Finish) -> str:
    """What is wrong unless the finish speaks of each output once, and of each required one as found; "" for nothing."""
    outputs = plan.nodes[NodeID(finish.ref.node_id)].outputs
    found = [output.edge for output in finish.outputs]
    if sorted([*found, *finish.absent]) != sorted(binding.edge for binding in outputs):
        return f"node {finish.ref.node_id!r}: speak of each output edge once, as found or as absent"
    missing = [binding.edge for binding in outputs if binding.required and binding.edge not in found]
    return f"node {finish.ref.node_id!r} cannot succeed without output {missing[0]!r}" if missing else ""


def _failed_by_change(finish: Finish, edge: str) -> Finish:
    """The finish as it counts, for the attempt's row and for the run alike."""
    message = f"the object on edge {edge!r} was overwritten after another node had read it; do not reuse upload URLs"
    failure = {"outcome": Outcome.FAILED, "reason": Reason.TRANSFER, "message": message, "final": True}
    return finish.model_copy(update=failure)


async def _end_attempts(connection: Connection, ends: Sequence[Finish]) -> None:
    """Errors: LostLease."""
    ended = await connection.fetch(
        SQL["end_attempts"],
        *columns_of([finish.ref for finish in ends]),
        [finish.outcome.value for finish in ends],
        [finish.reason.value if finish.reason else None for finish in ends],
        [finish.message for finish in ends],
        [finish.exit_code for finish in ends],
        [finish.image_digest for finish in ends],
        [finish.log_key for finish in ends],
        [sum(found.size_bytes for found in finish.inputs) for finish in ends],
        [sum(found.size_bytes for found in finish.outputs) for finish in ends],
        [json.dumps(finish.timings) for finish in ends],
        [_snapshots(finish) for finish in ends],
    )
    if len(ended) < len(ends):
        raise lost_lease()


def _snapshots(finish: Finish) -> str | None:
    return json.dumps([snapshot.wire() for snapshot in finish.snapshots]) if finish.snapshots else None
