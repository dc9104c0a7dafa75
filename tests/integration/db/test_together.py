"""Ends and claims that come at about the same time share a transaction, and one is not spoilt by another."""

import asyncio

import pytest

from pupload.db.pool import Connection
from pupload.db.runs import lock_run
from pupload.errors import Conflict, LostLease
from pupload.protocol import Assignment, Finish, Line
from pupload.run.state import RunID
from tests.support.parts import Desk, a_success, checked, until_blocked
from tests.support.runs import BEGINNING, a_plan

pytestmark = pytest.mark.integration

CHAINS = 6


async def chains(desk: Desk) -> dict[RunID, Assignment]:
    """Runs of two nodes, one after the other; one worker holds the first of each."""
    runs = [(await desk.create(f"run_{place}", a_plan("a: -> x", "b: x -> y")))[0] for place in range(CHAINS)]
    held = {RunID(each.ref.run_id): each for each in await desk.claim(await desk.worker("one"), most=CHAINS)}
    return {run_id: held[run_id] for run_id in runs}


async def transactions(desk: Desk, column: str) -> int:
    """In how many transactions the attempts got that: `now()` is a transaction's own."""
    async with desk.database.connection() as connection:
        times = await connection.fetchval(f"SELECT count(DISTINCT {column}) FROM attempts")
    return int(times)


async def test_ends_that_come_at_once_share_a_transaction(desk: Desk) -> None:
    held = await chains(desk)
    await asyncio.gather(*(desk.parts.reports.finish(a_success(each)) for each in held.values()))
    assert await transactions(desk, "finished_at") <= 2
    for run_id in held:
        await checked(desk, run_id)


async def test_claims_that_come_at_once_share_a_transaction_and_go_round(desk: Desk) -> None:
    plan = a_plan(*(f"p{place}: -> part{place}" for place in range(CHAINS)))
    runs = [(await desk.create(f"run_{place}", plan))[0] for place in range(4)]
    workers = [await desk.worker(name) for name in ("one", "two", "three")]
    given = await asyncio.gather(*(desk.claim(worker, most=8) for worker in workers))
    assert sorted(len(each) for each in given) == [8, 8, 8]
    assert await transactions(desk, "claimed_at") <= 2
    for run_id in runs:
        await checked(desk, run_id)


async def test_the_lines_of_many_ends_of_one_run_are_all_told(desk: Desk) -> None:
    plan = a_plan(*(f"p{place}: -> part{place}" for place in range(CHAINS)))
    run_id, _ = await desk.create("run_1", plan)
    held = await desk.claim(await desk.worker("one"), most=CHAINS)

    def last_words(assignment: Assignment) -> Finish:
        line = Line(at=BEGINNING, stream="stdout", text=assignment.ref.node_id)
        return a_success(assignment).model_copy(update={"lines": [line]})

    await asyncio.gather(*(desk.parts.reports.finish(last_words(each)) for each in held))
    told = await checked(desk, run_id)
    assert sorted(told.lines) == [f"p{place}" for place in range(CHAINS)]
    assert told.header["status"] == "COMPLETE"


async def test_an_end_that_is_not_its_teller_s_any_more_spoils_no_other(desk: Desk) -> None:
    held = await chains(desk)
    stale, *good = [a_success(each) for each in held.values()]
    stale = stale.model_copy(update={"ref": stale.ref.model_copy(update={"lease": "0" * 32})})
    answers = await asyncio.gather(
        *(desk.parts.reports.finish(each) for each in (good[0], stale, *good[1:])), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [type(None), LostLease, *[type(None)] * (CHAINS - 2)]
    for run_id in held:
        await checked(desk, run_id)


async def test_a_worker_that_was_started_anew_elsewhere_spoils_no_other_claim(desk: Desk) -> None:
    plan = a_plan(*(f"p{place}: -> part{place}" for place in range(CHAINS)))
    run_id, _ = await desk.create("run_1", plan)
    old, good = await desk.worker("old"), await desk.worker("good")
    first, refused, given = await asyncio.gather(
        desk.claim(good, most=1), desk.claim(old, "another", most=2), desk.claim(good, most=2), return_exceptions=True
    )
    assert isinstance(refused, Conflict)
    assert isinstance(first, list)
    assert isinstance(given, list)
    assert len(first) + len(given) == 3
    await checked(desk, run_id)


async def test_a_run_that_somebody_holds_keeps_no_other_from_ending(desks: tuple[Desk, Desk]) -> None:
    desk = desks[0]
    held = await chains(desk)
    stuck, *others = held

    async def hold(connection: Connection) -> asyncio.Task[None]:
        await lock_run(connection, stuck)
        telling = {
            run_id: asyncio.create_task(desk.parts.reports.finish(a_success(each))) for run_id, each in held.items()
        }
        await asyncio.gather(*(telling[run_id] for run_id in others))
        await until_blocked(desks[1])
        return telling[stuck]

    await (await desks[1].database.transact(hold))
    for run_id in held:
        await checked(desk, run_id)
