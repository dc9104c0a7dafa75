"""What a worker tells of an attempt: lines, progress, its end; and the URLs it needs meanwhile.

Every call is fenced: without the current lease nothing is signed and nothing is written.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from random import random

from pupload.controller.folders import folder_key
from pupload.controller.gathering import in_transactions
from pupload.controller.objects import attempt_key, inputs_of, log_key, own_key
from pupload.controller.service import Due, Service
from pupload.controller.stores import Stores
from pupload.controller.tools import Counted, Tools
from pupload.controller.turns import keep_session
from pupload.db.pool import Connection, Database
from pupload.db.runs import LockedRun, lock_run, lock_runs
from pupload.db.sql import SQL
from pupload.db.writing import append_records
from pupload.errors import InvalidRequest, LostLease, NotFound
from pupload.failpoints import reach
from pupload.flow.plan import DEFAULT_STORE, Edge, NodeID, Plan, Reason
from pupload.protocol import (
    AttemptRef,
    Finish,
    Line,
    Lines,
    Outcome,
    OutputFound,
    Pin,
    Pinned,
    PutWish,
    Sign,
    Signed,
    SignedGet,
    SignedPut,
    level_of,
)
from pupload.run.commands import Record, RecordType
from pupload.run.events import Event, NodeAsked, NodeFailed, NodeReleased, NodeSucceeded
from pupload.run.state import Artifact, RunID
from pupload.stores.base import Store


class _OutOfStep(Exception):
    """The lease is gone, or other lines were recorded before than these say."""


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

    async def sign(self, sign: Sign) -> Signed:
        """Fresh URLs for an attempt that still holds its lease.

        Errors: LostLease; NotFound for an edge that is not the node's.
        """
        run_id = RunID(sign.ref.run_id)
        async with self._database.connection() as connection:
            await _check_lease(connection, sign.ref)
            plan = await self._service.plans.get(connection, run_id)
            node = plan.nodes[NodeID(sign.ref.node_id)]
            inputs = await inputs_of(connection, run_id, node) if sign.gets else {}
        outputs = {binding.edge for binding in node.outputs}
        if unknown := [wish.edge for wish in sign.puts if wish.edge not in outputs]:
            raise NotFound(f"node {node.id!r} has no output edge {unknown[0]!r}")
        signed = Signed(
            gets=[await self._signed_get(sign, inputs, edge) for edge in sign.gets],
            puts=[await self._signed_put(plan, sign, wish) for wish in sign.puts],
            log=await self._signed_log(sign, sign.log) if sign.log else None,
            folders=[self._signed_folder(plan, sign, wish) for wish in sign.folders],
        )
        await reach("sign.lent")
        return signed

    async def pin(self, pin: Pin) -> Pinned:
        """What the image means in the attempt's run: what this worker has found, unless another was first.

        Errors: LostLease; InvalidRequest for an image of another node, which is not this worker's to tell.
        """
        async with self._database.connection() as connection:
            await self._require_own_image(connection, pin)
            exact = await connection.fetchval(SQL["pin_image"], *_key(pin.ref), pin.image, pin.exact)
        if exact is None:
            raise _lost()
        await reach("image.pinned")
        return Pinned(exact=exact)

    async def _require_own_image(self, connection: Connection, pin: Pin) -> None:
        try:
            plan = await self._service.plans.get(connection, RunID(pin.ref.run_id))
            node = plan.nodes[NodeID(pin.ref.node_id)]
        except (NotFound, KeyError) as error:
            raise _lost() from error
        if node.image != pin.image:
            raise InvalidRequest(f"node {node.id!r} does not run image {pin.image[:200]!r}")

    async def _signed_get(self, sign: Sign, inputs: Mapping[Edge, Artifact], edge: str) -> SignedGet:
        artifact = inputs.get(Edge(edge))
        if artifact is None:
            raise NotFound(f"node {sign.ref.node_id!r} has nothing on an input edge {edge!r}")
        store = await self._stores.of_artifact(RunID(sign.ref.run_id), artifact)
        return SignedGet(edge=edge, url=store.sign_get(artifact.key, sign.expires_s, public=False))

    async def _signed_put(self, plan: Plan, sign: Sign, wish: PutWish) -> SignedPut:
        edge = plan.edges[Edge(wish.edge)]
        key = attempt_key(edge, RunID(sign.ref.run_id), sign.ref.attempt, wish.content_type)
        return await self._signed(sign, wish, edge.store, key)

    async def _signed_log(self, sign: Sign, wish: PutWish) -> SignedPut:
        return await self._signed(sign, wish, DEFAULT_STORE, log_key(sign.ref))

    def _signed_folder(self, plan: Plan, sign: Sign, wish: PutWish) -> SignedPut:
        key = folder_key(plan.session_id, sign.ref, wish.edge)
        return _signed_put(self._stores.server(DEFAULT_STORE), sign, wish, key)

    async def _signed(self, sign: Sign, wish: PutWish, store_name: str, key: str) -> SignedPut:
        return _signed_put(await self._stores.of_run(RunID(sign.ref.run_id), store_name), sign, wish, key)

    async def lines(self, lines: Lines) -> None:
        """Record log lines and progress of an attempt that holds its lease.

        Errors: LostLease.
        """
        try:
            try:
                await self._database.transact(lambda connection: _record_lines(connection, lines))
            except _OutOfStep:
                await self._database.transact(lambda connection: _record_rest(connection, lines))
            await reach("log.recorded")
        except NotFound as error:
            raise LostLease("the run of this attempt is gone") from error

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
        held = await _held(connection, [each.ref for each in ends])
        # The same end told twice at once counts once.
        count = {each.ref.lease: each for each in ends if each.ref.lease in held}
        due = [await self._due(connection, locked[RunID(each.ref.run_id)], each) for each in count.values()]
        if due:
            await _end_attempts(connection, [each.counted.finish for each in due])
            steps = await self._service.apply_all_in(connection, [each.due for each in due])
            for each, step in zip(due, steps, strict=True):
                await self._tools.record(connection, each.counted, step)
            await reach("finish.before_commit")
        return [None if count.get(each.ref.lease) is each else _lost() for each in ends]

    async def _due(self, connection: Connection, locked: LockedRun, weighed: _Weighed) -> _Ended:
        """The end as it counts, now that the run is as it is."""
        finish = weighed.counted.finish
        plan = await self._service.plans.get(connection, locked.id)
        changed = await _changed_input(connection, plan, finish)
        finish = _failed_by_change(finish, changed) if changed else await self._with_version(connection, finish)
        if finish.folders:
            finish = await _kept(connection, plan, locked, finish)
        counted = Counted(finish, weighed.counted.calls, "" if changed else weighed.counted.code)
        said = [log_record(finish.ref, line) for line in await _unrecorded(connection, finish)]
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
                await _check_lease(connection, finish.ref)
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


def _signed_put(store: Store, sign: Sign, wish: PutWish, key: str) -> SignedPut:
    signed = store.sign_put(
        key,
        sign.expires_s,
        public=False,
        size_bytes=wish.size_bytes,
        md5=wish.md5,
        content_type=wish.content_type,
    )
    return SignedPut(edge=wish.edge, url=signed.url, headers=dict(signed.headers), key=key, foreign=store.foreign)


async def _record_lines(connection: Connection, lines: Lines) -> None:
    records = [log_record(lines.ref, line) for line in lines.lines]
    if lines.progress is not None:
        now: datetime = await connection.fetchval("SELECT now()")
        records.append((_progress_record(lines.ref, lines.progress), now))
    if records:
        await append_records(connection, RunID(lines.ref.run_id), records)
    # Asked under the lock that the records took: before it, the attempt could still end, and the run with it, and
    # these records would stand behind its last event. The node comes after its run, as in every transaction.
    if await connection.fetchval(SQL["count_lines"], *_key(lines.ref), lines.first, len(lines.lines)) is None:
        raise _OutOfStep
    if lines.progress is not None:
        await connection.execute(SQL["set_progress"], lines.ref.run_id, lines.ref.node_id, lines.progress)


async def _record_rest(connection: Connection, lines: Lines) -> None:
    """Record what of the lines is not recorded yet.

    Errors: LostLease.
    """
    await lock_run(connection, RunID(lines.ref.run_id))
    known = await _known_lines(connection, lines.ref)
    rest = lines.lines[_told(known, lines.first) :]
    await _record_lines(connection, lines.model_copy(update={"lines": rest, "first": known}))


async def _unrecorded(connection: Connection, finish: Finish) -> list[Line]:
    """The lines of the finish that are not recorded yet; asked only where a post of some was not answered."""
    if finish.first_line is None or not finish.lines:
        return finish.lines
    await lock_run(connection, RunID(finish.ref.run_id))
    return finish.lines[_told(await _known_lines(connection, finish.ref), finish.first_line) :]


def _told(known: int, first: int | None) -> int:
    return 0 if first is None else max(0, known - first)


async def _known_lines(connection: Connection, ref: AttemptRef) -> int:
    known: int | None = await connection.fetchval(SQL["known_lines"], *_key(ref))
    if known is None:
        raise _lost()
    return known


def log_record(ref: AttemptRef, line: Line) -> tuple[Record, datetime]:
    """A log line as an event of the run."""
    data = {
        "Attempt": ref.attempt,
        "Message": line.text,
        "Level": level_of(line.stream),
        "Stream": line.stream,
        "Fields": {},
    }
    return Record(RecordType.NODE_LOG, NodeID(ref.node_id), data), line.at


def _progress_record(ref: AttemptRef, percent: float) -> Record:
    return Record(RecordType.NODE_PROGRESS, NodeID(ref.node_id), {"Attempt": ref.attempt, "Progress": percent})


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
        *_refs([finish.ref for finish in ends]),
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
        raise _lost()


def _snapshots(finish: Finish) -> str | None:
    return json.dumps([snapshot.wire() for snapshot in finish.snapshots]) if finish.snapshots else None


async def _held(connection: Connection, refs: Sequence[AttemptRef]) -> set[str]:
    """The leases that are held."""
    return {row["lease"] for row in await connection.fetch(SQL["held_leases"], *_refs(refs))}


async def _check_lease(connection: Connection, ref: AttemptRef) -> None:
    if not await _held(connection, [ref]):
        raise _lost()


def _lost() -> LostLease:
    return LostLease("this attempt is not yours any more; drop what was made for it")


def _key(ref: AttemptRef) -> tuple[str, str, int, str]:
    return ref.run_id, ref.node_id, ref.attempt, ref.lease


def _refs(refs: Sequence[AttemptRef]) -> tuple[list[str], list[str], list[int], list[str]]:
    """The keys of many, as columns."""
    return (
        [ref.run_id for ref in refs],
        [ref.node_id for ref in refs],
        [ref.attempt for ref in refs],
        [ref.lease for ref in refs],
    )
