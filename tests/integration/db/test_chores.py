"""Chores whose controller dies, at every point where it can; and two controllers at the same one."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from pupload.controller.leasing import KnownWorker
from pupload.controller.submission import Definition, Start
from pupload.db.creation import Caller
from pupload.flow.plan import NodeID
from pupload.queue import ChoreKind
from pupload.run.state import RunID
from tests.support.flows import a_flow, bound, documents, read
from tests.support.parts import Desk, a_success, checked

pytestmark = pytest.mark.integration

CALLING = a_flow(
    {"ID": "call", "Uses": "flow/child", "Inputs": bound({"in": "photo"}), "Outputs": bound({"out": "result"})}
)


@pytest.fixture
async def parent(desk: Desk) -> AsyncIterator[RunID]:
    """A run whose only node is ready to call a flow."""
    await desk.parts.flows.put("", "child", *read(documents(a_flow(Name=""))))
    flow, defs = read({"Flow": CALLING, "NodeDefs": []})
    run_id = await desk.parts.submission.start(Start(Definition(flow, defs)))
    await desk.receive(run_id, "photo")
    yield run_id
    await checked(desk, run_id)


async def do_all(desk: Desk) -> list[ChoreKind]:
    """The kinds of the chores that there were, done one after the other."""
    kinds = []
    while (chore := await desk.parts.chores.take()) is not None:
        kinds.append(chore.kind)
        await desk.parts.chores.do(chore)
    return kinds


async def forget(desk: Desk) -> None:
    """Every chore is lost, and all of it is long ago."""
    async with desk.database.connection() as connection:
        await connection.execute("DELETE FROM pgqueuer WHERE entrypoint LIKE 'chore:%'")
        await connection.execute("UPDATE attempts SET claimed_at = claimed_at - interval '1 hour'")
        await connection.execute("UPDATE runs SET finished_at = finished_at - interval '1 minute'")
        await connection.execute("UPDATE evaluations SET created_at = created_at - interval '1 hour'")


async def children_of(desk: Desk, parent: RunID) -> list[RunID]:
    """The runs that the run has called."""
    async with desk.database.connection() as connection:
        return [row["id"] for row in await connection.fetch("SELECT id FROM runs WHERE parent_run = $1", parent)]


async def status_of(desk: Desk, run_id: RunID) -> str:
    """The run's status."""
    async with desk.database.connection() as connection:
        return str(await connection.fetchval("SELECT status FROM runs WHERE id = $1", run_id))


async def finish_child(desk: Desk, worker: KnownWorker) -> None:
    """The called run ends well."""
    (assignment,) = await desk.claim(worker)
    await desk.parts.reports.finish(a_success(assignment))


async def test_a_call_is_started_told_of_and_over(desk: Desk, parent: RunID) -> None:
    assert await do_all(desk) == [ChoreKind.CALL]
    await checked(desk, parent)
    await finish_child(desk, await desk.worker("w"))
    assert await do_all(desk) == [ChoreKind.ENDED]
    assert await status_of(desk, parent) == "COMPLETE"


async def test_a_call_without_a_job_is_queued_again(desk: Desk, parent: RunID) -> None:
    await forget(desk)
    await desk.reconciler.unqueued_nodes()
    assert await do_all(desk) == [ChoreKind.CALL]
    assert len(await children_of(desk, parent)) == 1


async def test_a_call_that_was_taken_and_not_started_is_started_once(desk: Desk, parent: RunID) -> None:
    assert await desk.parts.chores.take() is not None
    await forget(desk)
    await desk.parts.chores.missed()
    await desk.parts.chores.missed()
    assert len(await children_of(desk, parent)) == 1


async def test_a_call_is_not_taken_for_a_lost_attempt(desk: Desk, parent: RunID) -> None:
    await do_all(desk)
    await forget(desk)
    await desk.reconciler.lost_attempts()
    assert await status_of(desk, parent) == "RUNNING"


async def test_an_end_that_nobody_was_told_of_is_told(desk: Desk, parent: RunID) -> None:
    await do_all(desk)
    await finish_child(desk, await desk.worker("w"))
    await forget(desk)
    await desk.parts.chores.missed()
    await desk.parts.chores.missed()
    assert await status_of(desk, parent) == "COMPLETE"


async def test_a_stop_that_was_lost_reaches_the_called_run(desk: Desk, parent: RunID) -> None:
    await do_all(desk)
    await desk.parts.service.cancel(parent)
    await forget(desk)
    await desk.parts.chores.missed()
    (child,) = await children_of(desk, parent)
    assert await status_of(desk, child) == "STOPPED"
    await forget(desk)
    await desk.parts.chores.missed()
    assert await status_of(desk, parent) == "STOPPED"


async def test_a_caller_that_is_stopped_while_its_run_is_being_made_leaves_none_running(
    desk: Desk, parent: RunID
) -> None:
    begun = await desk.parts.chores.take()
    assert begun is not None
    await desk.parts.service.cancel(parent)
    await desk.parts.chores.do(begun)
    await do_all(desk)
    assert await status_of(desk, parent) == "STOPPED"
    assert [await status_of(desk, child) for child in await children_of(desk, parent)] in ([], ["STOPPED"])


async def test_a_caller_that_is_stopped_before_its_run_begins_needs_none(desk: Desk, parent: RunID) -> None:
    assert await desk.parts.chores.take() is not None
    await desk.parts.service.cancel(parent)
    assert await do_all(desk) == [ChoreKind.STOP]
    assert await status_of(desk, parent) == "STOPPED"
    assert await children_of(desk, parent) == []


async def test_a_call_that_nobody_wants_any_more_is_not_taken(desk: Desk, parent: RunID) -> None:
    await desk.parts.service.cancel(parent)
    assert await do_all(desk) == []
    assert await status_of(desk, parent) == "STOPPED"


async def test_two_controllers_make_one_run_of_a_call(desks: tuple[Desk, Desk], parent: RunID) -> None:
    assert await desks[0].parts.chores.take() is not None
    call = Caller(parent, NodeID("call"), 1)
    await asyncio.gather(*(each.parts.chores._children.start(call) for each in desks))
    assert len(await children_of(desks[0], parent)) == 1


async def test_two_controllers_tell_of_an_end_once(desks: tuple[Desk, Desk], parent: RunID) -> None:
    desk, _ = desks
    await do_all(desk)
    await finish_child(desk, await desk.worker("w"))
    await forget(desk)
    await asyncio.gather(*(each.parts.chores.missed() for each in desks))
    assert (await checked(desk, parent)).statuses == {"call": "COMPLETE"}


async def test_an_evaluation_that_was_not_begun_is_begun_once_and_its_end_is_noted(
    desks: tuple[Desk, Desk],
) -> None:
    desk, other = desks
    await desk.parts.flows.put("", "child", *read(documents(a_flow(Name=""))))
    judged = a_flow(Evals=[{"Name": "sharp", "Flow": "child", "Inputs": {"in": {"From": "input", "Edge": "in"}}}])
    flow, defs = read(documents(judged))
    run_id = await desk.parts.submission.start(Start(Definition(flow, defs)))
    await desk.receive(run_id, "in")
    worker = await desk.worker("w")
    await finish_child(desk, worker)
    await forget(desk)
    await asyncio.gather(desk.parts.chores.missed(), other.parts.chores.missed())
    assert len(await children_of(desk, run_id)) == 1
    (assignment,) = await desk.claim(worker)
    await desk.parts.service.cancel(RunID(assignment.ref.run_id))
    await desk.parts.reports.finish(a_success(assignment))
    await forget(desk)
    await desk.parts.chores.missed()
    (found,) = (await desk.parts.evaluations.of_run(run_id)).evals
    assert (found.status, found.run_id) == ("failed", assignment.ref.run_id)
    assert await status_of(desk, run_id) == "COMPLETE"


async def test_a_run_that_calls_nothing_makes_no_chore(desk: Desk) -> None:
    flow, defs = read(documents())
    run_id = await desk.parts.submission.start(Start(Definition(flow, defs)))
    await desk.receive(run_id, "in")
    await finish_child(desk, await desk.worker("w"))
    assert await status_of(desk, run_id) == "COMPLETE"
    assert await do_all(desk) == []
