"""Uploads in parts, as a client resumes them and as they are swept."""

import asyncio
import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from pupload.flow.plan import Edge
from pupload.run.state import RunID
from pupload.stores.base import Store
from tests.support.controller import REFERENCE, ControllerUnderTest, a_controller

pytestmark = pytest.mark.integration

MB = 1024 * 1024
SIZE = 5 * MB + 3
CONTENT = b"a" * (5 * MB) + b"end"
EDGE = "input-image"


async def a_run(controller: ControllerUnderTest, **well: Any) -> str:
    flow = {**REFERENCE["Flow"], "DataWells": [{"Edge": EDGE, "Source": "upload", **well}]}
    run = await controller.post("/api/v1/flow/test", {**REFERENCE, "Flow": flow})
    return str(run["ID"])


async def a_session(controller: ControllerUnderTest, run_id: str, **wish: Any) -> str:
    body = {"Size": SIZE, "PartSize": 5 * MB, **wish}
    session = await controller.post(f"/api/v1/runs/{run_id}/uploads/{EDGE}", body, expect=201)
    return f"/api/v1/runs/{run_id}/uploads/{EDGE}/{session['ID']}"


async def send(controller: ControllerUnderTest, session: str, *numbers: int) -> None:
    signed = await controller.post(f"{session}/parts", {"Numbers": list(numbers)})
    for part in signed["Parts"]:
        start = (part["Number"] - 1) * 5 * MB
        data = io.BytesIO(CONTENT[start : start + part["Size"]])
        async with controller.http.put(URL(part["PutURL"], encoded=True), data=data) as response:
            assert response.status == 200, await response.text()


async def test_an_upload_goes_on_where_it_was_left(controller: ControllerUnderTest, store: Store) -> None:
    run_id = await a_run(controller)
    session = await a_session(controller, run_id, ContentType="image/png")
    await send(controller, session, 2)
    missing = await controller.post(f"{session}/complete", expect=409)
    assert (missing["Error"]["Code"], missing["Error"]["Details"]) == ("UPLOAD_INCOMPLETE", [1])
    seen = await controller.get(session)
    assert (seen["Status"], seen["PartCount"], seen["Parts"]) == ("open", 2, [{"Number": 2, "Size": 3}])
    await send(controller, session, 1)
    run = await controller.post(f"{session}/complete")
    assert (run["WaitingURLs"], run["Artifacts"][EDGE]["Size"]) == ([], SIZE)
    assert await store.get(run["Artifacts"][EDGE]["ObjectName"], SIZE) == CONTENT
    assert [part["Number"] for part in (await controller.get(session))["Parts"]] == [1, 2]


async def test_completing_twice_and_at_once_is_completing_once(controller: ControllerUnderTest) -> None:
    run_id = await a_run(controller)
    session = await a_session(controller, run_id)
    await send(controller, session, 1, 2)
    answers = await asyncio.gather(*(controller.post(f"{session}/complete") for _ in range(3)))
    answers.append(await controller.post(f"{session}/complete"))
    assert {answer["Artifacts"][EDGE]["ObjectName"] for answer in answers} == {
        answers[0]["Artifacts"][EDGE]["ObjectName"]
    }
    assert len(await events(controller, run_id, "upload_received")) == 1


async def events(controller: ControllerUnderTest, run_id: str, kind: str) -> list[Any]:
    async with controller.running.parts.service.database.connection() as connection:
        return await connection.fetch("SELECT FROM events WHERE run_id = $1 AND type = $2", run_id, kind)


async def test_a_well_of_its_own_key_gets_parts_beyond_what_one_put_may_bring(
    database_dsn: str, store: Store, tmp_path: Path
) -> None:
    async with a_controller(database_dsn, store, tmp_path, max_upload_bytes=1000) as controller:
        run_id = await a_run(controller, Key="${RUN_ID}/mine.png")
        session = await a_session(controller, run_id)
        await send(controller, session, 1, 2)
        run = await controller.post(f"{session}/complete")
        assert run["Artifacts"][EDGE]["ObjectName"] == f"{run_id}/mine.png"
        assert (await store.head(f"{run_id}/mine.png")) is not None


async def test_what_cannot_be_uploaded_is_refused_before_a_byte_is_sent(controller: ControllerUnderTest) -> None:
    run_id = await a_run(controller, MaxSize="1mb")
    path = f"/api/v1/runs/{run_id}/uploads/{EDGE}"
    assert (await controller.post(path, {"Size": MB + 1}, expect=413))["Error"]["Code"] == "TOO_LARGE"
    for wish in (
        {},
        {"Size": 0},
        {"Size": MB, "PartSize": MB},
        {"Size": MB, "Parts": 3},
        {"Size": MB, "ContentType": "a\nb"},
    ):
        await controller.post(path, wish, expect=422)
    await controller.post(f"/api/v1/runs/{run_id}/uploads/nothing", {"Size": 1}, expect=404)
    await controller.post("/api/v1/runs/run_none/uploads/nothing", {"Size": 1}, expect=404)
    session = await a_session(controller, run_id, Size=MB)
    for numbers in ([], [0], [2], list(range(101))):
        await controller.post(f"{session}/parts", {"Numbers": numbers}, expect=422)
    await controller.get(f"{session}x", expect=404)


async def test_an_aborted_upload_is_gone_and_the_run_waits_on(controller: ControllerUnderTest, store: Store) -> None:
    run_id = await a_run(controller)
    session = await a_session(controller, run_id)
    await send(controller, session, 1)
    for _ in range(2):
        async with controller.http.delete(controller.url + session) as response:
            assert response.status == 204
    assert (await controller.get(session))["Status"] == "aborted"
    for action in ("parts", "complete"):
        refused = await controller.post(f"{session}/{action}", {"Numbers": [1]}, expect=409)
        assert refused["Error"]["Code"] == "UPLOAD_ENDED"
    assert (await controller.get(f"/api/v1/runs/{run_id}"))["Status"] == "WAITING"
    assert [head async for head in store.list(f"{run_id}/")] == []


async def test_an_upload_that_comes_too_late_is_aborted(controller: ControllerUnderTest, store: Store) -> None:
    run_id = await a_run(controller)
    session = await a_session(controller, run_id)
    await send(controller, session, 1, 2)
    async with controller.http.put(f"{controller.url}/api/v1/runs/{run_id}/inputs/{EDGE}", data=b"first") as response:
        assert response.status == 204
    late = await controller.post(f"{session}/complete", expect=409)
    assert late["Error"]["Code"] == "ALREADY_UPLOADED"
    assert (await controller.get(session))["Status"] == "aborted"
    assert [head.size_bytes async for head in store.list(f"{run_id}/")] == [5]


async def age(controller: ControllerUnderTest, column: str) -> None:
    async with controller.running.parts.service.database.connection() as connection:
        await connection.execute(f"UPDATE upload_sessions SET {column} = now() - $1::interval", timedelta(days=9))


async def test_what_nobody_came_back_to_is_swept(controller: ControllerUnderTest, store: Store) -> None:
    expired, over = await a_run(controller), await a_run(controller)
    sessions = [await a_session(controller, expired)]
    await age(controller, "expires_at")
    sessions.append(await a_session(controller, over))
    for session in sessions:
        await send(controller, session, 2)
    await controller.post(f"/api/v1/runs/{over}/cancel")
    await controller.running.parts.multiparts.look()
    assert [(await controller.get(session))["Status"] for session in sessions] == ["aborted", "aborted"]
    assert [head async for head in store.list("run_")] == []


async def test_of_a_removed_run_no_part_is_left(controller: ControllerUnderTest, store: Store) -> None:
    run_id = await a_run(controller, Key="kept/${RUN_ID}.png")
    await send(controller, await a_session(controller, run_id), 1)
    await controller.post(f"/api/v1/runs/{run_id}/cancel")
    async with controller.http.delete(f"{controller.url}/api/v1/runs/{run_id}") as response:
        assert response.status == 204
    assert [head async for head in store.list("")] == []


@pytest.mark.parametrize("in_the_store", [False, True])
async def test_a_completion_that_was_broken_off_is_ended_by_whoever_looks(
    controller: ControllerUnderTest, store: Store, *, in_the_store: bool
) -> None:
    run_id = await a_run(controller)
    session = await a_session(controller, run_id)
    await send(controller, session, 1, 2)
    multiparts = controller.running.parts.multiparts
    begun = await multiparts.find(RunID(run_id), Edge(EDGE), session.rpartition("/")[2])
    if in_the_store:
        await store.complete_multipart(begun.multipart, await store.list_parts(begun.multipart))
    async with multiparts._service.database.connection() as connection:
        await connection.execute("UPDATE upload_sessions SET state = 'completing'")
    await age(controller, "touched_at")
    await multiparts.look()
    run = await controller.get(f"/api/v1/runs/{run_id}")
    assert (run["WaitingURLs"], run["Artifacts"][EDGE]["Size"]) == ([], SIZE)
    assert (await controller.get(session))["Status"] == "completed"
