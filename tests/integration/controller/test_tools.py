"""Questions and answers by the worker's protocol and over HTTP: what is kept, what is handed out, who wins."""

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest

from pupload.protocol import Assignment, FolderFound, Outcome
from pupload.stores.base import Store
from tests.support.controller import ControllerUnderTest, HandWorker, a_controller

pytestmark = pytest.mark.integration

LOOK = {"type": "function", "function": {"name": "look", "parameters": {"properties": {"at": {"type": "string"}}}}}


def asking(nodes: int = 1, **how: Any) -> Any:
    """A request whose nodes may ask, each with an output of its own."""
    flow = {
        "Name": "asking",
        "Nodes": [
            {"ID": f"n{n}", "Uses": "test/agent", "Outputs": [{"Name": "out", "Edge": f"e{n}"}]} for n in range(nodes)
        ],
    }
    agent = {"Publisher": "test", "Name": "agent", "Image": "test/agent:1", "AllowTools": True}
    return {"Flow": flow, "NodeDefs": [agent], "Tools": [LOOK], **how}


def calls(*ids: str) -> str:
    return json.dumps([{"id": each, "name": "look", "arguments": {"at": "it"}} for each in ids])


async def ask(worker: HandWorker, assignment: Assignment, text: str, **more: Any) -> None:
    await worker.finish(assignment.ref, outcome=Outcome.ASKED, exit_code=85, tool_calls=text, **more)


async def answer(controller: ControllerUnderTest, run_id: str, *ids: str, expect: int = 200, **more: Any) -> Any:
    results = [{"ToolCallID": each, "Content": f"to {each}"} for each in ids]
    return await controller.post(f"/api/v1/runs/{run_id}/resume", {"ToolResults": results, **more}, expect=expect)


def state_of(assignment: Assignment) -> Any:
    (state,) = [folder for folder in assignment.folders if folder.name == "state"]
    return state


async def succeed(worker: HandWorker, assignment: Assignment) -> None:
    found = await worker.upload_output(assignment, b"result", "text/plain")
    await worker.finish(assignment.ref, outputs=[found])


async def test_an_answer_comes_with_the_next_assignment_and_the_state_as_it_was(
    controller: ControllerUnderTest,
) -> None:
    worker = await controller.worker()
    run_id = (await controller.post("/api/v1/runs", asking(), expect=202))["ID"]
    (first,) = await worker.claim()
    assert first.tools is not None
    assert json.loads(first.tools.tools)["Tools"][0]["function"]["name"] == "look"
    assert (first.tools.results, first.tools.exit_code, first.counts_as) == (None, 85, 1)
    assert (state_of(first).content, state_of(first).until_done) == (None, True)
    state = FolderFound(name="state", key="not believed", size_bytes=10, sha256="a" * 64)
    await ask(worker, first, calls("1", "2"), folders=[state])
    assert (await controller.get(f"/api/v1/runs/{run_id}"))["StatusReason"] == "tool_calls"
    await answer(controller, run_id, "2", "1")

    (second,) = await worker.claim()
    assert (second.ref.attempt, second.counts_as) == (2, 1)
    assert second.tools is not None
    assert json.loads(second.tools.results or "") == [
        {"tool_call_id": "1", "content": "to 1"},
        {"tool_call_id": "2", "content": "to 2"},
    ]
    content = state_of(second).content
    assert (content.size_bytes, content.sha256) == (10, "a" * 64)
    assert run_id in content.url
    assert "not believed" not in content.url
    # A round that leaves the state as it was, and a failure after that, go on from it.
    await ask(worker, second, calls("3"))
    await answer(controller, run_id, "3")
    (third,) = await worker.claim()
    assert state_of(third).content.sha256 == "a" * 64
    await worker.finish(third.ref, outcome=Outcome.FAILED, reason="exit", exit_code=1)
    (fourth,) = await worker.claim(wait_s=20)
    assert (fourth.ref.attempt, fourth.counts_as, state_of(fourth).content.sha256) == (4, 2, "a" * 64)
    assert fourth.tools is not None
    assert "to 3" in (fourth.tools.results or "")
    await succeed(worker, fourth)
    run = await controller.get(f"/api/v1/runs/{run_id}")
    node = run["NodeState"]["n0"]
    assert (run["Status"], node["Attempt"], node["ToolRounds"]) == ("COMPLETE", 2, 2)
    trace = await controller.get(f"/api/v1/runs/{run_id}/trace?attempt=all")
    assert [each["Outcome"] for each in trace["Attempts"]] == ["asked", "asked", "failed", "succeeded"]


async def test_of_answers_that_come_at_once_one_wins(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    run_id = (await controller.post("/api/v1/runs", asking(), expect=202))["ID"]
    (first,) = await worker.claim()
    await ask(worker, first, calls("1"))
    body = {"ToolResults": [{"ToolCallID": "1", "Content": "x"}]}

    async def one() -> int:
        async with controller.http.post(f"{controller.url}/api/v1/runs/{run_id}/resume", json=body) as response:
            return response.status

    assert sorted(await asyncio.gather(*(one() for _ in range(5)))) == [200, 409, 409, 409, 409]
    queued = [
        event for event in await controller.running.parts.views.events(run_id, 0, 100) if event.type == "node_queued"
    ]
    assert len(queued) == 2


async def test_nodes_that_wait_together_are_answered_together_or_one_by_one(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    run_id = (await controller.post("/api/v1/runs", asking(2), expect=202))["ID"]
    one, other = await worker.claim(most=2)
    await ask(worker, one, calls("a"))
    await ask(worker, other, calls("b"))
    run = await controller.get(f"/api/v1/runs/{run_id}")
    assert {node: [call["ID"] for call in asked] for node, asked in run["ToolCalls"].items()} == {
        one.ref.node_id: ["a"],
        other.ref.node_id: ["b"],
    }
    refused = await answer(controller, run_id, "a", expect=422)
    assert "'b' is missing" in refused["Error"]["Message"]
    await answer(controller, run_id, "b", NodeID=other.ref.node_id)
    assert (await worker.claim())[0].ref.node_id == other.ref.node_id
    await answer(controller, run_id, "a")
    assert (await worker.claim())[0].ref.node_id == one.ref.node_id


async def test_one_id_asked_by_two_nodes_is_answered_by_node(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    run_id = (await controller.post("/api/v1/runs", asking(2), expect=202))["ID"]
    for assignment in await worker.claim(most=2):
        await ask(worker, assignment, calls("same"))
    refused = await answer(controller, run_id, "same", expect=422)
    assert refused["Error"]["Code"] == "TOOL_RESULTS_MISMATCH"
    assert "NodeID" in refused["Error"]["Message"]
    for node in ("n0", "n1"):
        await answer(controller, run_id, "same", NodeID=node)


async def test_a_question_outlives_the_controller_that_took_it(
    database_dsn: str, store: Store, tmp_path: Path, notifications: bool
) -> None:
    async with a_controller(database_dsn, store, tmp_path, notifications=notifications) as before:
        worker = await before.worker()
        run_id = (await before.post("/api/v1/runs", asking(), expect=202))["ID"]
        await ask(worker, (await worker.claim())[0], calls("1"))
    async with a_controller(database_dsn, store, tmp_path, notifications=notifications) as after:
        assert (await after.get(f"/api/v1/runs/{run_id}"))["StatusReason"] == "tool_calls"
        await answer(after, run_id, "1")
        worker = await after.worker()
        (again,) = await worker.claim()
        assert again.tools is not None
        assert "to 1" in (again.tools.results or "")


async def test_a_question_is_told_once_however_often_it_is_reported(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    run_id = (await controller.post("/api/v1/runs", asking(), expect=202))["ID"]
    (first,) = await worker.claim()
    await ask(worker, first, calls("1"))
    await worker.finish(first.ref, outcome=Outcome.ASKED, tool_calls=calls("1"), expect=409)
    events = await controller.running.parts.views.events(run_id, 0, 100)
    assert [event.type for event in events].count("tool_calls_required") == 1


async def test_a_question_in_a_run_that_was_cancelled_leaves_nothing_to_answer(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    run_id = (await controller.post("/api/v1/runs", asking(), expect=202))["ID"]
    (first,) = await worker.claim()
    await controller.post(f"/api/v1/runs/{run_id}/cancel")
    await ask(worker, first, calls("1"))
    run = await controller.get(f"/api/v1/runs/{run_id}")
    assert (run["Status"], run["ToolCalls"]) == ("STOPPED", {})
    await answer(controller, run_id, "1", expect=409)


@pytest.mark.parametrize("content", ["NaN", '"\\u0000"', '"\\ud800"', "[" * 50 + "]" * 50, "1e999"])
async def test_results_that_cannot_be_stored_are_refused(controller: ControllerUnderTest, content: str) -> None:
    worker = await controller.worker()
    run_id = (await controller.post("/api/v1/runs", asking(), expect=202))["ID"]
    await ask(worker, (await worker.claim())[0], calls("1"))
    body = f'{{"ToolResults": [{{"ToolCallID": "1", "Content": {content}}}]}}'
    async with controller.http.post(f"{controller.url}/api/v1/runs/{run_id}/resume", data=body) as response:
        assert response.status == 422, await response.text()


async def test_results_beyond_their_limit_are_refused(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    run_id = (await controller.post("/api/v1/runs", asking(), expect=202))["ID"]
    await ask(worker, (await worker.claim())[0], calls("1"))
    body = json.dumps({"ToolResults": [{"ToolCallID": "1", "Content": "x" * 1_100_000}]}).encode()
    url = f"{controller.url}/api/v1/runs/{run_id}/resume"
    async with controller.http.post(url, data=io.BytesIO(body)) as response:
        assert response.status == 413
    await answer(controller, run_id, "1")
