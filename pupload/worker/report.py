"""Step 10 of an attempt: one message that says how it ended."""

import asyncio
from collections.abc import Callable

from pupload.errors import LostLease
from pupload.failpoints import reach
from pupload.flow.plan import Reason
from pupload.protocol import Assignment, AttemptRef, Claim, Finish, Outcome
from pupload.worker.failure import NodeFailure
from pupload.worker.hold import Hold, Letting
from pupload.worker.live import as_line
from pupload.worker.shop import Attempt, Shop, stage_of
from pupload.worker.staging import store_log

LOG_S = 60.0


def failed(ref: AttemptRef, failure: NodeFailure) -> Finish:
    """The finish that says what failed."""
    return Finish(
        ref=ref,
        outcome=Outcome.FAILED,
        reason=failure.reason,
        message=failure.message,
        exit_code=failure.exit_code,
        final=failure.final,
    )


def stopped(ref: AttemptRef, hold: Hold) -> Finish:
    """The finish of an attempt that was told to end.

    Errors: LostLease when there is nobody to tell.
    """
    match hold.why:
        case Letting.RELEASED:
            return Finish(ref=ref, outcome=Outcome.RELEASED, message="the worker is shutting down")
        case Letting.LOST | None:
            raise LostLease("the lease was lost")
        case Letting.STOPPED:
            text = "the node was stopped" if hold.reason is Reason.CANCELLED else f"stopped: {hold.reason}"
            return failed(ref, NodeFailure(hold.reason, text))


async def report(shop: Shop, attempt: Attempt, finish: Finish, freed: Callable[[], Claim | None]) -> list[Assignment]:
    """The next work. `finish` is sent with all that the steps have found; it counts only while the lease is ours.

    Errors: LostLease.
    """
    if attempt.hold.why is Letting.LOST:
        raise LostLease("the lease was lost")
    await attempt.live.stop()
    await _store_log(shop, attempt)
    lines, first_line = attempt.live.unsent(attempt.log)
    found: dict[str, object] = {
        "exit_code": attempt.exit_code if finish.exit_code is None else finish.exit_code,
        "inputs": [staged.found for staged in attempt.staged],
        "folders": attempt.kept,
        "lines": [as_line(line) for line in lines],
        "first_line": first_line,
        "log_key": attempt.log_key,
        "image_digest": attempt.image.digest if attempt.image else "",
        "timings": attempt.timings,
        "tool_calls": attempt.calls or "",
        "snapshots": attempt.snapshots,
        "next": freed(),
    }
    if finish.outcome is Outcome.SUCCEEDED:
        found |= {"outputs": attempt.delivered, "absent": _absent(attempt)}
    complete = finish.model_copy(update=found)
    await reach("finish.sending")
    following = await shop.control.finish(complete, give_up=lambda: attempt.hold.why is Letting.LOST)
    await reach("finish.heard")
    return following


def _absent(attempt: Attempt) -> list[str]:
    delivered = {output.edge for output in attempt.delivered}
    return [spec.edge for spec in attempt.assignment.outputs if spec.edge not in delivered]


async def _store_log(shop: Shop, attempt: Attempt) -> None:
    """The whole log into the store, where it was more than is shown live; without it the attempt still counts."""
    if not attempt.log.beyond_live:
        return
    try:
        async with asyncio.timeout(LOG_S):
            attempt.log_key = await store_log(stage_of(shop, attempt), attempt.log.whole())
    except (NodeFailure, OSError) as error:
        attempt.log.say(f"the whole log could not be stored: {error}")
