"""What happens to one run from many sides at once, on a real PostgreSQL."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from pupload.controller.lines import record_lines
from pupload.db.pool import Connection
from pupload.db.runs import lock_run
from pupload.db.sql import SQL
from pupload.errors import Conflict, LostLease
from pupload.protocol import Assignment, Beat, InputFound, Line, Lines, Pin, Pinned
from pupload.run.state import RunID
from pupload.stores.base import Head
from tests.support.parts import ROOMY, Desk, a_success, checked, deadlocks, until_blocked
from tests.support.runs import BEGINNING, a_plan, fan

pytestmark = pytest.mark.integration


async def side_by_side(desk: Desk, width: int) -> tuple[RunID, list[Assignment]]:
    """A run of so many nodes next to each other, each held by one worker."""
    plan = a_plan(*(f"p{place}: -> part{place}" for place in range(width)))
    run_id, _ = await desk.create("run_1", plan)
    return run_id, await desk.claim(await desk.worker("one"), most=width)


async def at_once(calls: list[Coroutine[Any, Any, Any]]) -> list[Any]:
    """What each call gave or raised."""
    return await asyncio.gather(*calls, return_exceptions=True)


def too_large(key: str) -> Head:
    """An object that nobody may upload."""
    return Head(key, 10**12, "e", BEGINNING)


def told(assignment: Assignment, text: str, progress: float | None = None) -> Lines:
    """One log line of the attempt."""
    return Lines(ref=assignment.ref, lines=[Line(at=BEGINNING, stream="stdout", text=text)], progress=progress)


async def test_eight_finishes_of_one_run_are_all_accepted(desks: tuple[Desk, Desk]) -> None:
    run_id, held = await side_by_side(desks[0], 8)
    finishes = [desks[place % 2].parts.reports.finish(a_success(each)) for place, each in enumerate(held)]
    assert await at_once(finishes) == [None] * 8
    assert (await checked(desks[0], run_id)).header["status"] == "COMPLETE"


async def test_one_finish_reported_eight_times_is_accepted_once(desks: tuple[Desk, Desk]) -> None:
    run_id, (held, _) = await side_by_side(desks[0], 2)
    answers = await at_once([desks[place % 2].parts.reports.finish(a_success(held)) for place in range(8)])
    assert answers.count(None) == 1
    assert sum(isinstance(answer, LostLease) for answer in answers) == 7
    await checked(desks[0], run_id)


async def test_a_finish_that_is_repeated_changes_nothing(desk: Desk) -> None:
    run_id, (held, _) = await side_by_side(desk, 2)
    await desk.parts.reports.finish(a_success(held))
    before = await checked(desk, run_id)
    with pytest.raises(LostLease):
        await desk.parts.reports.finish(a_success(held))
    after = await checked(desk, run_id)
    assert (after.header, after.nodes, after.events) == (before.header, before.nodes, before.events)


async def test_eight_cancels_and_eight_finishes_at_once_leave_one_end(desks: tuple[Desk, Desk]) -> None:
    run_id, held = await side_by_side(desks[0], 8)
    cancels = [desks[place % 2].parts.service.cancel(run_id) for place in range(8)]
    finishes = [desks[place % 2].parts.reports.finish(a_success(each)) for place, each in enumerate(held)]
    assert await at_once([call for pair in zip(finishes, cancels, strict=True) for call in pair]) == [None] * 16
    assert (await checked(desks[0], run_id)).header["status"] in {"STOPPED", "COMPLETE"}
    assert await deadlocks(desks[0]) == 0


async def test_one_object_noticed_eight_times_is_received_once(desks: tuple[Desk, Desk]) -> None:
    run_id, _ = await desks[0].create("run_1", a_plan(*fan(3)))
    noticed = await at_once([desks[place % 2].receive(run_id, "in") for place in range(8)])
    assert sorted(noticed) == [False] * 7 + [True]
    await checked(desks[0], run_id)


async def test_one_job_goes_to_one_of_eight_claims(desks: tuple[Desk, Desk]) -> None:
    await desks[0].create("run_1", a_plan("a: -> x"))
    workers = [await desks[place % 2].worker(f"w{place}") for place in range(8)]
    claims = await at_once([desks[place % 2].claim(worker, most=3) for place, worker in enumerate(workers)])
    assert sorted(map(len, claims)) == [0] * 7 + [1]
    await checked(desks[0], "run_1")


async def test_one_key_from_ten_requests_makes_one_run(desks: tuple[Desk, Desk]) -> None:
    plan = a_plan("a: -> x")
    made = await at_once([desks[place % 2].create(f"run_{place}", plan, "key") for place in range(10)])
    assert len({run_id for run_id, _ in made}) == 1
    assert [new for _, new in made].count(True) == 1
    with pytest.raises(Conflict):
        await desks[1].create("run_x", plan, "key", b"another body")
    async with desks[0].database.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM runs") == 1


async def test_beats_and_cancels_take_their_locks_in_one_order(desks: tuple[Desk, Desk]) -> None:
    worker = await desks[0].worker("one")
    plan = a_plan(*(f"p{place}: -> part{place}" for place in range(5)))
    runs = [(await desks[0].create(f"run_{place}", plan))[0] for place in range(6)]
    held = await desks[0].claim(worker, most=30)
    refs = [each.ref for each in held]
    beats = [Beat(instance="one", attempts=order, free=ROOMY, wait_s=0) for order in (refs, refs[::-1]) * 3]
    calls = [desks[1].parts.claims.beat(worker, beat) for beat in beats]
    cancels = [desks[0].parts.service.cancel(run_id) for run_id in runs]
    finishes = [desks[0].parts.reports.finish(a_success(each)) for each in held[::3]]
    answers = await at_once([*calls, *cancels, *finishes])
    assert not [answer for answer in answers if isinstance(answer, Exception)]
    assert await deadlocks(desks[0]) == 0
    for run_id in runs:
        await checked(desks[0], run_id)


async def test_progress_waits_for_the_run_before_it_touches_the_node(desks: tuple[Desk, Desk]) -> None:
    """The other way round, whoever holds the run and comes to the node would deadlock with it."""
    run_id, (held, _) = await side_by_side(desks[0], 2)

    async def hold(connection: Connection) -> asyncio.Task[None]:
        await lock_run(connection, run_id)
        telling = asyncio.create_task(record_lines(desks[1].database, told(held, "half", progress=50)))
        await until_blocked(desks[0])
        await connection.execute("SELECT FROM run_nodes WHERE run_id = $1 FOR UPDATE NOWAIT", run_id)
        return telling

    await (await desks[0].database.transact(hold))
    assert await deadlocks(desks[0]) == 0


async def test_who_settles_an_image_waits_for_the_run_before_it_touches_the_image(desks: tuple[Desk, Desk]) -> None:
    """The other way round, a claim that holds the run and says what the image means would deadlock with it."""
    run_id, (held, _) = await side_by_side(desks[0], 2)
    pin = Pin(ref=held.ref, image=held.image, exact="r/i@sha256:2")

    async def hold(connection: Connection) -> "asyncio.Task[Pinned]":
        await lock_run(connection, run_id)
        pinning = asyncio.create_task(desks[1].parts.reports.pin(pin))
        await until_blocked(desks[0])
        await connection.execute(SQL["insert_images"], run_id, [pin.image], ["r/i@sha256:1"])
        return pinning

    assert (await (await desks[0].database.transact(hold))).exact == "r/i@sha256:1"
    assert await deadlocks(desks[0]) == 0


async def test_a_line_that_comes_while_its_attempt_ends_is_refused(desks: tuple[Desk, Desk]) -> None:
    """It would stand behind the run's last event, where no follower looks."""
    run_id, (held,) = await side_by_side(desks[0], 1)

    async def end(connection: Connection) -> asyncio.Task[None]:
        await lock_run(connection, run_id)
        telling = asyncio.create_task(record_lines(desks[1].database, told(held, "too late")))
        await until_blocked(desks[0])
        reports = desks[0].parts.reports
        await reports._end(connection, [await reports._weigh(a_success(held))])
        return telling

    with pytest.raises(LostLease):
        await (await desks[0].database.transact(end))
    assert (await checked(desks[0], run_id)).lines == []


async def test_a_refused_upload_of_a_run_that_is_over_is_not_told(desk: Desk) -> None:
    run_id, _ = await desk.create("run_1", a_plan("a: in -> x"))
    (awaited,) = await desk.parts.uploads.awaited_by(run_id)
    await desk.parts.service.cancel(run_id)
    await desk.parts.uploads._refuse(await desk.parts.stores.of_run(run_id, "default"), awaited, too_large(awaited.key))
    await checked(desk, run_id)


async def test_a_refused_upload_is_told_while_it_is_awaited(desk: Desk) -> None:
    run_id, _ = await desk.create("run_1", a_plan("a: in -> x"))
    (awaited,) = await desk.parts.uploads.awaited_by(run_id)
    await desk.parts.uploads._refuse(await desk.parts.stores.of_run(run_id, "default"), awaited, too_large(awaited.key))
    assert "Refused" in (await checked(desk, run_id)).records[-1].data


async def test_a_success_with_other_bytes_than_the_first_reader_had_is_kept_as_the_failure_that_it_is(
    desk: Desk,
) -> None:
    """The attempt's row says what its node says, and the budget is charged for what the rows show."""
    run_id, _ = await desk.create("run_1", a_plan("a: in -> x", "b: in -> y"))
    await desk.receive(run_id, "in")
    for held, sha256 in zip(await desk.claim(await desk.worker("one"), most=2), ("1", "2"), strict=True):
        read = InputFound(edge="in", size_bytes=3, sha256=sha256, content_type="text/plain")
        await desk.parts.reports.finish(a_success(held).model_copy(update={"inputs": [read]}))
    rows = await checked(desk, run_id)
    assert [(attempt["state"], attempt["reason"]) for attempt in rows.attempts] == [
        ("succeeded", None),
        ("failed", "transfer"),
    ]
    assert "overwritten" in rows.attempts[1]["message"]
