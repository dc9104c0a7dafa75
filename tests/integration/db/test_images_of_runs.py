"""What an image's name means is settled once for each run, whoever looks first, on a real PostgreSQL."""

import asyncio

import pytest

from pupload.errors import InvalidRequest, LostLease
from pupload.flow.plan import Reason
from pupload.protocol import Assignment, AttemptRef, Claim, Finish, Outcome, Pin
from tests.support.parts import ROOMY, Desk
from tests.support.runs import a_plan

pytestmark = pytest.mark.integration
ONE, TWO = "r/i@sha256:1", "r/i@sha256:2"


async def claim(desk: Desk, name: str, *, known: str = "") -> Assignment:
    """The next attempt, for a worker of this name to whom the tag of every node means `known`."""
    worker = await desk.worker(name)
    images = {"test/node:1": known} if known else {}
    [taken] = await desk.parts.claims.fill(worker, Claim(instance="one", free=ROOMY, images=images))
    return taken


async def pin(desk: Desk, ref: AttemptRef, exact: str) -> str:
    return (await desk.parts.reports.pin(Pin(ref=ref, image="test/node:1", exact=exact))).exact


async def test_the_first_claim_that_knows_settles_it_for_all_nodes(desks: tuple[Desk, Desk]) -> None:
    await desks[0].create("run_1", a_plan("a: -> x", "b: -> y", "c: -> z"))
    unknown = await claim(desks[0], "cold")
    first = await claim(desks[0], "warm", known=ONE)
    second = await claim(desks[1], "other", known=TWO)
    assert (unknown.exact, first.exact, second.exact) == ("", ONE, ONE)
    assert await pin(desks[1], unknown.ref, TWO) == ONE


async def test_a_retry_uses_what_the_attempt_before_it_used(desk: Desk) -> None:
    await desk.create("run_1", a_plan("a: -> x"))
    lost = await claim(desk, "first", known=ONE)
    await desk.parts.reports.finish(Finish(ref=lost.ref, outcome=Outcome.FAILED, reason=Reason.INFRA))
    async with desk.database.connection() as connection:
        await connection.execute("UPDATE pgqueuer SET execute_after = now()")
    again = await claim(desk, "second", known=TWO)
    assert (again.ref.attempt, again.exact) == (2, ONE)


async def test_two_who_look_at_once_are_told_the_same(desks: tuple[Desk, Desk]) -> None:
    await desks[0].create("run_1", a_plan("a: -> x", "b: -> y"))
    refs = [(await claim(desk, name)).ref for desk, name in zip(desks, ("left", "right"), strict=True)]
    told = await asyncio.gather(pin(desks[0], refs[0], ONE), pin(desks[1], refs[1], TWO))
    assert len(set(told)) == 1


async def test_another_run_asks_anew(desk: Desk) -> None:
    await desk.create("run_1", a_plan("a: -> x"))
    await desk.create("run_2", a_plan("a: -> x"))
    assert [(await claim(desk, "one", known=ONE)).exact, (await claim(desk, "two", known=TWO)).exact] == [ONE, TWO]


async def test_nobody_without_the_lease_settles_anything(desk: Desk) -> None:
    await desk.create("run_1", a_plan("a: -> x"))
    held = (await claim(desk, "one")).ref
    with pytest.raises(LostLease):
        await pin(desk, held.model_copy(update={"lease": "another"}), TWO)
    assert await pin(desk, held, ONE) == ONE


async def test_a_worker_says_nothing_of_images_that_it_does_not_run(desk: Desk) -> None:
    await desk.create("run_1", a_plan("a: -> x"))
    held = (await claim(desk, "one")).ref
    with pytest.raises(InvalidRequest):
        await desk.parts.reports.pin(Pin(ref=held, image="another/node:1", exact=TWO))
    async with desk.database.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM run_images") == 0
