"""What a worker tells of an attempt: lines, progress, its end; and the URLs it needs meanwhile.

Every call is fenced: without the current lease nothing is signed and nothing is written.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from random import random

from pupload.controller.folders import folder_key
from pupload.controller.objects import attempt_key, inputs_of, log_key, own_key
from pupload.controller.service import Service
from pupload.controller.stores import Stores
from pupload.controller.tools import Counted, Tools
from pupload.controller.turns import keep_session
from pupload.db.pool import Connection, Database
from pupload.db.runs import append_records, lock_run
from pupload.db.sql import SQL
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


class Reports:
    """Takes what workers tell of their attempts."""

    def __init__(self, service: Service, stores: Stores, tools: Tools) -> None:
        self._service, self._stores, self._tools = service, stores, tools

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

        Errors: LostLease.
        """
        async with self._database.connection() as connection:
            exact = await connection.fetchval(SQL["pin_image"], *_key(pin.ref), pin.image, pin.exact)
        if exact is None:
            raise _lost()
        await reach("image.pinned")
        return Pinned(exact=exact)

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
        run_id = RunID(finish.ref.run_id)
        try:
            counted, artifacts = await self._weigh(finish)
            await reach("finish.weighed")
            await self._database.transact(lambda connection: self._finish_in(connection, run_id, counted, artifacts))
            await reach("finish.committed")
        except NotFound as error:
            raise LostLease("the run of this attempt is gone") from error

    async def _finish_in(
        self, connection: Connection, run_id: RunID, weighed: Counted, artifacts: tuple[Artifact, ...]
    ) -> None:
        finish = weighed.finish
        changed = await self._changed_input(connection, run_id, finish)
        counted = _failed_by_change(finish, changed) if changed else await self._with_version(connection, finish)
        if counted.folders:
            counted = await self._kept(connection, run_id, counted)
        if lines := await _unrecorded(connection, counted):
            await append_records(connection, run_id, [log_record(finish.ref, line) for line in lines])
        ended = Counted(counted, weighed.calls, "" if changed else weighed.code)
        step = await self._service.apply_in(
            connection,
            run_id,
            lambda at: _event(ended, at, artifacts),
            guard=lambda guarded: _end_attempt(guarded, counted),
        )
        await self._tools.record(connection, ended, step)
        await reach("finish.before_commit")

    async def _changed_input(self, connection: Connection, run_id: RunID, finish: Finish) -> str:
        """The first edge fed from outside whose bytes are not those that an earlier reader found; "" for none."""
        plan = await self._service.plans.get(connection, run_id)
        from_outside = [found for found in finish.inputs if plan.edges[Edge(found.edge)].producer is None]
        if from_outside:
            await lock_run(connection, run_id)
        for found in from_outside:
            same = await connection.fetchval(SQL["note_input"], run_id, found.edge, found.sha256, found.content_type)
            if same is None:
                return found.edge
        return ""

    async def _kept(self, connection: Connection, run_id: RunID, finish: Finish) -> Finish:
        """The finish as it counts once the folders that the attempt has changed are kept.

        Nothing is kept for a run that is ending: the attempt comes to nothing there.
        """
        plan = await self._service.plans.get(connection, run_id)
        locked = await lock_run(connection, run_id)
        if locked.row["ending"] is not None or locked.row["finished_at"] is not None:
            return finish
        return await keep_session(connection, plan, finish, locked.now)

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

    async def _weigh(self, finish: Finish) -> tuple[Counted, tuple[Artifact, ...]]:
        """The end as it counts, and the attempt's objects as artifacts.

        A well with a key of its own gets a copy there, by the store itself.
        """
        if finish.outcome not in {Outcome.SUCCEEDED, Outcome.ASKED}:
            return Counted(finish), ()
        async with self._database.connection() as connection:
            await _check_lease(connection, finish.ref)
            plan = await self._service.plans.get(connection, RunID(finish.ref.run_id))
            counted = await self._tools.counted(connection, plan, finish)
        if counted.finish.outcome is not Outcome.SUCCEEDED:
            return counted, ()
        _require_every_output(plan, finish)
        return counted, tuple([await self._artifact(plan, finish.ref, found) for found in finish.outputs])

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


def _require_every_output(plan: Plan, finish: Finish) -> None:
    """Errors: InvalidRequest unless the finish speaks of each output once, and of each required one as found."""
    outputs = plan.nodes[NodeID(finish.ref.node_id)].outputs
    found = [output.edge for output in finish.outputs]
    if sorted([*found, *finish.absent]) != sorted(binding.edge for binding in outputs):
        raise InvalidRequest(f"node {finish.ref.node_id!r}: speak of each output edge once, as found or as absent")
    if missing := [binding.edge for binding in outputs if binding.required and binding.edge not in found]:
        raise InvalidRequest(f"node {finish.ref.node_id!r} cannot succeed without output {missing[0]!r}")


def _failed_by_change(finish: Finish, edge: str) -> Finish:
    """The finish as it counts, for the attempt's row and for the run alike."""
    message = f"the object on edge {edge!r} was overwritten after another node had read it; do not reuse upload URLs"
    failure = {"outcome": Outcome.FAILED, "reason": Reason.TRANSFER, "message": message, "final": True}
    return finish.model_copy(update=failure)


async def _end_attempt(connection: Connection, finish: Finish) -> bool:
    ref = finish.ref
    ended = await connection.fetchval(
        SQL["end_attempt"],
        ref.run_id,
        ref.node_id,
        ref.attempt,
        ref.lease,
        finish.outcome.value,
        finish.reason.value if finish.reason else None,
        finish.message,
        finish.exit_code,
        finish.image_digest,
        finish.log_key,
        sum(found.size_bytes for found in finish.inputs),
        sum(found.size_bytes for found in finish.outputs),
        json.dumps(finish.timings),
        json.dumps([snapshot.wire() for snapshot in finish.snapshots]) if finish.snapshots else None,
    )
    return ended is not None


async def _check_lease(connection: Connection, ref: AttemptRef) -> None:
    if not await connection.fetchval(SQL["holds_lease"], *_key(ref)):
        raise _lost()


def _lost() -> LostLease:
    return LostLease("this attempt is not yours any more; drop what was made for it")


def _key(ref: AttemptRef) -> tuple[str, str, int, str]:
    return ref.run_id, ref.node_id, ref.attempt, ref.lease
