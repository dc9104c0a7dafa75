"""A controller dies at each moment of what it does, one after the other, and another one goes on: see `Death`."""

import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from pupload.controller.calls import Call
from pupload.controller.files import Label
from pupload.controller.folders import session_prefix
from pupload.controller.leasing import KnownWorker
from pupload.controller.multipart import UploadSession
from pupload.db.pool import open_database
from pupload.errors import Conflict
from pupload.flow.load import PostedRun
from pupload.flow.plan import Edge
from pupload.flow.request import ReplayRequest, RunRequest, StepRequest
from pupload.protocol import Assignment
from pupload.run.state import RunID, RunStatus
from pupload.stores.base import Store
from tests.support.deaths import NEVER, Death, a_mortal_desk, outlives
from tests.support.flows import a_flow, bound, documents, read
from tests.support.parts import Desk, a_success
from tests.support.web_server import Reply, WebServer, a_web_server

pytestmark = pytest.mark.integration

MB = 1024 * 1024
IN, OUT = Edge("in"), Edge("out")
VERDICT = b'{"type": "pass_fail", "pass": true, "reason": "fine"}'
FLOWS = {
    "copying": documents(a_flow(Name="")),
    "judge": documents(a_flow(Name="")),
    "calling": {
        "Flow": {
            "Nodes": [
                {"ID": "call", "Uses": "flow/copying", "Inputs": bound({"in": "in"}), "Outputs": bound({"out": "out"})}
            ]
        },
        "NodeDefs": [],
    },
    "judged": documents(
        a_flow(Name="", Evals=[{"Name": "sharp", "Flow": "judge", "Inputs": {"in": {"From": "output", "Edge": "out"}}}])
    ),
}


AGES = [
    ("attempts", "claimed_at"),
    ("runs", "finished_at"),
    ("evaluations", "created_at"),
    ("intakes", "created_at"),
    ("intakes", "doomed_at"),
    ("files", "used_at"),
    ("upload_sessions", "touched_at"),
]


@dataclass
class World:
    """Mortal controllers, and `desk`, one that does not die and sees what they leave."""

    desk: Desk
    store: Store
    mortal: Callable[[Death], Desk]
    worker: KnownWorker

    async def lives(self) -> AsyncIterator[tuple[Desk, Death, int]]:
        """Controllers that die, each one moment later than the one before, until one has done all there was to do."""
        for number in count():
            death = Death(number)
            yield self.mortal(death), death, number
            if not death.has_come:
                assert number > 2
                return

    async def sql(self, statement: str, *how: object) -> list[Any]:
        async with self.desk.database.connection() as connection:
            return list(await connection.fetch(statement, *how))

    async def look(self) -> None:
        """What a controller does by itself, once much time has passed."""
        for table, column in AGES:
            await self.sql(f"UPDATE {table} SET {column} = {column} - interval '1 day'")
        for look, _ in self.desk.parts.looks:
            await look()

    async def keys(self) -> set[str]:
        return {head.key async for head in self.store.list("")}

    async def work(self) -> Assignment:
        """The end of the only attempt that is to be made; what it wrote is a verdict."""
        (assignment,) = await self.desk.claim(self.worker)
        await self.desk.parts.reports.finish(a_success(assignment))
        rows = await self.sql("SELECT key FROM artifacts WHERE run_id = $1 AND edge = 'out'", assignment.ref.run_id)
        await self.store.put(rows[0]["key"], VERDICT, "application/json")
        return assignment


@pytest.fixture
def receiver() -> Iterator[WebServer]:
    with a_web_server() as server:
        yield server


@pytest.fixture
async def world(database_dsn: str, store: Store, tmp_path: Path) -> AsyncIterator[World]:
    database = await open_database(database_dsn, 4)
    mortal = partial(a_mortal_desk, database, store, tmp_path, url_allow=("localhost",))
    desk = mortal(Death(NEVER))
    for name, body in FLOWS.items():
        await desk.parts.flows.put("", name, *read(body))
    yield World(desk, store, mortal, await desk.worker("hand"))
    await database.close()


async def start(desk: Desk, flow: str, key: str | None = None, **request: Any) -> RunID:
    """A run of the flow, with its input."""
    wish = RunRequest.model_validate({"Inputs": {"in": "abc"}, **request})
    return await desk.parts.calls.start(flow, wish, Call(key=key, sha256=b"sha256"))


async def do_chores(desk: Desk) -> None:
    """All that is queued for controllers now."""
    while (chore := await desk.parts.chores.take()) is not None:
        await desk.parts.chores.do(chore)


async def test_a_call_that_is_repeated_makes_one_run_and_leaves_no_other_object(world: World) -> None:
    async for desk, death, number in world.lives():
        key = f"/{number}"
        await outlives(start(desk, "copying", key), death)
        run_id = await start(world.desk, "copying", key)
        assert await start(world.desk, "copying", key) == run_id
        await world.look()
        await world.look()
        runs = {row["id"] for row in await world.sql("SELECT id FROM runs")}
        assert len(runs) == number + 1
        assert sorted(key.partition("/")[0] for key in await world.keys()) == sorted(runs)
        assert len(await world.sql("SELECT FROM sessions")) == len(runs)
        assert await world.sql("SELECT FROM intakes") == []


async def test_a_replay_that_is_repeated_makes_one_run_with_what_it_begins_with(world: World) -> None:
    earlier = await start(world.desk, "copying")
    await world.work()
    async for desk, death, number in world.lives():
        call, wish = Call(key=f"/{number}", sha256=b"sha256"), ReplayRequest()
        await outlives(desk.parts.replays.start(earlier, wish, call), death)
        run_id = await world.desk.parts.replays.start(earlier, wish, call)
        assert await world.desk.parts.replays.start(earlier, wish, call) == run_id
        await world.look()
        assert len(await world.sql("SELECT FROM runs WHERE replay_of = $1", earlier)) == number + 1
        assert (await world.work()).ref.run_id == run_id
    assert await world.sql("SELECT FROM intakes") == []


async def test_a_step_that_is_repeated_makes_one_run_and_leaves_no_other_object(world: World) -> None:
    await world.desk.parts.publishing.publish("", "copying")
    async for desk, death, number in world.lives():
        call = Call(key=f"/{number}", sha256=b"sha256")
        wish = StepRequest.model_validate({"Inputs": {"in": "abc"}, "Version": 1})
        await outlives(desk.parts.steps.start("copying", wish, call), death)
        step = await world.desk.parts.steps.start("copying", wish, call)
        assert (await world.desk.parts.steps.start("copying", wish, call)).run_id == step.run_id
        await world.look()
        await world.look()
        runs = {row["id"] for row in await world.sql("SELECT id FROM runs")}
        assert len(runs) == number + 1
        assert {key.partition("/")[0] for key in await world.keys()} == runs
        assert (await world.work()).ref.run_id == step.run_id
    assert await world.sql("SELECT FROM intakes") == []


async def test_a_node_calls_its_flow_once(world: World) -> None:
    async for desk, death, _ in world.lives():
        caller = await start(world.desk, "calling")
        await outlives(do_chores(desk), death)
        await world.look()
        await do_chores(world.desk)
        assert len(await world.sql("SELECT FROM runs WHERE parent_run = $1", caller)) == 1
        await world.work()
        await do_chores(world.desk)
        assert (await world.desk.parts.views.run(caller)).status == RunStatus.COMPLETE


async def test_the_end_of_a_called_run_is_told_once(world: World) -> None:
    async for desk, death, _ in world.lives():
        caller = await start(world.desk, "calling")
        await do_chores(world.desk)
        await world.work()
        await outlives(do_chores(desk), death)
        await world.look()
        run = await world.desk.parts.views.run(caller)
        assert (run.status, run.node_state["call"].attempt) == (RunStatus.COMPLETE, 1)
        events = await world.desk.parts.views.events(caller, 0, 100)
        assert [str(each.type) for each in events].count("node_completed") == 1


async def test_a_run_is_judged_once(world: World) -> None:
    async for desk, death, _ in world.lives():
        judged = await start(world.desk, "judged")
        await world.work()
        await outlives(do_chores(desk), death)
        await world.look()
        await do_chores(world.desk)
        (found,) = (await world.desk.parts.evaluations.of_run(judged)).evals
        (judging,) = await world.sql("SELECT id FROM runs WHERE parent_run = $1", judged)
        assert (found.status, found.run_id) == ("pending", judging["id"])
        await world.work()
        await do_chores(world.desk)


async def test_a_verdict_is_noted_whoever_reads_it(world: World) -> None:
    async for desk, death, _ in world.lives():
        judged = await start(world.desk, "judged")
        await world.work()
        await do_chores(world.desk)
        judging = await world.work()
        await outlives(do_chores(desk), death)
        await world.look()
        (found,) = (await world.desk.parts.evaluations.of_run(judged)).evals
        assert (found.status, found.run_id) == ("done", judging.ref.run_id)


async def test_a_run_that_ends_before_it_is_noted_as_judging_is_known_all_the_same(world: World) -> None:
    async for desk, death, _ in world.lives():
        judged = await start(world.desk, "judged")
        await world.work()
        await outlives(do_chores(desk), death)
        judging = await world.sql("SELECT id FROM runs WHERE parent_run = $1", judged)
        if judging:
            await world.work()
        await do_chores(world.desk)
        await world.look()
        if judging:
            (found,) = (await world.desk.parts.evaluations.of_run(judged)).evals
            assert (found.status, found.run_id) == ("done", judging[0]["id"])
        else:
            await world.work()


async def test_the_end_of_a_run_is_told_under_one_id(world: World, receiver: WebServer) -> None:
    async for desk, death, number in world.lives():
        url = receiver.on(f"/{number}", Reply(200)).replace("127.0.0.1", "localhost")
        run_id = await start(world.desk, "copying", CallbackURL=url)
        await world.desk.parts.service.cancel(run_id)
        await outlives(deliver(desk), death)
        await world.sql("UPDATE webhooks SET next_at = now()")
        await deliver(world.desk)
        (delivery,) = await world.desk.parts.webhooks.of_run(run_id)
        assert delivery.status == "delivered"
        assert {seen.headers["webhook-id"] for seen in receiver.asked(f"/{number}")} == {delivery.id}


async def deliver(desk: Desk) -> None:
    """Try what is due."""
    for row in await desk.parts.delivery._claim(10):
        await desk.parts.delivery._try(row)


async def an_upload(world: World, key: str = "") -> RunID:
    """A run that awaits its input, at a key of the well's own where one is given."""
    well = {"Edge": "in", "Source": "upload", **({"Key": key} if key else {})}
    body = documents(a_flow(DataWells=[well]))
    return await world.desk.parts.calls.start_posted(PostedRun.model_validate(body), Call())


def begun(desk: Desk, run_id: RunID) -> Awaitable[UploadSession]:
    return desk.parts.multiparts.begin(run_id, IN, 5 * MB + 3, 5 * MB, "text/plain")


async def test_an_upload_that_was_begun_leaves_nothing_of_a_removed_run(world: World) -> None:
    async for desk, death, _ in world.lives():
        run_id = await an_upload(world)
        await outlives(begun(desk, run_id), death)
        await world.desk.parts.service.cancel(run_id)
        await world.desk.parts.removal.delete(run_id)
        assert await world.keys() == set()


@pytest.mark.parametrize("key", ["", "kept/${RUN_ID}.txt"], ids=["its place", "a key of its own"])
async def test_an_upload_in_parts_is_completed_by_whoever_repeats_it(world: World, key: str) -> None:
    async for desk, death, _ in world.lives():
        run_id = await an_upload(world, key)
        session = await begun(world.desk, run_id)
        await send(world.desk, session)
        await outlives(desk.parts.multiparts.complete(session), death)
        await world.sql("UPDATE upload_sessions SET touched_at = now() - interval '1 hour'")
        await world.desk.parts.multiparts.complete(await world.desk.parts.multiparts.find(run_id, IN, session.id))
        artifact = (await world.desk.parts.views.run(run_id)).artifacts[IN]
        assert await world.store.get(artifact.object_name, 6 * MB) == bytes(5 * MB) + b"end"
        assert not [key for key in await world.keys() if "/.parts-" in key]
        await world.store.delete([artifact.object_name])
        await world.desk.parts.service.cancel(run_id)


async def test_an_upload_that_somebody_began_to_abort_is_never_completed(world: World) -> None:
    async for desk, death, _ in world.lives():
        run_id = await an_upload(world)
        session = await begun(world.desk, run_id)
        await send(world.desk, session)
        await outlives(desk.parts.multiparts.abort(session), death)
        await world.look()
        found = await world.desk.parts.multiparts.find(run_id, IN, session.id)
        assert (await world.desk.parts.views.run(run_id)).waiting_urls
        assert found.state in {"open", "aborted"}
        await world.desk.parts.multiparts.abort(found)
        with pytest.raises(Conflict):
            await world.desk.parts.multiparts.complete(found)
        assert not [key for key in await world.keys() if "/.parts-" in key]
        await world.desk.parts.service.cancel(run_id)


async def send(desk: Desk, session: UploadSession) -> None:
    """Both parts."""
    async with aiohttp.ClientSession() as http:
        for number, signed in (await desk.parts.multiparts.sign(session, [1, 2])).items():
            content = bytes(5 * MB) if number == 1 else b"end"
            async with http.put(URL(signed.url, encoded=True), data=io.BytesIO(content)) as response:
                assert response.status == 200, await response.text()


async def test_a_file_is_kept_or_leaves_nothing(world: World) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"abc"

    async for desk, death, _ in world.lives():
        await outlives(desk.parts.files.add("", Label("name"), pieces(), 3), death)
        await world.look()
        await world.look()
        rows = await world.sql("SELECT key FROM files WHERE state = 'kept'")
        assert await world.keys() == {row["key"] for row in rows}
        assert len(await world.sql("SELECT FROM files")) == len(rows)


async def test_a_session_that_is_removed_leaves_nothing(world: World) -> None:
    async for desk, death, _ in world.lives():
        session = await world.desk.parts.sessions.create({}, "")
        await world.store.put(f"{session_prefix(session.id)}session/1.tar", b"abc", "application/x-tar")
        await outlives(desk.parts.sessions.remove(session.id, ""), death)
        await world.sql("UPDATE sessions SET removed_at = removed_at - interval '1 day'")
        await world.look()
        left = await world.sql("SELECT FROM sessions WHERE id = $1", session.id)
        assert bool(left) == bool(await world.keys())
        if left:
            await world.desk.parts.sessions.remove(session.id, "")


async def test_a_run_that_is_removed_leaves_nothing(world: World) -> None:
    async for desk, death, _ in world.lives():
        run_id = await start(world.desk, "copying")
        await world.work()
        await outlives(desk.parts.removal.delete(run_id), death)
        if await world.sql("SELECT FROM runs WHERE id = $1", run_id):
            await world.desk.parts.removal.delete(run_id)
        assert await world.keys() == set()
