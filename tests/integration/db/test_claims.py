"""What a worker gets, and what becomes of what it did not get, on a real PostgreSQL."""

import asyncio
from dataclasses import replace

import pytest

from pupload import queue
from pupload.controller.leasing import KnownWorker
from pupload.controller.picking import Room, pick
from pupload.db.pool import Connection
from pupload.errors import Conflict, StoreUnavailable
from pupload.flow.plan import NodeID, Plan
from pupload.protocol import Beat, Claim
from pupload.queue import QueuedAttempt, next_due_s, take
from pupload.stores.base import Store
from pupload.tiers import TIERS
from tests.support.parts import ROOMY, Desk, checked
from tests.support.runs import a_plan
from tests.support.until import until

pytestmark = pytest.mark.integration


def in_tiers(plan: Plan, **tiers: str) -> Plan:
    """The plan with these nodes in these tiers."""
    changed = {NodeID(node): replace(plan.nodes[NodeID(node)], tier=TIERS[tier]) for node, tier in tiers.items()}
    return replace(plan, nodes={**plan.nodes, **changed})


async def queued(desk: Desk) -> list[str]:
    """The keys of all jobs, in order."""
    async with desk.database.connection() as connection:
        return [row["dedupe_key"] for row in await connection.fetch("SELECT dedupe_key FROM pgqueuer ORDER BY id")]


async def oldest(connection: Connection) -> QueuedAttempt | None:
    """What a claim for all tiers takes."""
    picked = await pick(connection, TIERS, [Room(ROOMY, 1)], 1)
    return picked[0][1] if picked else None


async def test_what_another_claim_is_looking_at_does_not_hide_the_rest(desks: tuple[Desk, Desk]) -> None:
    """A claim that takes from one tier must not hold on to the jobs of others meanwhile: nobody would call again."""
    plan = in_tiers(a_plan("a: -> x", "b: -> y"), a="c-small", b="c-nano")
    await desks[0].create("run_1", plan)

    async def claim_slowly(connection: Connection) -> QueuedAttempt | None:
        first = await oldest(connection)
        second = await desks[1].database.transact(oldest)
        assert first is not None
        assert first.node_id == "a"
        return second

    second = await desks[0].database.transact(claim_slowly)
    assert second is not None
    assert second.node_id == "b"


async def test_jobs_are_taken_in_their_order_over_all_tiers(desk: Desk) -> None:
    plan = in_tiers(
        a_plan("a: -> w", "b: -> x", "c: -> y", "d: -> z"), a="m-large", b="c-nano", c="m-large", d="c-large"
    )
    await desk.create("run_1", plan)
    claimed = await desk.claim(await desk.worker("one"), most=4)
    assert [each.ref.node_id for each in claimed] == ["a", "b", "c", "d"]


async def test_a_delayed_job_is_not_taken_and_tells_when_it_is_due(desk: Desk) -> None:
    async def put_off(connection: Connection) -> tuple[list[QueuedAttempt], float | None]:
        await queue.enqueue(connection, [QueuedAttempt("run_1", "a", 1, "c-nano", delay_s=60)])
        return await take(connection, "c-nano", 1), await next_due_s(connection, ["c-nano"])

    taken, due_s = await desk.database.transact(put_off)
    assert taken == []
    assert due_s is not None
    assert 0 < due_s <= 60


async def test_a_run_that_is_cancelled_leaves_no_job_behind(desk: Desk) -> None:
    """Else the next worker would have to pick them up one by one before it came to anything of use."""
    run_id, _ = await desk.create("run_1", a_plan(*(f"p{place}: -> part{place}" for place in range(30))))
    other, _ = await desk.create("run_2", a_plan("a: -> x"))
    await desk.claim(await desk.worker("one"), most=2)
    await desk.parts.service.cancel(run_id)
    assert await queued(desk) == [f"{other}/a/1"]


async def test_a_job_that_is_being_claimed_does_not_hold_up_a_cancel(desks: tuple[Desk, Desk]) -> None:
    """The claim has the job and wants the run, the cancel has the run and wants the job."""
    run_id, _ = await desks[0].create("run_1", a_plan("a: -> x", "b: -> y"))

    async def claim_while_it_is_cancelled(connection: Connection) -> None:
        assert await oldest(connection) is not None
        await desks[1].parts.service.cancel(run_id)

    await desks[0].database.transact(claim_while_it_is_cancelled)
    assert await queued(desks[0]) == []
    assert await desks[0].claim(await desks[0].worker("one")) == []


async def test_a_claim_that_nobody_waits_for_any_more_is_given_back(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker hung up between commit and answer; it never hears of the attempt, and nobody is charged for it."""
    await desk.create("run_1", a_plan("a: in -> x", static=["in"]))
    worker, signing = await desk.worker("one"), asyncio.Event()

    async def hang(*_: object) -> Store:
        signing.set()
        await asyncio.Event().wait()
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(desk.parts.stores, "of_run", hang)
        claim = asyncio.create_task(desk.claim(worker))
        await signing.wait()
        claim.cancel()
        with pytest.raises(asyncio.CancelledError):
            await claim
    await released_once(desk)
    assert [each.ref.attempt for each in await desk.claim(worker)] == [2]


async def test_an_attempt_that_cannot_be_put_together_fails_and_says_why(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given back instead, it would come again at once, for ever, before all others."""
    await desk.create("run_1", a_plan("a: in -> x", "b: -> y", static=["in"]))
    worker = await desk.worker("one")

    async def fail(*_: object) -> Store:
        raise StoreUnavailable("not now")

    with monkeypatch.context() as patch:
        patch.setattr(desk.parts.stores, "of_run", fail)
        assert [each.ref.node_id for each in await desk.claim(worker, most=2)] == ["b"]
    rows = await checked(desk, "run_1")
    (failed, running) = rows.attempts
    assert (failed["state"], failed["reason"], running["state"]) == ("failed", "infra", "running")
    assert (rows.nodes[0]["status"], rows.nodes[0]["restarts"]) == ("RETRYING", 1)
    assert "not now" in rows.nodes[0]["error"]


async def test_a_finish_is_answered_even_if_no_further_work_can_be_had(desk: Desk) -> None:
    worker = await desk.worker("one", "new")
    await desk.create("run_1", a_plan("a: -> x"))
    assert await desk.parts.claims.follow_up(worker, Claim(instance="old", free=ROOMY)) == []


async def released_once(desk: Desk) -> None:
    """The one attempt that there was has been given back, and the node waits for the next."""
    rows = await checked(desk, "run_1")
    assert [attempt["state"] for attempt in rows.attempts] == ["released"]
    assert [(node["status"], node["charged"], node["restarts"]) for node in rows.nodes] == [("READY", 0, 0)]


async def test_a_claim_cancelled_in_its_transaction_leaves_nothing_running(desk: Desk) -> None:
    """Wherever the cancel strikes, the attempt was never made, or was given back."""
    await desk.create("run_1", a_plan(*(f"p{place}: -> part{place}" for place in range(20))))
    worker = await desk.worker("one")
    for turns in range(0, 120, 4):
        claim = asyncio.create_task(desk.claim(worker))
        for _ in range(turns):
            await asyncio.sleep(0)
        claim.cancel()
        await asyncio.gather(claim, return_exceptions=True)
        if not claim.cancelled():
            break
    rows = await checked(desk, "run_1")
    heard = 0 if claim.cancelled() else 1
    assert [attempt["state"] for attempt in rows.attempts].count("running") == heard


async def test_an_instance_that_was_replaced_while_it_waited_gets_nothing(desk: Desk) -> None:
    worker = await desk.worker("one", "old")
    await desk.greet(worker, "new")
    await desk.create("run_1", a_plan("a: -> x"))
    with pytest.raises(Conflict) as refused:
        await desk.claim(worker, "old")
    assert refused.value.code == "REPLACED"
    assert await queued(desk) == ["run_1/a/1"]
    assert len(await desk.claim(worker, "new")) == 1


async def drain(desk: Desk, worker: KnownWorker, *, drains: bool = True) -> None:
    """The worker says that it takes no more, or says nothing of it."""
    await desk.parts.claims.beat(worker, Beat(instance="one", attempts=[], free=ROOMY, draining=drains, wait_s=0))


async def held(desk: Desk, worker: KnownWorker, instance: str = "one") -> list[str]:
    """The nodes that the worker gets by a claim that waits."""
    claim = Claim(instance=instance, free=ROOMY, most=1, wait_s=5)
    return [each.ref.node_id for each in (await desk.parts.claims.claim(worker, claim)).assignments]


async def test_a_claim_that_is_recalled_is_answered_and_another_worker_s_is_not(desk: Desk) -> None:
    one, two = await desk.worker("one"), await desk.worker("two", "other")
    waiting, others = asyncio.create_task(held(desk, one)), asyncio.create_task(held(desk, two, "other"))
    await until(lambda: len(desk.parts.claims.waits) == 2)
    recall = Claim(instance="one", free=ROOMY, most=1, wait_s=0, recalls=True)
    assert (await desk.parts.claims.claim(one, recall)).assignments == []
    async with asyncio.timeout(3):
        assert await waiting == []
    await desk.create("run_1", a_plan("a: -> x"))
    assert await others == ["a"]


async def test_a_worker_that_drains_gets_nothing_by_a_claim_of_before(desks: tuple[Desk, Desk]) -> None:
    """It may have hung up when the answer comes."""
    await desks[0].create("run_1", a_plan("a: -> x"))
    draining, other = await desks[0].worker("one"), await desks[0].worker("two")
    await drain(desks[1], draining)
    await drain(desks[1], draining, drains=False)
    assert await held(desks[0], draining) == []
    assert await held(desks[0], other) == ["a"]


async def test_a_worker_that_drains_keeps_nothing_from_those_that_claim_beside_it(desk: Desk) -> None:
    await desk.create("run_1", a_plan("a: -> x", "b: -> y"))
    draining, *others = [await desk.worker(name) for name in ("one", "two", "three")]
    await drain(desk, draining)
    first, one, second, other = await asyncio.gather(
        *(held(desk, each) for each in (draining, others[0], draining, others[1]))
    )
    assert (first, second, sorted(one + other)) == ([], [], ["a", "b"])


async def test_a_worker_that_starts_anew_after_its_drain_gets_work(desk: Desk) -> None:
    await desk.create("run_1", a_plan("a: -> x"))
    worker = await desk.worker("one")
    await drain(desk, worker)
    await desk.greet(worker, "two")
    assert await held(desk, worker, "two") == ["a"]
