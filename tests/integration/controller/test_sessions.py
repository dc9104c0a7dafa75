"""Sessions over HTTP, with a worker played by hand: who gets the folder when, and whose change counts."""

import base64
import hashlib
from typing import Any

import pytest

from pupload.protocol import Assignment, FolderFound
from pupload.stores.base import Store
from tests.support.controller import ControllerUnderTest, HandWorker, a_controller
from tests.support.flows import a_def, a_flow, a_node, documents

pytestmark = pytest.mark.integration

Json = dict[str, Any]
TEXT = [{"Name": "in", "Type": ["text/plain"], "Required": False}]
FLOW = documents(a_flow(), a_def(Inputs=TEXT, Outputs=[{"Name": "out", "Required": False}]))
SIDE_BY_SIDE = documents(a_flow(*(a_node(name, writes={}) for name in ("one", "two"))), a_def(Inputs=TEXT, Outputs=[]))


async def start(controller: ControllerUnderTest, body: Json = FLOW, **members: Any) -> Json:
    run = await controller.post("/api/v1/runs", {**body, "Message": "hello", **members}, expect=202)
    return dict(run)


async def changed(worker: HandWorker, assignment: Assignment, content: bytes) -> FolderFound:
    """The session's folder, stored as the attempt's."""
    md5 = base64.b64encode(hashlib.md5(content).digest()).decode()
    wish = {"Edge": "session", "SizeBytes": len(content), "MD5": md5, "ContentType": "application/x-tar"}
    signed = (await worker.call("sign", {"Ref": assignment.ref.wire(), "Folders": [wish]}))["Folders"][0]
    async with worker.http.put(signed["URL"], data=content, headers=signed["Headers"]) as response:
        assert response.status == 200, await response.text()
    digest = hashlib.sha256(content).hexdigest()
    return FolderFound(name="session", key=signed["Key"], size_bytes=len(content), sha256=digest)


async def finish(worker: HandWorker, assignment: Assignment, content: bytes | None = None) -> None:
    """The attempt's good end, with a changed folder if there is content for it."""
    folders = [await changed(worker, assignment, content)] if content is not None else []
    absent = [output.edge for output in assignment.outputs]
    await worker.finish(assignment.ref, folders=folders, absent=absent)


async def lent(worker: HandWorker, assignment: Assignment) -> bytes | None:
    """What the attempt's session folder begins as."""
    (folder,) = assignment.folders
    assert folder.name == "session"
    if folder.content is None:
        return None
    async with worker.http.get(folder.content.url) as response:
        content = await response.read()
    assert hashlib.sha256(content).hexdigest() == folder.content.sha256
    return content


async def delete(controller: ControllerUnderTest, session: str, *, expect: int) -> None:
    async with controller.http.delete(f"{controller.url}/api/v1/sessions/{session}") as response:
        assert response.status == expect, await response.text()


async def keys(store: Store, session: str) -> list[str]:
    return [head.key async for head in store.list(f".sessions/{session}/")]


async def test_a_run_that_names_no_session_gets_one_of_its_own(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    one, two = await start(controller), await start(controller)
    assert one["SessionID"].startswith("ses_")
    assert one["SessionID"] != two["SessionID"]
    (assignment,) = await worker.claim()
    assert (assignment.session_id, await lent(worker, assignment)) == (one["SessionID"], None)
    session = await controller.get(f"/api/v1/sessions/{one['SessionID']}")
    assert [run["ID"] for run in session["Runs"]] == [one["ID"]]


async def test_a_run_of_the_reference_route_has_none(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    await controller.post("/api/v1/flow/test", SIDE_BY_SIDE | {"Flow": a_flow(a_node(reads={}, writes={}))})
    (assignment,) = await worker.claim()
    assert (assignment.session_id, assignment.folders) == ("", [])


async def test_a_session_that_is_not_there_is_refused_and_no_run_is_made(controller: ControllerUnderTest) -> None:
    before = await controller.get("/api/v1/runs")
    body = {**FLOW, "Message": "hello", "SessionID": "ses_none"}
    refused = await controller.post("/api/v1/runs", body, expect=404)
    assert refused["Error"]["Code"] == "SESSION_NOT_FOUND"
    assert await controller.get("/api/v1/runs") == before
    await controller.get("/api/v1/sessions/ses_none", expect=404)
    await delete(controller, "ses_none", expect=404)


async def test_what_one_run_leaves_is_what_the_next_one_of_the_session_finds(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    one = await start(controller)
    (first,) = await worker.claim()
    await finish(worker, first, b"state 1")
    await start(controller, SessionID=one["SessionID"])
    (second,) = await worker.claim()
    assert await lent(worker, second) == b"state 1"
    await finish(worker, second)
    session = await controller.get(f"/api/v1/sessions/{one['SessionID']}")
    assert (len(session["Runs"]), session["Version"], session["Size"]) == (2, 1, 7)


async def test_variables_reach_the_program(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    variables = {"user": "Ada", "Limits": {"pages": 3}}
    session = await controller.post("/api/v1/sessions", {"Variables": variables}, expect=201)
    assert session["Variables"] == variables
    await start(controller, SessionID=session["ID"])
    (assignment,) = await worker.claim()
    assert assignment.env == {"SESSION_USER": "Ada", "SESSION_LIMITS": '{"pages": 3}'}


@pytest.mark.parametrize(
    "variables", [{"a b": 1}, {"a": 1, "A": 2}, {"a": "x" * 70_000}, {"a": "\0"}, {f"a{n}": 1 for n in range(101)}, [1]]
)
async def test_variables_that_no_program_could_read_are_refused(
    controller: ControllerUnderTest, variables: object
) -> None:
    await controller.post("/api/v1/sessions", {"Variables": variables}, expect=422)


async def test_runs_that_name_one_session_take_turns(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    session = (await controller.post("/api/v1/sessions", expect=201))["ID"]
    one, two = await start(controller, SessionID=session), await start(controller, SessionID=session)
    (first,) = await worker.claim(most=2)
    assert first.ref.run_id == one["ID"]
    assert await worker.claim(wait_s=0) == []
    waiting = (await controller.get(f"/api/v1/runs/{two['ID']}"))["NodeState"]["copy"]
    assert waiting["Status"] == "READY"
    assert waiting["PendingReason"] == f"waiting for session {session}, which node copy of run {one['ID']} uses now"
    await finish(worker, first, b"one")
    (second,) = await worker.claim()
    assert (second.ref.run_id, second.ref.attempt) == (two["ID"], 1)
    assert await lent(worker, second) == b"one"


async def test_a_node_that_leaves_the_session_alone_does_not_wait(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    session = (await controller.post("/api/v1/sessions", expect=201))["ID"]
    apart = documents(a_flow(), a_def(Inputs=TEXT, Outputs=[], Session=False))
    apart["Flow"]["Nodes"][0]["Outputs"] = []
    await start(controller, SessionID=session)
    other = await start(controller, apart, SessionID=session)
    held, free = await worker.claim(most=2)
    assert (free.ref.run_id, free.folders, free.session_id) == (other["ID"], [], session)
    assert len(held.folders) == 1


async def test_the_attempt_that_comes_second_is_run_again_on_what_the_first_left(
    controller: ControllerUnderTest,
) -> None:
    worker = await controller.worker()
    run = await start(controller, SIDE_BY_SIDE)
    one, two = await worker.claim(most=2)
    await finish(worker, one, b"one")
    await finish(worker, two, b"two")
    node = (await controller.get(f"/api/v1/runs/{run['ID']}"))["NodeState"][two.ref.node_id]
    assert "another attempt changed session" in node["Logs"][-1]["message"]
    assert (await controller.get(f"/api/v1/runs/{run['ID']}"))["Status"] == "RUNNING"
    (again,) = await worker.claim()
    assert (again.ref.node_id, again.ref.attempt) == (two.ref.node_id, 2)
    assert await lent(worker, again) == b"one"
    await finish(worker, again, b"one two")
    run = await controller.get(f"/api/v1/runs/{run['ID']}")
    assert run["Status"] == "COMPLETE"
    session = await controller.get(f"/api/v1/sessions/{run['SessionID']}")
    assert session["Version"] == 2


async def test_an_attempt_that_was_overtaken_once_has_the_session_to_itself(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    run = await start(controller, SIDE_BY_SIDE)
    one, two = await worker.claim(most=2)
    await finish(worker, one, b"one")
    await finish(worker, two, b"two")
    (again,) = await worker.claim()
    later = await start(controller, SessionID=run["SessionID"])
    assert await worker.claim(wait_s=0) == []
    await finish(worker, again, b"one two")
    (last,) = await worker.claim()
    assert (last.ref.run_id, await lent(worker, last)) == (later["ID"], b"one two")


async def test_an_attempt_that_changed_nothing_is_never_run_again_for_it(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    run = await start(controller, SIDE_BY_SIDE)
    one, two = await worker.claim(most=2)
    await finish(worker, one, b"one")
    await finish(worker, two)
    assert (await controller.get(f"/api/v1/runs/{run['ID']}"))["Status"] == "COMPLETE"


async def test_a_run_that_is_stopped_changes_nothing_any_more(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    run = await start(controller)
    (assignment,) = await worker.claim()
    folder = await changed(worker, assignment, b"too late")
    await controller.post(f"/api/v1/runs/{run['ID']}/cancel")
    await worker.finish(assignment.ref, folders=[folder], absent=["out"])
    session = await controller.get(f"/api/v1/sessions/{run['SessionID']}")
    assert (session["Version"], session["Runs"][0]["Status"]) == (0, "STOPPED")


async def test_an_attempt_that_fails_changes_nothing(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    run = await start(controller)
    (assignment,) = await worker.claim()
    folder = await changed(worker, assignment, b"half")
    await worker.finish(assignment.ref, outcome="failed", reason="exit", message="no", final=True, folders=[folder])
    session = await controller.get(f"/api/v1/sessions/{run['SessionID']}")
    assert (session["Version"], session["Runs"][0]["Status"]) == (0, "ERROR")


async def test_a_worker_gets_no_place_for_a_folder_that_it_was_not_lent(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    await controller.post("/api/v1/flow/test", documents(a_flow(a_node(reads={}, writes={}))))
    (assignment,) = await worker.claim()
    wish = {"Edge": "session", "SizeBytes": 1, "MD5": "", "ContentType": "application/x-tar"}
    await worker.call("sign", {"Ref": assignment.ref.wire(), "Folders": [wish]}, expect=404)


async def test_a_session_in_use_is_not_removed_and_then_it_is_with_its_folder(
    controller: ControllerUnderTest, store: Store
) -> None:
    worker = await controller.worker()
    run = await start(controller)
    (assignment,) = await worker.claim()
    await delete(controller, run["SessionID"], expect=409)
    await finish(worker, assignment, b"state")
    assert len(await keys(store, run["SessionID"])) == 1
    await delete(controller, run["SessionID"], expect=204)
    assert await keys(store, run["SessionID"]) == []
    await controller.get(f"/api/v1/sessions/{run['SessionID']}", expect=404)
    assert (await controller.get(f"/api/v1/runs/{run['ID']}"))["Status"] == "COMPLETE"


async def test_only_the_newest_state_and_what_is_in_use_stay_in_the_store(
    controller: ControllerUnderTest, store: Store
) -> None:
    worker = await controller.worker()
    run = await start(controller)
    (first,) = await worker.claim()
    await finish(worker, first, b"one")
    await start(controller, SessionID=run["SessionID"])
    (second,) = await worker.claim()
    (old,) = await keys(store, run["SessionID"])
    new = (await changed(worker, second, b"two")).key
    await controller.running.parts.sessions.old_archives()
    assert sorted(await keys(store, run["SessionID"])) == sorted([old, new])
    await finish(worker, second, b"two")
    await controller.running.parts.sessions.old_archives()
    assert await keys(store, run["SessionID"]) == [new]


async def test_what_a_well_keeps_by_session_is_no_archive_of_it(controller: ControllerUnderTest, store: Store) -> None:
    worker = await controller.worker()
    kept = {"Edge": "out", "Key": "${SESSION_ID}/${RUN_ID}.txt"}
    run = await start(controller, {**FLOW, "Flow": {**FLOW["Flow"], "DataWells": [kept]}})
    (assignment,) = await worker.claim()
    folder = await changed(worker, assignment, b"one")
    found = await worker.upload_output(assignment, b"abc", "text/plain")
    await worker.finish(assignment.ref, outputs=[found], folders=[folder])
    await controller.running.parts.sessions.old_archives()
    assert await store.get(f"{run['SessionID']}/{run['ID']}.txt", 10) == b"abc"
    await delete(controller, run["SessionID"], expect=204)
    assert await store.get(f"{run['SessionID']}/{run['ID']}.txt", 10) == b"abc"


async def test_what_was_asked_and_what_came_of_it_are_messages(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    run = await start(controller, Message="How much?")
    (assignment,) = await worker.claim()
    found = await worker.upload_output(assignment, "Ünf".encode(), "text/plain")
    await worker.finish(assignment.ref, outputs=[found])
    await start(controller, SessionID=run["SessionID"], Message="Sure?")
    session = await controller.get(f"/api/v1/sessions/{run['SessionID']}")
    said = [(each["Role"], each["Content"], each["RunID"]) for each in session["Messages"]]
    last = session["Runs"][1]["ID"]
    assert said == [("user", "How much?", run["ID"]), ("assistant", "Ünf", run["ID"]), ("user", "Sure?", last)]
    assert session["Messages"][0]["CreatedAt"] < session["Messages"][1]["CreatedAt"]


async def test_sessions_are_listed_newest_first_page_by_page(controller: ControllerUnderTest) -> None:
    made = [(await controller.post("/api/v1/sessions", expect=201))["ID"] for _ in range(3)]
    page = await controller.get("/api/v1/sessions?limit=2")
    rest = await controller.get(f"/api/v1/sessions?limit=2&cursor={page['NextCursor']}")
    assert [each["ID"] for each in page["Sessions"] + rest["Sessions"]] == sorted(made, reverse=True)
    assert rest["NextCursor"] == ""


async def test_a_session_that_nobody_uses_goes_after_its_retention(
    database_dsn: str, store: Store, tmp_path: Any
) -> None:
    async with a_controller(database_dsn, store, tmp_path, session_retention_s=0.001, reconcile_s=60) as controller:
        worker = await controller.worker()
        busy, idle = await start(controller), (await controller.post("/api/v1/sessions", expect=201))["ID"]
        (assignment,) = await worker.claim()
        await controller.running.parts.sessions.expired()
        await controller.running.parts.sessions.doomed()
        await controller.get(f"/api/v1/sessions/{idle}", expect=404)
        await controller.get(f"/api/v1/sessions/{busy['SessionID']}")
        await finish(worker, assignment)
