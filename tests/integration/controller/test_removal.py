"""Objects that several runs name, and objects that are kept for a time: nothing goes that is named, nothing stays."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from pupload.controller.service import Beginning, Service
from pupload.db.pool import Connection
from pupload.db.sql import SQL
from pupload.errors import Conflict, Gone, NotFound
from pupload.flow.plan import Edge, Plan
from pupload.run.commands import Step
from pupload.run.state import Artifact, RunID
from pupload.stores.base import Store
from tests.support.parts import Desk, a_desk, a_new_run, until_blocked
from tests.support.runs import a_plan, chain

pytestmark = pytest.mark.integration

OUT = Edge("e0")
A, B, C = RunID("run_a"), RunID("run_b"), RunID("run_c")


@pytest.fixture
async def desk(database_dsn: str, tmp_path: Path, store: Store) -> AsyncIterator[Desk]:
    """A controller's parts on a real store."""
    async with a_desk(database_dsn, tmp_path, 6, store) as desk:
        yield desk


def kept_for(lifetime_s: float | None, key: str | None = None) -> Plan:
    """The plan of one node whose output is kept so long."""
    plan = a_plan(*chain(1))
    return replace(plan, edges={**plan.edges, OUT: replace(plan.edges[OUT], lifetime_s=lifetime_s, key=key)})


async def an_ended_run(desk: Desk, store: Store, run_id: RunID, plan: Plan | None = None, key: str = "") -> Artifact:
    """The result of a run that is over."""
    head = await store.put(key or f"{run_id}/{OUT}/1.txt", b"abc", "text/plain")
    artifact = Artifact(OUT, "default", head.key, 3, "text/plain", etag=head.etag)
    await begin(desk.parts.service, run_id, artifact, plan)
    return artifact


async def begin(service: Service, run_id: RunID, artifact: Artifact, plan: Plan | None = None) -> RunID:
    """A run that is over as soon as it begins, as all of its work was done before."""
    new, _ = a_new_run(run_id, plan or a_plan(*chain(1)))
    ended = replace(new, uploads=[])
    return (await service.create(ended, Beginning((artifact,), frozenset(ended.plan.nodes))))[0]


async def names(desk: Desk, run_id: RunID, artifact: Artifact, origin: RunID = A) -> None:
    await begin(desk.parts.service, run_id, replace(artifact, origin=origin))


async def keys(store: Store) -> set[str]:
    return {head.key async for head in store.list("")}


async def test_a_run_goes_with_its_objects(desk: Desk, store: Store) -> None:
    await an_ended_run(desk, store, A)
    await store.put(f"{A}/leftover", b"x", "text/plain")
    await desk.parts.removal.delete(A)
    assert await keys(store) == set()
    with pytest.raises(NotFound):
        await desk.parts.removal.delete(A)


async def test_a_run_that_has_not_ended_is_not_removed(desk: Desk) -> None:
    await desk.create(A, a_plan(*chain(1)))
    with pytest.raises(Conflict):
        await desk.parts.removal.delete(A)
    assert (await desk.parts.views.run(A)).status == "WAITING"


async def test_what_another_run_names_outlives_its_own(desk: Desk, store: Store) -> None:
    artifact = await an_ended_run(desk, store, A)
    await names(desk, B, artifact)
    await store.put(f"{A}/leftover", b"x", "text/plain")
    await desk.parts.removal.delete(A)
    assert await keys(store) == {artifact.key}


async def test_the_last_run_that_names_an_object_takes_it_along(desk: Desk, store: Store) -> None:
    artifact = await an_ended_run(desk, store, A)
    await names(desk, B, artifact)
    await names(desk, C, artifact)
    await desk.parts.removal.delete(A)
    await desk.parts.removal.delete(B)
    assert await keys(store) == {artifact.key}
    await desk.parts.removal.delete(C)
    assert await keys(store) == set()


async def test_whoever_only_names_an_object_leaves_it_to_its_run(desk: Desk, store: Store) -> None:
    artifact = await an_ended_run(desk, store, A)
    await names(desk, B, artifact)
    await desk.parts.removal.delete(B)
    assert await keys(store) == {artifact.key}


async def test_an_object_of_a_file_is_not_a_runs_to_remove(desk: Desk, store: Store) -> None:
    head = await store.put("file_1/content", b"abc", "text/plain")
    async with desk.database.connection() as connection:
        await connection.execute(SQL["insert_file"], "file_1", "", "letter", head.key, 3)
        await connection.execute(SQL["keep_file"], "file_1", 3, "text/plain", "f" * 64, head.etag)
    await begin(desk.parts.service, A, Artifact(OUT, "default", head.key, 3, origin="file_1"))
    await desk.parts.removal.delete(A)
    assert await keys(store) == {head.key}


async def test_of_all_who_go_at_once_one_takes_the_object_along(desk: Desk, store: Store) -> None:
    artifact = await an_ended_run(desk, store, A)
    others = [RunID(f"run_b{number}") for number in range(4)]
    for each in others:
        await names(desk, each, artifact)
    await asyncio.gather(*(desk.parts.removal.delete(each) for each in (A, *others)))
    assert await keys(store) == set()


async def test_a_sweep_leaves_what_another_run_names(desk: Desk, store: Store) -> None:
    plan = kept_for(0.001)
    artifact = await an_ended_run(desk, store, A, plan)
    await names(desk, B, artifact)
    await desk.parts.removal.expire(A, OUT)
    await desk.parts.removal.sweep(A)
    assert await keys(store) == {artifact.key}


async def test_an_object_can_be_named_after_its_own_run_has_gone(desk: Desk, store: Store) -> None:
    artifact = await an_ended_run(desk, store, A)
    await names(desk, B, artifact)
    await desk.parts.removal.delete(A)
    await names(desk, C, artifact)
    await desk.parts.removal.delete(B)
    assert await keys(store) == {artifact.key}


async def test_a_result_under_a_key_of_its_own_can_be_named_without_its_run(desk: Desk, store: Store) -> None:
    artifact = await an_ended_run(desk, store, A, key="results/a")
    await desk.parts.removal.delete(A)
    await names(desk, B, artifact)
    assert (await desk.parts.views.run(B)).artifacts[OUT].object_name == "results/a"


async def test_a_run_that_is_being_removed_gives_nothing_more(desk: Desk, store: Store) -> None:
    artifact = await an_ended_run(desk, store, A)
    await desk.parts.removal._condemn(A)
    with pytest.raises(Gone):
        await names(desk, B, artifact)
    for run_id in (A, B):
        with pytest.raises(NotFound):
            await desk.parts.views.run(run_id)


async def test_a_removal_waits_for_who_is_about_to_name_an_object(desk: Desk, store: Store) -> None:
    artifact = await an_ended_run(desk, store, A)
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def pause(connection: Connection, step: Step) -> None:
        reached.set()
        await go_on.wait()

    slow = Service(desk.database, [pause])
    async with asyncio.TaskGroup() as both:
        both.create_task(begin(slow, B, replace(artifact, origin=A)))
        await reached.wait()
        both.create_task(desk.parts.removal.delete(A))
        await until_blocked(desk)
        go_on.set()
    assert await keys(store) == {artifact.key}
    assert (await desk.parts.views.run(B)).artifacts[OUT].object_name == artifact.key


async def test_who_waits_for_an_artifact_that_expires_meanwhile_is_told_so(desk: Desk, store: Store) -> None:
    artifact = await an_ended_run(desk, store, A)
    async with desk.database.connection() as connection, connection.transaction():
        await connection.execute("SELECT FROM runs WHERE id = $1 FOR UPDATE", A)
        naming = asyncio.create_task(names(desk, B, artifact))
        await until_blocked(desk)
        await connection.execute("DELETE FROM artifacts WHERE run_id = $1", A)
    with pytest.raises(Gone):
        await naming


async def test_a_removal_that_was_cut_off_is_taken_up_by_a_look(desk: Desk, store: Store) -> None:
    artifact = await an_ended_run(desk, store, A)
    await names(desk, B, artifact)
    await desk.parts.removal.delete(A)
    await desk.parts.removal._condemn(B)
    await desk.reconciler.expired_runs()
    assert await keys(store) == set()


async def test_an_artifact_goes_when_its_time_is_over(desk: Desk, store: Store) -> None:
    await an_ended_run(desk, store, A, kept_for(0.001))
    await desk.parts.removal.expired_objects()
    assert await keys(store) == set()
    assert (await desk.parts.views.run(A)).artifacts == {}
    assert await desk.parts.removal.has_expired(A, OUT)


async def test_an_artifact_stays_until_its_time_is_over(desk: Desk, store: Store) -> None:
    artifact = await an_ended_run(desk, store, A, kept_for(3600))
    await desk.parts.removal.expired_objects()
    assert await keys(store) == {artifact.key}
    assert not await desk.parts.removal.has_expired(A, OUT)


async def test_who_still_names_an_object_that_expired_takes_it_along(desk: Desk, store: Store) -> None:
    artifact = await an_ended_run(desk, store, A, kept_for(0.001))
    await names(desk, B, artifact)
    await desk.parts.removal.expired_objects()
    assert await keys(store) == {artifact.key}
    await desk.parts.removal.delete(B)
    assert await keys(store) == set()


async def test_a_result_under_a_key_of_its_own_goes_when_its_time_is_over(desk: Desk, store: Store) -> None:
    await an_ended_run(desk, store, A, kept_for(0.001, "results/${RUN_ID}"), f"results/{A}")
    await desk.parts.removal.expired_objects()
    assert await keys(store) == set()


async def test_a_result_that_was_written_again_since_stays(desk: Desk, store: Store) -> None:
    await an_ended_run(desk, store, A, kept_for(0.001, "latest"), "latest")
    await store.put("latest", b"newer", "text/plain")
    await desk.parts.removal.expired_objects()
    assert await keys(store) == {"latest"}
