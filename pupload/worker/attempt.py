"""One attempt: a value that goes through named steps, each with a deadline; whatever happens, the last cleans up.

Source: design.md 5.
"""

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable

from pupload.containers.archive import fetch_files, send_files
from pupload.containers.cgroup import kill_survivors
from pupload.containers.docker import NameTaken, Refused
from pupload.containers.janitor import INSTANCE, remove_tree
from pupload.containers.logs import Log
from pupload.containers.spec import ContainerSpec, GpuDevice
from pupload.errors import EngineUnavailable, LostLease, PuploadError
from pupload.failpoints import reach
from pupload.flow.plan import Reason
from pupload.protocol import Assignment, Claim, Finish, Outcome
from pupload.worker.attachments import hand_in_attachments, room_for_attachments, stage_attachments
from pupload.worker.container import container_spec, owner_of, ports_of
from pupload.worker.egress import ensure_walled
from pupload.worker.ending import until_exit
from pupload.worker.failure import NodeFailure, Stopped
from pupload.worker.folders import hand_in_folders, keep_folders, room_for, stage_folders
from pupload.worker.hold import Hold
from pupload.worker.image import require_image
from pupload.worker.live import LiveLog
from pupload.worker.outputs import file_name, opened
from pupload.worker.report import failed, report, stopped
from pupload.worker.shop import Attempt, Shop, placed, stage_of
from pupload.worker.snapshots import of_inputs, of_outputs
from pupload.worker.staging import deliver, stage_inputs
from pupload.worker.tools import asks, hand_in_sheets, lay_out, read_calls
from pupload.worker.verdict import judge, start_failure
from pupload.worker.workdir import WorkDir, lacking, make_work_dir

DRAIN_OUTPUT_S = 10.0
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")

log = logging.getLogger(__name__)


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
    patience_s = shop.config.let_go_s
    try:
        finish = await _outcome(shop, attempt)
        ended(await hold.unless_stuck(report(shop, attempt, finish, freed), patience_s))
    except LostLease as lost:
        log.warning("attempt %s is no longer ours, dropped: %s", attempt.name, lost)
    except Stopped:
        log.warning("attempt %s was to end, and its report was stuck for %g s: dropped", attempt.name, patience_s)
    finally:
        await _clean_up(shop, attempt)


async def _outcome(shop: Shop, attempt: Attempt) -> Finish:
    ref = attempt.assignment.ref
    try:
        await attempt.hold.unless_stuck(_work(shop, attempt), shop.config.let_go_s)
        return Finish(ref=ref, outcome=Outcome.SUCCEEDED if attempt.calls is None else Outcome.ASKED)
    except NodeFailure as failure:
        return failed(ref, failure)
    except Stopped:
        return stopped(ref, attempt.hold)
    except (EngineUnavailable, Refused, NameTaken) as error:
        return failed(ref, NodeFailure(Reason.INFRA, str(error)))
    except OSError as error:
        return failed(ref, NodeFailure(Reason.INFRA, f"the worker's disk or network failed: {error}"))
    except LostLease:
        raise
    except PuploadError as error:
        return failed(ref, NodeFailure(Reason.INFRA, str(error)))
    except Exception as error:
        # A fault of this program must not leave the attempt to its lease's end, unexplained.
        log.exception("attempt %s met a fault of this program", attempt.name)
        return failed(ref, NodeFailure(Reason.INFRA, f"a fault of the worker itself: {error!r}"))


async def _work(shop: Shop, attempt: Attempt) -> None:
    hold = attempt.hold
    await hold.unless_told(_make_room(shop, attempt))
    await hold.unless_told(_gather(shop, attempt))
    # A create or start that is cut short would go on inside the engine, unseen; each has its own deadline.
    await _create(shop, attempt)
    await hold.unless_told(_hand_in(shop, attempt))
    await _start(shop, attempt)
    state = await until_exit(shop, attempt)
    await reach("attempt.exited")
    await _hear_out(attempt)
    attempt.exit_code = state.exit_code if state else None
    if asks(attempt, state):
        await hold.unless_told(_ask(shop, attempt))
        return
    judge(attempt.assignment, state, attempt.log, attempt.killed)
    await hold.unless_told(_deliver(shop, attempt))


async def _make_room(shop: Shop, attempt: Attempt) -> None:
    """Step 2: a directory for the files, and room for them."""
    assignment = attempt.assignment
    _require_plain_names(attempt)
    needed = sum(spec.content.size_bytes for spec in assignment.inputs if spec.content) + room_for(assignment.folders)
    needed += room_for_attachments(assignment)
    parent, owner = shop.config.work_dir, owner_of(shop, assignment)

    def make() -> WorkDir:
        problem = lacking(parent, needed)
        if problem:
            raise NodeFailure(Reason.INFRA, problem)
        place = make_work_dir(parent, attempt.name, owner)
        if assignment.tools:
            lay_out(place, assignment.tools)
        return place

    attempt.place = await asyncio.to_thread(make)
    await reach("attempt.placed")


def _require_plain_names(attempt: Attempt) -> None:
    """Return when nothing that becomes a path leads out of its folder: not even a controller says what else is written.

    Errors: NodeFailure.
    """
    assignment = attempt.assignment
    files = [attempt.name, *ports_of(assignment), *(file_name(spec) for spec in assignment.outputs)]
    for name in (*files, *(each.name for each in assignment.attachments)):
        if not _NAME.fullmatch(name):
            raise NodeFailure(Reason.POLICY, f"{name[:200]!r} is no name for a file", final=True)


async def _gather(shop: Shop, attempt: Attempt) -> None:
    """Steps 3 and 4 at once: inputs, attachments, kept folders and image."""
    assignment = attempt.assignment
    place = placed(attempt)
    inputs = asyncio.ensure_future(stage_inputs(stage_of(shop, attempt), assignment.inputs, place.inputs))
    image = asyncio.ensure_future(require_image(shop, attempt))
    folders = asyncio.ensure_future(stage_folders(shop, attempt))
    attachments = asyncio.ensure_future(stage_attachments(shop, attempt))
    try:
        with attempt.step("gather"):
            _, attempt.image, _, _ = await asyncio.gather(inputs, image, folders, attachments)
    finally:
        for each in (inputs, image, folders, attachments):
            each.cancel()
        await asyncio.gather(inputs, image, folders, attachments, return_exceptions=True)
        # Also where the image was not to be had: what has come in is reported.
        attempt.staged = [] if inputs.cancelled() or inputs.exception() else inputs.result()
    if assignment.snapshot_bytes:
        attempt.snapshots = await asyncio.to_thread(of_inputs, attempt.staged, assignment.snapshot_bytes)


async def _create(shop: Shop, attempt: Attempt) -> None:
    """Step 5."""
    spec = container_spec(shop, attempt)
    if spec.egress:
        await ensure_walled(shop.egress)
    with attempt.step("create"):
        try:
            await reach("container.creating")
            attempt.container = await _created(shop, attempt, spec)
            await reach("container.created")
        except Refused as refused:
            if refused.status == 400:
                text = f"the engine refuses this container: {refused}"
                raise NodeFailure(Reason.POLICY, text, final=True) from refused
            raise


async def _created(shop: Shop, attempt: Attempt, spec: ContainerSpec) -> str:
    try:
        return await shop.engine.create(spec)
    except Refused as refused:
        shop.images.forget(spec.image)
        if refused.status != 404:
            raise
    # Somebody has removed the image since it was looked for.
    attempt.image = await attempt.hold.unless_told(require_image(shop, attempt))
    return await shop.engine.create(container_spec(shop, attempt))


async def _hand_in(shop: Shop, attempt: Attempt) -> None:
    """Step 5, where the engine does not see our directory: the inputs by a stream."""
    if shop.mounts:
        return
    paths, within_s = [staged.path for staged in attempt.staged], shop.config.transfer_timeout_s
    with attempt.step("hand_in"):
        await send_files(shop.engine, attempt.container, paths, owner=placed(attempt).owner, within_s=within_s)
        await hand_in_attachments(shop, attempt)
        await hand_in_folders(shop, attempt)
        await hand_in_sheets(shop, attempt)


async def _start(shop: Shop, attempt: Attempt) -> None:
    """Step 6: ears first, then the start."""
    await attempt.hold.unless_told(shop.starts.acquire())
    try:
        with attempt.step("start"):
            await _listen(shop, attempt)
            await reach("container.starting")
            await shop.engine.start(attempt.container)
            await reach("container.started")
    except Refused as refused:
        raise start_failure(attempt.assignment, refused) from refused
    finally:
        shop.starts.release()


async def _listen(shop: Shop, attempt: Attempt) -> None:
    async def attach() -> None:
        attempt.attached = await shop.engine.attach(attempt.container, attempt.log.feed)

    async def watch() -> None:
        attempt.watch = await shop.engine.watch(attempt.container)

    done = await asyncio.gather(attach(), watch(), return_exceptions=True)
    for error in done:
        if error is not None:
            raise error


async def _hear_out(attempt: Attempt) -> None:
    """The last output, also what came without a newline."""
    if attempt.attached is not None and not await attempt.attached.drained(DRAIN_OUTPUT_S):
        attempt.log.say(f"the engine did not end the output within {DRAIN_OUTPUT_S:g} s; some may be missing")
    attempt.log.end()


async def _ask(shop: Shop, attempt: Attempt) -> None:
    """Step 9 of an attempt that ends with a question: what it asks, and the folders it will go on with."""
    with attempt.step("outputs"):
        attempt.calls = await read_calls(shop, attempt)
    await keep_folders(shop, attempt)


async def _deliver(shop: Shop, attempt: Attempt) -> None:
    """Step 9: outputs and kept folders checked, hashed, uploaded."""
    assignment, place = attempt.assignment, placed(attempt)
    with attempt.step("outputs"):
        if not shop.mounts:
            await _hand_out(shop, attempt)
        with contextlib.ExitStack() as stack:
            outputs = await asyncio.to_thread(stack.enter_context, opened(place, assignment.outputs))
            await reach("outputs.checked")
            if limit := assignment.snapshot_bytes:
                attempt.snapshots += await asyncio.to_thread(of_outputs, outputs, limit)
            attempt.delivered = await deliver(stage_of(shop, attempt), outputs)
    await keep_folders(shop, attempt)


async def _hand_out(shop: Shop, attempt: Attempt) -> None:
    wanted = {file_name(spec): spec.max_size_bytes for spec in attempt.assignment.outputs}
    out, within_s = placed(attempt).outputs, shop.config.transfer_timeout_s
    await fetch_files(shop.engine, attempt.container, wanted=wanted, out=out, within_s=within_s)


async def _clean_up(shop: Shop, attempt: Attempt) -> None:
    """Step 11: container with its volumes, directory, threads. What fails is left to the janitor."""
    shop.images.let_go(attempt.name)
    await attempt.live.stop()
    if attempt.watch:
        attempt.watch.close()
    if attempt.attached:
        attempt.attached.close()
    try:
        async with asyncio.timeout(shop.config.let_go_s):
            await reach("cleanup.begun")
            await _remove_container(shop, attempt)
            await reach("cleanup.container_gone")
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
        left = await asyncio.to_thread(kill_survivors, attempt.container)
        if left:
            log.warning("%d processes had outlived container %s and were killed", left, attempt.name)
    elif attempt.image:
        # A create whose answer was lost may have made one.
        found = await shop.engine.inspect(attempt.name)
        if found and found.labels.get(INSTANCE) == shop.instance:
            await shop.engine.remove(found.id)
