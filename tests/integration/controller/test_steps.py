"""Steps and replays over HTTP, the worker played by hand: what runs, what is kept, what is refused."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pupload.protocol import Assignment
from pupload.stores.base import Store
from tests.support.controller import ControllerUnderTest, HandWorker, a_controller
from tests.support.flows import a_def, a_flow, a_node, documents

pytestmark = pytest.mark.integration

Json = dict[str, Any]
RUNS = "/api/v1/flows/chain/runs"
STEP = f"{RUNS}/step"
FAILED: Json = {"outcome": "failed", "reason": "exit", "message": "no", "final": True, "exit_code": 3}


@pytest.fixture
async def controller(database_dsn: str, store: Store, tmp_path: Path) -> AsyncIterator[ControllerUnderTest]:
    """A controller with a published flow of three nodes in a row."""
    async with a_controller(database_dsn, store, tmp_path) as running:
        await publish(running)
        yield running


def a_chain(length: int = 3, **flags: str) -> Json:
    nodes = [
        a_node(f"n{i}", reads={"in": f"e{i}"}, writes={"out": f"e{i + 1}"}, flags=flags or {"mark": "a"})
        for i in range(length)
    ]
    return documents(a_flow(*nodes, Name="chain"), a_def())


async def publish(controller: ControllerUnderTest, body: Json | None = None) -> None:
    async with controller.http.put(f"{controller.url}/api/v1/flows/chain", json=body or a_chain()) as answer:
        assert answer.status in {200, 201}, await answer.text()
    async with controller.http.post(f"{controller.url}/api/v1/flows/chain/versions", json={}) as answer:
        assert answer.status in {200, 201}, await answer.text()


async def work(worker: HandWorker, content: str) -> Assignment:
    """The attempt that the worker was given and did."""
    [assignment] = await worker.claim(wait_s=20)
    found = await worker.upload_output(assignment, content.encode(), "text/plain")
    await worker.finish(assignment.ref, outputs=[found], exit_code=0)
    return assignment


async def read(controller: ControllerUnderTest, assignment: Assignment) -> str:
    """What the attempt found on its input."""
    content = assignment.inputs[0].content
    assert content is not None
    async with controller.http.get(content.url) as answer:
        return await answer.text()


async def step(
    controller: ControllerUnderTest, worker: HandWorker, body: Json, *written: str
) -> tuple[Json, list[str]]:
    """The last event of the step, and what each of its nodes read."""
    async with controller.http.post(controller.url + STEP, json=body) as answer:
        assert answer.status == 200, await answer.text()
        seen = [await read(controller, await work(worker, content)) for content in written]
        frames = [line for line in (await answer.text()).splitlines() if line.startswith("data: ")]
    return json.loads(frames[-1].removeprefix("data: ")), seen


def following(paused: Json, **members: Any) -> Json:
    """The body of the next call."""
    state = paused["Data"]
    kept = {name: state[name] for name in ("RunID", "StepIndex", "Definition", "AccumulatedOutputs")}
    return {**kept, **members}


async def refused(controller: ControllerUnderTest, path: str, body: Json, status: int) -> str:
    error = await controller.post(path, body, expect=status)
    return str(error["Error"]["Code"])


async def test_each_call_runs_one_node_and_the_last_one_ends_the_run(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    first, seen = await step(controller, worker, {"Inputs": {"e0": "zero"}}, "one")
    assert (first["Type"], first["Data"]["StepIndex"], first["Data"]["NextNode"]) == ("step_paused", 1, "n1")
    assert seen == ["zero"]
    assert first["Data"]["Run"]["ID"] == first["Data"]["RunID"] == first["RunID"]
    assert first["Data"]["AccumulatedOutputs"].keys() == {"$inputs", "n0"}
    second, seen = await step(controller, worker, following(first), "two")
    assert (second["Type"], second["Data"]["RunID"], seen) == ("step_paused", first["RunID"], ["one"])
    last, seen = await step(controller, worker, following(second), "three")
    assert (last["Type"], seen) == ("run_completed", ["two"])
    run = await controller.get(f"/api/v1/runs/{last['RunID']}")
    assert {node: state["Attempt"] for node, state in run["NodeState"].items()} == {"n0": 0, "n1": 0, "n2": 1}
    assert run["Artifacts"].keys() == {"e0", "e1", "e2", "e3"}
    assert run["RootRunID"] == first["RunID"]


async def test_what_remains_runs_in_one_stream(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    first, _ = await step(controller, worker, {"Inputs": {"e0": "zero"}}, "one")
    last, seen = await step(controller, worker, following(first, RunRemaining=True), "two", "three")
    assert (last["Type"], seen) == ("run_completed", ["one", "two"])


async def test_a_replaced_output_is_seen_and_the_stored_one_unchanged(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    first, _ = await step(controller, worker, {"Inputs": {"e0": "zero"}}, "one")
    second, seen = await step(controller, worker, following(first, InputOverrides={"e1": "edited"}), "two")
    assert seen == ["edited"]
    assert second["Data"]["AccumulatedOutputs"]["n0"] == first["Data"]["AccumulatedOutputs"]["n0"]
    async with controller.http.get(f"{controller.url}/api/v1/runs/{first['RunID']}/artifacts/e1") as answer:
        assert await answer.text() == "one"


async def test_a_step_can_be_taken_again_otherwise(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    first, _ = await step(controller, worker, {"Inputs": {"e0": "zero"}}, "one")
    await step(controller, worker, following(first), "two")
    body = following(first, Overrides={"n1": {"Flags": {"mark": "b"}}})
    async with controller.http.post(controller.url + STEP, json=body) as answer:
        assert answer.status == 200, await answer.text()
        assert (await work(worker, "other")).flags == {"mark": "b"}
        assert "step_paused" in await answer.text()


async def test_going_back_forgets_what_came_after(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    first, _ = await step(controller, worker, {"Inputs": {"e0": "zero"}}, "one")
    second, _ = await step(controller, worker, following(first), "two")
    again, seen = await step(controller, worker, following(second, StepIndex=0), "uno")
    assert seen == ["zero"]
    assert again["Data"]["AccumulatedOutputs"].keys() == {"$inputs", "n0"}


async def test_an_input_that_is_given_anew_stays_and_one_that_is_replaced_does_not(
    controller: ControllerUnderTest,
) -> None:
    worker = await controller.worker()
    first, _ = await step(controller, worker, {"Inputs": {"e0": "zero"}}, "one")
    other, seen = await step(controller, worker, following(first, StepIndex=0, InputOverrides={"e0": "null"}), "one")
    assert seen == ["null"]
    anew, seen = await step(controller, worker, following(other, StepIndex=0, Message="nil"), "one")
    assert seen == ["nil"]
    kept = [each["Data"]["AccumulatedOutputs"]["$inputs"]["e0"] for each in (first, other, anew)]
    assert (kept[0] == kept[1], kept[1] == kept[2]) == (True, False)
    assert (await step(controller, worker, following(anew, StepIndex=0), "one"))[1] == ["nil"]


async def test_the_loop_goes_on_at_another_controller(
    controller: ControllerUnderTest, database_dsn: str, store: Store, tmp_path: Path
) -> None:
    worker = await controller.worker()
    first, _ = await step(controller, worker, {"Inputs": {"e0": "zero"}}, "one")
    async with a_controller(database_dsn, store, tmp_path) as other:
        second, seen = await step(other, await other.worker(), following(first), "two")
    assert (second["Type"], seen) == ("step_paused", ["one"])


async def test_the_loop_outlives_its_first_run(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    first, _ = await step(controller, worker, {"Inputs": {"e0": "zero"}}, "one")
    second, _ = await step(controller, worker, following(first), "two")
    async with controller.http.delete(f"{controller.url}/api/v1/runs/{first['RunID']}") as answer:
        assert answer.status == 204
    last, seen = await step(controller, worker, following(second), "three")
    assert (last["Type"], seen) == ("run_completed", ["two"])


async def test_an_output_that_went_with_its_run_is_told_of(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    first, _ = await step(controller, worker, {"Inputs": {"e0": "zero"}}, "one")
    async with controller.http.delete(f"{controller.url}/api/v1/runs/{first['RunID']}") as answer:
        assert answer.status == 204
    assert await refused(controller, STEP, following(first), 410) == "OBJECT_GONE"


async def test_a_step_that_fails_ends_its_stream_with_the_failure(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    async with controller.http.post(controller.url + STEP, json={"Inputs": {"e0": "zero"}}) as answer:
        [assignment] = await worker.claim(wait_s=20)
        await worker.finish(assignment.ref, **FAILED)
        assert "event: run_failed" in await answer.text()


async def test_what_cannot_be_a_step_is_refused(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    first, _ = await step(controller, worker, {"Inputs": {"e0": "zero"}}, "one")
    body = following(first)
    assert await refused(controller, STEP, body | {"StepIndex": 7}, 400) == "INVALID_STEP_INDEX"
    assert await refused(controller, STEP, body | {"AccumulatedOutputs": {}}, 400) == "STEP_OUTPUTS_MISSING"
    assert await refused(controller, STEP, body | {"RunID": None}, 400) == "STEP_RUN_MISSING"
    assert await refused(controller, STEP, body | {"RunID": "anything"}, 422) == "INVALID_REQUEST"
    assert await refused(controller, STEP, body | {"Version": "draft"}, 400) == "DRAFT_NOT_STEPPABLE"
    assert await refused(controller, STEP, body | {"OnlyNodes": ["n1"]}, 422) == "INVALID_REQUEST"
    strange = {"AccumulatedOutputs": {"nobody": {"e1": "ref_"}}}
    assert await refused(controller, STEP, body | strange, 422) == "NODE_NOT_FOUND"
    assert await refused(controller, STEP, body | {"InputOverrides": {"e2": "early"}}, 422) == "EDGE_NOT_AN_INPUT"
    long = {"AccumulatedOutputs": {"n0": {"e1": "ref_" + "A" * 9000}}}
    assert await refused(controller, STEP, body | long, 413) == "TOO_LARGE"


async def test_a_reference_that_is_not_of_this_loop_is_refused(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    first, _ = await step(controller, worker, {"Inputs": {"e0": "zero"}}, "one")
    other, _ = await step(controller, worker, {"Inputs": {"e0": "zero"}}, "one")
    outputs = first["Data"]["AccumulatedOutputs"]
    foreign = following(other) | {"AccumulatedOutputs": outputs}
    assert await refused(controller, STEP, foreign, 403) == "REFERENCE_OF_ANOTHER_RUN"
    content, _, mark = outputs["n0"]["e1"].partition(".")
    edited = {"n0": {"e1": f"{content}.{mark[::-1]}"}}
    assert await refused(controller, STEP, following(first) | {"AccumulatedOutputs": edited}, 403) == "BAD_REFERENCE"
    swapped = {"n0": {"e1": outputs["$inputs"]["e0"]}}
    assert await refused(controller, STEP, following(first) | {"AccumulatedOutputs": swapped}, 403) == "BAD_REFERENCE"


async def test_a_flow_that_is_published_anew_in_the_middle_is_noticed(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    first, _ = await step(controller, worker, {"Inputs": {"e0": "zero"}}, "one")
    await publish(controller, a_chain(mark="b"))
    assert await refused(controller, STEP, following(first), 409) == "STALE_TREE"
    assert await refused(controller, STEP, following(first, Definition=None), 409) == "STALE_TREE"
    pinned, seen = await step(controller, worker, following(first, Version="1"), "two")
    assert (pinned["Type"], seen) == ("step_paused", ["one"])


async def test_a_flow_that_was_never_published_cannot_be_stepped(controller: ControllerUnderTest) -> None:
    async with controller.http.put(f"{controller.url}/api/v1/flows/copying", json=documents()) as answer:
        assert answer.status in {200, 201}
    assert await refused(controller, "/api/v1/flows/copying/runs/step", {}, 400) == "DRAFT_NOT_STEPPABLE"


async def a_run(controller: ControllerUnderTest, worker: HandWorker, *written: str) -> str:
    run = await controller.post(RUNS, {"Inputs": {"e0": "zero"}}, expect=202)
    for content in written:
        await work(worker, content)
    return str(run["ID"])


async def replay(controller: ControllerUnderTest, run_id: str, **wish: Any) -> Json:
    answer: Json = await controller.post(f"/api/v1/runs/{run_id}/replay", wish, expect=202)
    return answer


async def test_a_replay_from_a_node_keeps_what_is_before_it(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    run_id = await a_run(controller, worker, "one", "two", "three")
    new = await replay(controller, run_id, From="n1", Overrides={"n2.mark": "b"})
    assert new["ReplayOf"] == new["RootRunID"] == run_id
    assert await read(controller, await work(worker, "zwei")) == "one"
    last = await work(worker, "drei")
    assert (last.ref.node_id, last.flags) == ("n2", {"mark": "b"})
    done = await controller.get(f"/api/v1/runs/{new['ID']}")
    assert (done["Status"], done["NodeState"]["n0"]["Attempt"]) == ("COMPLETE", 0)
    assert done["Artifacts"]["e1"] == (await controller.get(f"/api/v1/runs/{run_id}"))["Artifacts"]["e1"]


async def test_a_replay_of_what_failed_runs_that_and_what_hangs_on_it(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    run_id = await a_run(controller, worker, "one")
    [assignment] = await worker.claim(wait_s=20)
    await worker.finish(assignment.ref, **FAILED)
    new = await replay(controller, run_id, FailedOnly=True)
    assert await read(controller, await work(worker, "two")) == "one"
    await work(worker, "three")
    done = await controller.get(f"/api/v1/runs/{new['ID']}")
    assert (done["Status"], done["NodeState"]["n0"]["Attempt"]) == ("COMPLETE", 0)


async def test_a_replay_anew_keeps_the_inputs_alone(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    run_id = await a_run(controller, worker, "one", "two", "three")
    new = await replay(controller, run_id)
    assert await read(controller, await work(worker, "eins")) == "zero"
    assert (await controller.get(f"/api/v1/runs/{new['ID']}"))["NodeState"]["n1"]["Attempt"] == 0


async def test_a_replay_of_a_replay_names_the_first_runs_objects(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    run_id = await a_run(controller, worker, "one", "two", "three")
    second = await replay(controller, run_id, From="n2")
    await work(worker, "drei")
    async with controller.http.delete(f"{controller.url}/api/v1/runs/{run_id}") as answer:
        assert answer.status == 204
    third = await replay(controller, second["ID"], From="n2")
    assert third["RootRunID"] == run_id
    assert await read(controller, await work(worker, "trois")) == "two"


async def test_a_lost_object_is_made_again_for_who_needs_it(controller: ControllerUnderTest, store: Store) -> None:
    worker = await controller.worker()
    run_id = await a_run(controller, worker, "one", "two", "three")
    run = await controller.get(f"/api/v1/runs/{run_id}")
    await store.delete([run["Artifacts"]["e2"]["ObjectName"]])
    await replay(controller, run_id, From="n2")
    again = await work(worker, "zwei")
    assert (again.ref.node_id, await read(controller, again)) == ("n1", "one")
    assert (await work(worker, "drei")).ref.node_id == "n2"


async def test_a_new_input_runs_who_reads_it(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    run_id = await a_run(controller, worker, "one", "two", "three")
    await replay(controller, run_id, From="n2", Inputs={"e0": "null"})
    assert await read(controller, await work(worker, "eins")) == "null"


async def test_many_objects_are_found_by_one_listing(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    await publish(controller, a_chain(10))
    run_id = await a_run(controller, worker, *(str(number) for number in range(1, 11)))
    await replay(controller, run_id, From="n9")
    assert await read(controller, await work(worker, "ten")) == "9"


async def test_what_cannot_be_replayed_is_refused(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    live = await controller.post(RUNS, {"Inputs": {"e0": "zero"}}, expect=202)
    path = f"/api/v1/runs/{live['ID']}/replay"
    assert await refused(controller, path, {}, 409) == "RUN_NOT_ENDED"
    for content in ("one", "two", "three"):
        await work(worker, content)
    assert await refused(controller, path, {"From": "n7"}, 422) == "NODE_NOT_FOUND"
    assert await refused(controller, path, {"From": "n1", "FailedOnly": True}, 422) == "INVALID_REQUEST"
    assert await refused(controller, path, {"Version": "1"}, 422) == "INVALID_REQUEST"
    assert await refused(controller, "/api/v1/runs/run_none/replay", {}, 404) == "RUN_NOT_FOUND"


async def test_the_same_key_gives_the_same_replay(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    run_id = await a_run(controller, worker, "one", "two", "three")
    path, headers = f"/api/v1/runs/{run_id}/replay", {"Idempotency-Key": "k"}
    first = await controller.post(path, {"From": "n2"}, expect=202, headers=headers)
    again = await controller.post(path, {"From": "n2"}, expect=202, headers=headers)
    assert first["ID"] == again["ID"]
