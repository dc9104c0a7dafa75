"""One session from many sides at once, on a real PostgreSQL: one writer at a time, and no change is lost."""

import asyncio
import logging
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from pupload.controller.service import Beginning
from pupload.db.pool import Connection
from pupload.db.sql import SQL
from pupload.flow.plan import Plan
from pupload.protocol import Assignment, FolderFound
from pupload.run.state import RunID
from tests.support.parts import Desk, a_new_run, a_success, an_upload, checked, deadlocks, until_blocked
from tests.support.runs import a_plan

pytestmark = pytest.mark.integration

SESSION = "ses_1"


async def in_session(desk: Desk, run_id: str, plan: Plan, *, fresh: bool = False) -> RunID:
    """A run of the session, or the one that the session is made with."""
    new, beginning = a_new_run(run_id, replace(plan, session_id=SESSION))
    stored, _ = await desk.parts.service.create(replace(new, session_id=SESSION, session_is_new=fresh), beginning)
    return stored


async def changed(desk: Desk, held: Assignment) -> None:
    """The attempt's good end, with the session's folder changed."""
    folder = FolderFound(name="session", key="", size_bytes=1, sha256=held.ref.lease)
    await desk.parts.reports.finish(a_success(held).model_copy(update={"folders": [folder]}))


async def version(desk: Desk) -> int:
    """How often the session's folder has changed."""
    async with desk.database.connection() as connection:
        return int(await connection.fetchval("SELECT version FROM sessions WHERE id = $1", SESSION))


async def work_off(desk: Desk, worker_name: str, runs: int, using: Counter[str], seen: list[int]) -> None:
    """Claim and finish until nothing of the runs is left; each attempt is counted as long as it is held."""
    worker = await desk.worker(worker_name)
    while await version(desk) < runs:
        for held in await desk.claim(worker):
            using[SESSION] += 1
            seen.append(using[SESSION])
            await asyncio.sleep(0.02)
            using[SESSION] -= 1
            await changed(desk, held)
        await asyncio.sleep(0.05)


async def test_runs_that_name_a_session_have_it_one_after_the_other(desks: tuple[Desk, Desk]) -> None:
    await in_session(desks[0], "run_0", a_plan("p: -> o"), fresh=True)
    runs = [await in_session(desks[n % 2], f"run_{n}", a_plan("p: -> o")) for n in range(1, 6)]
    using, seen = Counter[str](), list[int]()
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for name, desk in zip("abcd", desks * 2, strict=True):
            group.create_task(work_off(desk, name, 6, using, seen))
    assert set(seen) == {1}
    assert await version(desks[0]) == 6
    for run_id in runs:
        rows = await checked(desks[0], run_id)
        assert (rows.header["status"], len(rows.attempts)) == ("COMPLETE", 1)
    assert await deadlocks(desks[0]) == 0


async def test_of_many_changes_at_once_one_counts_and_the_others_are_made_again(desks: tuple[Desk, Desk]) -> None:
    width = 5
    plan = a_plan(*(f"p{place}: -> part{place}" for place in range(width)))
    run_id = await in_session(desks[0], "run_0", plan, fresh=True)
    held = await desks[0].claim(await desks[0].worker("all"), most=width)
    await asyncio.gather(*(changed(desks[place % 2], each) for place, each in enumerate(held)))
    assert await version(desks[0]) == 1
    rows = await checked(desks[0], run_id)
    assert sorted(node["status"] for node in rows.nodes) == ["COMPLETE", *["READY"] * (width - 1)]
    using, seen = Counter[str](), list[int]()
    async with asyncio.timeout(60):
        await work_off(desks[1], "again", width, using, seen)
    assert len(seen) == width - 1
    rows = await checked(desks[0], run_id)
    assert rows.header["status"] == "COMPLETE"
    assert [node["charged"] + node["restarts"] for node in rows.nodes] == [0] * width
    assert await deadlocks(desks[0]) == 0


async def test_a_run_that_begins_with_an_object_of_another_of_its_session_is_in_nobodys_way(
    desks: tuple[Desk, Desk], caplog: pytest.LogCaptureFixture
) -> None:
    desk, other = desks
    caplog.set_level(logging.INFO, logger="pupload.db.pool")
    caller = await in_session(desk, "run_0", a_plan("p: in -> o", "q: extra -> r"), fresh=True)
    await desk.receive(caller, "in")
    holds, called = asyncio.Event(), asyncio.Event()

    async def an_event(connection: Connection) -> None:
        await connection.fetch(SQL["lock_runs"], [caller])
        holds.set()
        await called.wait()
        await connection.fetchrow(SQL["lock_session"], SESSION)

    new, _ = a_new_run("run_1", replace(a_plan("u: in -> o"), session_id=SESSION))
    lent = Beginning((replace(an_upload(caller, "in"), origin=caller),))
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(other.database.transact(an_event))
        await holds.wait()
        group.create_task(desk.parts.service.create(replace(new, session_id=SESSION, uploads=[]), lent))
        await until_blocked(other)
        called.set()
    assert "transaction repeated" not in caplog.text


async def test_a_session_that_was_used_after_it_was_found_expired_stays(desk: Desk) -> None:
    retention = timedelta(seconds=desk.config.session_retention_s)
    await in_session(desk, "run_0", a_plan("p: -> o"), fresh=True)
    worker = await desk.worker("w")
    await changed(desk, (await desk.claim(worker))[0])
    async with desk.database.connection() as connection:
        await connection.execute("UPDATE sessions SET used_at = now() - 2 * $1::interval", retention)
        (found,) = await connection.fetch(SQL["expired_sessions"], retention)
    await in_session(desk, "run_1", a_plan("p: -> o"))
    await changed(desk, (await desk.claim(worker))[0])
    await desk.parts.sessions.expire(found["id"])
    assert (await desk.parts.sessions.get(SESSION, "")).version == 2
