"""One attempt: a value that goes through named steps, each with a deadline; whatever happens, the last cleans up.

Source: design.md 5.
"""

import asyncio
import logging
import re
from collections.abc import Callable

from pupload.containers.archive import fetch_files
from pupload.containers.cgroup import kill_survivors
from pupload.containers.docker import NameTaken, Refused
from pupload.containers.janitor import INSTANCE, remove_tree
from pupload.containers.logs import Log
from pupload.containers.spec import GpuDevice
from pupload.errors import EngineUnavailable, LostLease, PuploadError
from pupload.failpoints import reach
from pupload.flow.plan import Reason
from pupload.protocol import Assignment, Claim, Finish, Outcome
from pupload.worker.container import runtime_of
from pupload.worker.delivery import Delivery
from pupload.worker.ending import until_exit
from pupload.worker.failure import NodeFailure, Stopped
from pupload.worker.folders import keep_folders
from pupload.worker.hold import Hold
from pupload.worker.live import LiveLog
from pupload.worker.outputs import file_name
from pupload.worker.preparing import prepare
from pupload.worker.report import failed, report, stopped
from pupload.worker.shop import Attempt, Shop, placed, stage_of
from pupload.worker.tools import asks, read_calls
from pupload.worker.verdict import judge, start_failure

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
    await prepare(shop, attempt)
    await _start(shop, attempt)
    attempt.delivery = _delivery(shop, attempt)
    state = await until_exit(shop, attempt)
    await reach("attempt.exited")
    await _hear_out(attempt)
    attempt.exit_code = state.exit_code if state else None
    if asks(attempt, state):
        await hold.unless_told(_ask(shop, attempt))
        return
    judge(attempt.assignment, state, attempt.log, attempt.killed)
    await hold.unless_told(_deliver(shop, attempt))


async def _start(shop: Shop, attempt: Attempt) -> None:
    """Step 6: ears first, then the start."""
    await attempt.hold.unless_told(shop.starts.acquire())
    try:
        with attempt.step("start"):
            attempt.attached = await shop.engine.attach(attempt.container, attempt.log.feed)
            await reach("container.starting")
            await shop.engine.start(attempt.container)
            await reach("container.started")
    except Refused as refused:
        raise start_failure(attempt.assignment, refused) from refused
    finally:
        shop.starts.release()


def _delivery(shop: Shop, attempt: Attempt) -> Delivery:
    """Step 9, which begins as soon as nothing of the program runs any more."""
    assignment = attempt.assignment
    delivery = Delivery(stage_of(shop, attempt), placed(attempt), assignment.outputs, assignment.snapshot_bytes)
    if shop.mounts and assignment.outputs:
        runtime = runtime_of(shop.config, assignment.tier.name)
        delivery.begin(shop.departures.until_empty(attempt.container, runtime))
    return delivery


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
    """Step 9: outputs and kept folders in the store."""
    assert attempt.delivery is not None
    with attempt.step("outputs"):
        if not shop.mounts:
            await _hand_out(shop, attempt)
        delivered = await attempt.delivery.outcome()
        attempt.delivered = delivered.found
        attempt.snapshots += delivered.snapshots
    await keep_folders(shop, attempt)


async def _hand_out(shop: Shop, attempt: Attempt) -> None:
    wanted = {file_name(spec): spec.max_size_bytes for spec in attempt.assignment.outputs}
    out, within_s = placed(attempt).outputs, shop.config.transfer_timeout_s
    await fetch_files(shop.engine, attempt.container, wanted=wanted, out=out, within_s=within_s)


async def _clean_up(shop: Shop, attempt: Attempt) -> None:
    """Step 11: container with its volumes, directory, threads. What fails is left to the janitor."""
    shop.images.let_go(attempt.name)
    await attempt.live.stop()
    if attempt.delivery:
        await attempt.delivery.end()
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
