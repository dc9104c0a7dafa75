"""The grip on an attempt: who lets go of it first decides why, and a lost lease overrides all."""

import asyncio

import pytest

from pupload.flow.plan import Reason
from pupload.worker.failure import Stopped
from pupload.worker.hold import Hold, Letting

pytestmark = pytest.mark.unit


async def test_a_step_goes_through_while_nobody_says_otherwise() -> None:
    assert await Hold().unless_told(asyncio.sleep(0, "done")) == "done"


async def test_a_step_is_cancelled_and_waited_for_when_the_attempt_is_to_end() -> None:
    hold, cleaned = Hold(), asyncio.Event()

    async def step() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    going = asyncio.create_task(hold.unless_told(step()))
    await asyncio.sleep(0)
    hold.stop(Reason.CANCELLED)
    with pytest.raises(Stopped):
        await going
    assert cleaned.is_set()


async def test_a_step_s_own_failure_comes_through() -> None:
    async def step() -> None:
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        await Hold().unless_told(step())


def test_the_first_word_counts_and_a_lost_lease_overrides_it() -> None:
    hold = Hold()
    hold.stop(Reason.TIMEOUT)
    hold.release()
    assert (hold.why, hold.reason) == (Letting.STOPPED, Reason.TIMEOUT)
    hold.lose()
    assert hold.why is Letting.LOST
