"""One attempt: a value that goes through named steps, each with a deadline; whatever happens, the last cleans up.

Source: design.md 5.
"""

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pupload.config import WorkerConfig
from pupload.containers.archive import fetch_files, send_files
from pupload.containers.docker import ContainerState, Engine, NameTaken, Refused
from pupload.containers.images import Image, Images, NoImage
from pupload.containers.janitor import ATTEMPT, INSTANCE, NODE, RUN, WORKER, remove_tree
from pupload.containers.logs import Log
from pupload.containers.spec import IN_DIR, OUT_DIR, ContainerSpec, GpuDevice
from pupload.containers.streams import Attached, Watch
from pupload.errors import EngineUnavailable, InvalidRequest, LostLease, PuploadError
from pupload.flow.argv import environment, render_argv
from pupload.flow.plan import Reason
from pupload.protocol import Assignment, AttemptRef, Claim, Finish, Outcome, OutputFound
from pupload.worker.control import Control
from pupload.worker.failure import NodeFailure, Stopped
from pupload.worker.hold import Hold, Letting
from pupload.worker.live import LiveLog, as_line
from pupload.worker.outputs import file_name, opened
from pupload.worker.staging import Stage, Staged, deliver, stage_inputs, store_log
from pupload.worker.transfer import Transfers
from pupload.worker.verdict import judge, start_failure
from pupload.worker.workdir import WorkDir, lacking, make_work_dir

DRAIN_OUTPUT_S = 10.0
DEAD_S = 20.0
_PORT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shop:
    """What all attempts of a worker share. `mounts`: the engine sees the work directory; otherwise files are streamed.

    `starts` bounds how many containers are being started at once: more only queue inside the engine.
    """

    config: WorkerConfig
    instance: str
    engine: Engine
    images: Images
    control: Control
    transfers: Transfers
    starts: asyncio.Semaphore
    mounts: bool
    owner: tuple[int, int]


@dataclass(slots=True)
class Attempt:
    """One try of one node, with what its steps have found so far."""

    assignment: Assignment
    hold: Hold
    log: Log
    live: LiveLog
    device: GpuDevice | None = None
    place: WorkDir | None = None
    staged: list[Staged] = field(default_factory=list)
    image: Image | None = None
    container: str = ""
    attached: Attached | None = None
    watch: Watch | None = None
    killed: Reason | None = None
    exit_code: int | None = None
    delivered: list[OutputFound] = field(default_factory=list)
    log_key: str = ""
    timings: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of its container and of its work directory."""
        return attempt_name(self.assignment.ref)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Note how long the block takes."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.timings[name] = round(time.perf_counter() - began, 4)


def attempt_name(ref: AttemptRef) -> str:
    """The name by which an attempt's container and directory are known: `pup-<run8>-<node>-<attempt>`.

    The run's last eight characters, because ids that sort by time begin alike.
    """
    return f"pup-{ref.run_id[-8:]}-{ref.node_id}-{ref.attempt}"


async def run_attempt(
    shop: Shop,
    assignment: Assignment,
    hold: Hold,
    device: GpuDevice | None,
    *,
    freed: Callable[[], Claim | None],
    ended: Callable[[list[Assignment]], None],
) -> None:
    """Return when nothing of the attempt is left on this machine.

    `freed` is called once the attempt needs its place no more; its claim goes with the finish. `ended` gets what the
    controller answered to that, while the leavings are still being cleaned up.
    """
    live = LiveLog(shop.control, assignment.ref, hold)
    notes = Log(
        shop.config.work_dir,
        live_bytes=assignment.live_log_limit_bytes,
        whole_bytes=assignment.log_limit_bytes,
        wake=live.wake,
    )
    attempt = Attempt(assignment, hold, notes, live, device)
    live.start(notes)
    try:
        finish = await _outcome(shop, attempt)
        ended(await _report(shop, attempt, finish, freed))
    except LostLease as lost:
        log.warning("attempt %s is no longer ours, dropped: %s", attempt.name, lost)
    finally:
        await _clean_up(shop, attempt)


async def _outcome(shop: Shop, attempt: Attempt) -> Finish:
    ref = attempt.assignment.ref
    try:
        await _work(shop, attempt)
        return Finish(ref=ref, outcome=Outcome.SUCCEEDED)
    except NodeFailure as failure:
        return _failed(ref, failure)
    except Stopped:
        return _stopped(ref, attempt.hold)
    except (EngineUnavailable, Refused, NameTaken) as error:
        return _failed(ref, NodeFailure(Reason.INFRA, str(error)))
    except OSError as error:
        return _failed(ref, NodeFailure(Reason.INFRA, f"the worker's disk or network failed: {error}"))
    except LostLease:
        raise
    except PuploadError as error:
        return _failed(ref, NodeFailure(Reason.INFRA, str(error)))


def _failed(ref: AttemptRef, failure: NodeFailure) -> Finish:
    return Finish(
        ref=ref,
        outcome=Outcome.FAILED,
        reason=failure.reason,
        message=failure.message,
        exit_code=failure.exit_code,
        final=failure.final,
    )


def _stopped(ref: AttemptRef, hold: Hold) -> Finish:
    match hold.why:
        case Letting.RELEASED:
            return Finish(ref=ref, outcome=Outcome.RELEASED, message="the worker is shutting down")
        case Letting.LOST | None:
            raise LostLease("the lease was lost")
        case Letting.STOPPED:
            text = "the node was stopped" if hold.reason is Reason.CANCELLED else f"stopped: {hold.reason}"
            return _failed(ref, NodeFailure(hold.reason, text))


async def _work(shop: Shop, attempt: Attempt) -> None:
    hold = attempt.hold
    await hold.unless_told(_make_room(shop, attempt))
    await hold.unless_told(_gather(shop, attempt))
    # A create or start that is cut short would go on inside the engine, unseen; each has its own deadline.
    await _create(shop, attempt)
    await hold.unless_told(_hand_in(shop, attempt))
    await _start(shop, attempt)
    state = await _until_exit(shop, attempt)
    await _hear_out(attempt)
    judge(attempt.assignment, state, attempt.log, attempt.killed)
    attempt.exit_code = state.exit_code if state else None
    await hold.unless_told(_deliver(shop, attempt))


async def _make_room(shop: Shop, attempt: Attempt) -> None:
    """Step 2: a directory for the files, and room for them."""
    assignment = attempt.assignment
    for port in _ports(assignment):
        if not _PORT.fullmatch(port):
            raise NodeFailure(Reason.POLICY, f"{port!r} is no name for a file", final=True)
    needed = sum(spec.content.size_bytes for spec in assignment.inputs if spec.content)
    parent, owner = shop.config.work_dir, _owner(shop, assignment)
    problem = await asyncio.to_thread(lacking, parent, needed)
    if problem:
        raise NodeFailure(Reason.INFRA, problem)
    attempt.place = await asyncio.to_thread(make_work_dir, parent, attempt.name, owner)


def _ports(assignment: Assignment) -> list[str]:
    return [spec.port for spec in assignment.inputs] + [spec.port for spec in assignment.outputs]


def _owner(shop: Shop, assignment: Assignment) -> tuple[int, int]:
    """(uid, gid) of the container's program: the worker's choice, or the def's where the operator allows it."""
    asked = assignment.user
    if asked is None:
        return shop.owner
    uid, _, gid = asked.partition(":")
    if not (uid.isdecimal() and (gid or uid).isdecimal()) or 0 in {int(uid), int(gid or uid)}:
        raise NodeFailure(Reason.POLICY, f"user {asked!r}: write a uid, or uid:gid, above 0; never root", final=True)
    owner = (int(uid), int(gid or uid))
    if owner != shop.owner and not shop.config.allow_user:
        raise NodeFailure(Reason.POLICY, f"user {asked!r}: this worker does not let defs choose their user", final=True)
    return owner


async def _gather(shop: Shop, attempt: Attempt) -> None:
    """Steps 3 and 4 at once: inputs and image."""
    assignment = attempt.assignment
    place = _placed(attempt)
    inputs = asyncio.ensure_future(stage_inputs(_stage(shop, attempt), assignment.inputs, place.inputs))
    image = asyncio.ensure_future(_require_image(shop, assignment.image))
    try:
        with attempt.step("gather"):
            attempt.staged, attempt.image = await asyncio.gather(inputs, image)
    finally:
        inputs.cancel()
        image.cancel()
        await asyncio.gather(inputs, image, return_exceptions=True)


async def _require_image(shop: Shop, name: str) -> Image:
    try:
        return await shop.images.require(name)
    except NoImage as error:
        raise NodeFailure(Reason.IMAGE, str(error), final=error.final) from error


async def _create(shop: Shop, attempt: Attempt) -> None:
    """Step 5."""
    spec = container_spec(shop, attempt)
    with attempt.step("create"):
        try:
            attempt.container = await shop.engine.create(spec)
        except Refused as refused:
            shop.images.forget(attempt.assignment.image)
            if refused.status == 400:
                text = f"the engine refuses this container: {refused}"
                raise NodeFailure(Reason.POLICY, text, final=True) from refused
            raise


def container_spec(shop: Shop, attempt: Attempt) -> ContainerSpec:
    """The attempt's container, everything decided.

    Errors: NodeFailure for what this worker or the command's rules do not allow.
    """
    assignment, place = attempt.assignment, _placed(attempt)
    egress = assignment.network == "egress"
    if egress and not shop.config.allow_egress:
        raise NodeFailure(Reason.POLICY, "the node needs the network, this worker does not allow it", final=True)
    inputs = {staged.port: f"{IN_DIR}/{staged.path.name}" for staged in attempt.staged}
    outputs = {spec.port: f"{OUT_DIR}/{file_name(spec)}" for spec in assignment.outputs}
    return ContainerSpec(
        name=attempt.name,
        image=attempt.image.id if attempt.image else assignment.image,
        uid=place.owner[0],
        gid=place.owner[1],
        memory_bytes=assignment.tier.memory_bytes,
        cpu=assignment.tier.cpu,
        labels=labels(shop, assignment.ref),
        argv=_argv(assignment, {**inputs, **outputs}),
        env=_environment(assignment, inputs, outputs),
        files=str(place.root) if shop.mounts else None,
        egress=egress,
        gpu=attempt.device,
    )


def labels(shop: Shop, ref: AttemptRef) -> dict[str, str]:
    """What the attempt's container is marked with; together they are ours alone."""
    return {
        WORKER: shop.config.worker_name,
        RUN: ref.run_id,
        NODE: ref.node_id,
        ATTEMPT: str(ref.attempt),
        INSTANCE: shop.instance,
    }


def _argv(assignment: Assignment, paths: dict[str, str]) -> tuple[str, ...] | None:
    if assignment.argv is None:
        return None
    known = {*assignment.flag_names, *_ports(assignment)}
    try:
        rendered = render_argv(assignment.argv, paths, assignment.flags, known)
    except InvalidRequest as error:
        raise NodeFailure(Reason.POLICY, str(error), final=True) from error
    return tuple(rendered)


def _environment(assignment: Assignment, inputs: dict[str, str], outputs: dict[str, str]) -> dict[str, str]:
    ref = assignment.ref
    return environment(
        run_id=ref.run_id,
        node_id=ref.node_id,
        attempt=ref.attempt,
        flow_name=assignment.flow_name,
        session_id=assignment.session_id,
        inputs=inputs,
        outputs=outputs,
        flags=assignment.flags,
        env=assignment.env,
    )


async def _hand_in(shop: Shop, attempt: Attempt) -> None:
    """Step 5, where the engine does not see our directory: the inputs by a stream."""
    if shop.mounts:
        return
    paths, within_s = [staged.path for staged in attempt.staged], shop.config.transfer_timeout_s
    with attempt.step("hand_in"):
        await send_files(shop.engine, attempt.container, paths, owner=_placed(attempt).owner, within_s=within_s)


async def _start(shop: Shop, attempt: Attempt) -> None:
    """Step 6: ears first, then the start."""
    await attempt.hold.unless_told(shop.starts.acquire())
    try:
        with attempt.step("start"):
            attempt.attached = await shop.engine.attach(attempt.container, attempt.log.feed)
            attempt.watch = await shop.engine.watch(attempt.container)
            await shop.engine.start(attempt.container)
    except Refused as refused:
        raise start_failure(attempt.assignment, refused) from refused
    finally:
        shop.starts.release()


async def _until_exit(shop: Shop, attempt: Attempt) -> ContainerState | None:
    """Steps 7 and 8: until the exit, an order to stop, or the deadline; what is believed is the engine's inspect."""
    assert attempt.watch is not None
    over = asyncio.ensure_future(shop.engine.until_exit(attempt.container, attempt.watch))
    told = asyncio.ensure_future(attempt.hold.told())
    try:
        with attempt.step("run"):
            await asyncio.wait({over, told}, timeout=attempt.assignment.timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not over.done():
                await _kill(shop, attempt, over)
            state = await over
    finally:
        told.cancel()
        over.cancel()
        await asyncio.wait({over, told})
    if attempt.hold.why is not None and attempt.killed is not Reason.TIMEOUT:
        raise Stopped
    return await _second_look(shop, attempt, state)


async def _kill(shop: Shop, attempt: Attempt, over: "asyncio.Future[ContainerState | None]") -> None:
    """TERM, grace, KILL; a lost attempt gets no grace.

    Errors: EngineUnavailable when the container does not end.
    """
    lost = attempt.hold.why is Letting.LOST
    attempt.killed = attempt.hold.reason if attempt.hold.why else Reason.TIMEOUT
    if not lost:
        await shop.engine.kill(attempt.container, "SIGTERM")
        await asyncio.wait({over}, timeout=shop.config.grace_s)
    if not over.done():
        await shop.engine.kill(attempt.container)
        await asyncio.wait({over}, timeout=DEAD_S)
    if not over.done():
        raise EngineUnavailable(f"the container did not end {DEAD_S:g} s after it was killed")


async def _second_look(shop: Shop, attempt: Attempt, state: ContainerState | None) -> ContainerState | None:
    """`state`, read again where a memory kill would explain it: the engine may learn of one after the exit."""
    if state is None or state.exit_code != 137 or state.oom_killed or attempt.killed:
        return state
    await asyncio.sleep(0.3)
    return await shop.engine.inspect(attempt.container) or state


async def _hear_out(attempt: Attempt) -> None:
    """The last output, also what came without a newline."""
    if attempt.attached is not None:
        whole = await attempt.attached.drained(DRAIN_OUTPUT_S)
        if attempt.attached.broken or not whole:
            attempt.log.say("the connection to the engine broke; some output may be missing")
    attempt.log.end()


async def _deliver(shop: Shop, attempt: Attempt) -> None:
    """Step 9: outputs checked, hashed, uploaded."""
    assignment, place = attempt.assignment, _placed(attempt)
    with attempt.step("outputs"):
        if not shop.mounts:
            await _hand_out(shop, attempt)
        with contextlib.ExitStack() as stack:
            outputs = await asyncio.to_thread(stack.enter_context, opened(place, assignment.outputs))
            attempt.delivered = await deliver(_stage(shop, attempt), outputs)


async def _hand_out(shop: Shop, attempt: Attempt) -> None:
    wanted = {file_name(spec): spec.max_size_bytes for spec in attempt.assignment.outputs}
    out, within_s = _placed(attempt).outputs, shop.config.transfer_timeout_s
    await fetch_files(shop.engine, attempt.container, wanted=wanted, out=out, within_s=within_s)


async def _report(shop: Shop, attempt: Attempt, finish: Finish, freed: Callable[[], Claim | None]) -> list[Assignment]:
    """Step 10: one message, which counts only while the lease is ours."""
    if attempt.hold.why is Letting.LOST:
        raise LostLease("the lease was lost")
    await attempt.live.stop()
    await _store_log(shop, attempt)
    lines, _ = attempt.live.unsent(attempt.log)
    delivered = {output.edge for output in attempt.delivered}
    complete = finish.model_copy(
        update={
            "exit_code": attempt.exit_code if finish.exit_code is None else finish.exit_code,
            "outputs": attempt.delivered if finish.outcome is Outcome.SUCCEEDED else [],
            "absent": [spec.edge for spec in attempt.assignment.outputs if spec.edge not in delivered]
            if finish.outcome is Outcome.SUCCEEDED
            else [],
            "inputs": [staged.found for staged in attempt.staged],
            "lines": [as_line(line) for line in lines],
            "log_key": attempt.log_key,
            "image_digest": attempt.image.digest if attempt.image else "",
            "timings": attempt.timings,
            "next": freed(),
        }
    )
    return await shop.control.finish(complete, give_up=lambda: attempt.hold.why is Letting.LOST)


async def _store_log(shop: Shop, attempt: Attempt) -> None:
    """The whole log into the store, where it was more than is shown live; without it the attempt still counts."""
    if not attempt.log.beyond_live:
        return
    try:
        attempt.log_key = await store_log(_stage(shop, attempt), attempt.log.whole())
    except (NodeFailure, OSError) as error:
        attempt.log.say(f"the whole log could not be stored: {error}")


async def _clean_up(shop: Shop, attempt: Attempt) -> None:
    """Step 11: container with its volumes, directory, threads. What fails is left to the janitor."""
    await attempt.live.stop()
    if attempt.watch:
        attempt.watch.close()
    if attempt.attached:
        attempt.attached.close()
    try:
        await _remove_container(shop, attempt)
        if attempt.attached:
            await attempt.attached.drained(DRAIN_OUTPUT_S)
        if attempt.place:
            await asyncio.to_thread(remove_tree, attempt.place.root)
    except (PuploadError, OSError) as error:
        log.warning("attempt %s leaves something to the janitor: %s", attempt.name, error)
    finally:
        attempt.log.close()


async def _remove_container(shop: Shop, attempt: Attempt) -> None:
    if attempt.container:
        await shop.engine.remove(attempt.container)
    elif attempt.image:
        # A create whose answer was lost may have made one.
        found = await shop.engine.inspect(attempt.name)
        if found and found.labels.get(INSTANCE) == shop.instance:
            await shop.engine.remove(found.id)


def _stage(shop: Shop, attempt: Attempt) -> Stage:
    return Stage(attempt.assignment.ref, shop.control, shop.transfers, shop.config.transfer_timeout_s)


def _placed(attempt: Attempt) -> WorkDir:
    assert attempt.place is not None
    return attempt.place


def work_dir_of(config: WorkerConfig) -> Path:
    """Where attempts have their directories, made if need be."""
    config.work_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    return config.work_dir.resolve()
