"""Steps 7 and 8 of an attempt: until its program has ended, by itself or by us."""

import asyncio
import contextlib
from typing import Any

from pupload.containers.state import ContainerState
from pupload.errors import EngineUnavailable
from pupload.failpoints import reach
from pupload.flow.plan import Reason
from pupload.units import format_size
from pupload.worker.control import pauses
from pupload.worker.failure import NodeFailure, Stopped
from pupload.worker.hold import Letting
from pupload.worker.shop import Attempt, Shop, placed
from pupload.worker.usage import LOOK_S, beyond

DEAD_S = 20.0
SEAM_S = 1.0
"""A stream that ends is at its right end when the exit is known this soon after."""


async def until_exit(shop: Shop, attempt: Attempt) -> ContainerState | None:
    """What the engine's inspect says after the exit, which alone is believed; None when the container is gone.

    Errors: Stopped by an order; NodeFailure for writing too much; EngineUnavailable.
    """
    over = asyncio.ensure_future(shop.engine.until_exit(attempt.container))
    told = asyncio.ensure_future(attempt.hold.told())
    full = asyncio.ensure_future(_until_too_much(shop, attempt))
    hearing = asyncio.ensure_future(_keep_hearing(shop, attempt))
    ends: set[asyncio.Future[Any]] = {over, told, full}
    try:
        with attempt.step("run"):
            await asyncio.wait(ends, timeout=attempt.assignment.timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not over.done():
                await _kill(shop, attempt, over)
            state = await over
    finally:
        for each in (*ends, hearing):
            each.cancel()
        await asyncio.wait({*ends, hearing})
    if attempt.killed and attempt.hold.why is not None:
        raise Stopped
    if attempt.killed and not full.cancelled():
        raise NodeFailure(Reason.POLICY, full.result(), final=True)
    return await _second_look(shop, attempt, state)


async def _until_too_much(shop: Shop, attempt: Attempt) -> str:
    """What the program did too much of, once it has written more than its tier's disk."""
    tier, place = attempt.assignment.tier, placed(attempt)
    kept = [folder.name for folder in attempt.assignment.folders]
    asked = [place.asked] if attempt.assignment.tools else []
    written = [*asked, place.outputs, *map(place.folder, kept)]
    names = " and ".join(f"/pup/{name}" for name in ["out", *kept])
    while True:
        await asyncio.sleep(LOOK_S)
        excess = await asyncio.to_thread(beyond, written, tier.disk_bytes) if shop.mounts else ""
        if excess:
            return f"the program wrote {excess} to {names}; its tier {tier.name} has {format_size(tier.disk_bytes)}"


async def _keep_hearing(shop: Shop, attempt: Attempt) -> None:
    """Takes up the output again when its stream ends long before the program does."""
    while attempt.attached is not None:
        await attempt.attached.ended()
        await asyncio.sleep(SEAM_S)
        attempt.log.say("the engine's stream of the output broke; a line may be missing here")
        since = attempt.attached.last
        async for _ in pauses():
            with contextlib.suppress(EngineUnavailable):
                attempt.attached = await shop.engine.follow(attempt.container, attempt.log.feed, since)
                break


async def _kill(shop: Shop, attempt: Attempt, over: "asyncio.Future[ContainerState | None]") -> None:
    """TERM, grace, KILL; no grace where nothing that the program still does can count.

    Errors: EngineUnavailable when the container does not end.
    """
    await reach("attempt.killing")
    attempt.killed = attempt.hold.reason if attempt.hold.why else Reason.TIMEOUT
    if attempt.hold.why not in {Letting.LOST, Letting.RELEASED}:
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
