"""Runs of flows that are kept, by request: over HTTP, on real PostgreSQL and a real store."""

import asyncio
import json
from datetime import datetime
from typing import Any

import pytest

from tests.support.controller import ControllerUnderTest, HandWorker
from tests.support.flows import a_chain, a_def, a_flow, a_node, documents

pytestmark = pytest.mark.integration

Json = dict[str, Any]
TEXT = [{"Name": "in", "Type": ["text/plain"]}]
COPYING = documents(a_flow(), a_def(Inputs=TEXT, Outputs=[{"Name": "out"}]))


async def keep(controller: ControllerUnderTest, body: Json, name: str = "copying") -> str:
    """The path of the flow's runs, once it is kept as a draft."""
    body = {**body, "Flow": {**body["Flow"], "Name": name}}
    async with controller.http.put(f"{controller.url}/api/v1/flows/{name}", json=body) as response:
        assert response.status < 300, await response.text()
    return f"/api/v1/flows/{name}/runs"


async def work(worker: HandWorker, content: bytes = b"result", content_type: str = "text/plain") -> str:
    """The node whose attempt was done."""
    (assignment,) = await worker.claim()
    found = await worker.upload_output(assignment, content, content_type)
    await worker.finish(assignment.ref, outputs=[found])
    return assignment.ref.node_id


async def test_a_call_makes_a_run_that_the_very_next_question_finds(controller: ControllerUnderTest) -> None:
    runs = await keep(controller, COPYING)
    run = await controller.post(runs, {"Message": "hello"}, expect=202)
    found = await controller.get(f"/api/v1/runs/{run['ID']}")
    assert found["FlowVersion"] == "draft"
    assert (found["Status"], found["WaitingURLs"]) == ("RUNNING", [])
    assert found["Inputs"]["in"]["Size"] == 5


async def test_a_waited_for_call_is_answered_with_its_outputs(controller: ControllerUnderTest) -> None:
    runs = await keep(controller, COPYING)
    worker = await controller.worker()
    waiting = asyncio.create_task(controller.post(f"{runs}/sync", {"Inputs": {"in": "hello"}}))
    await work(worker, b'{"a": 1}', "application/json")
    run = await waiting
    assert (run["Status"], run["Outputs"]["out"]["Value"]) == ("COMPLETE", {"a": 1})
    only = await controller.get(f"/api/v1/runs/{run['ID']}/outputs")
    assert only.keys() == {"out"}
    async with controller.http.get(only["out"]["URL"]) as response:
        assert await response.read() == b'{"a": 1}'
    assert run["DurationMS"] >= 0
    assert run["RootRunID"] == run["ID"]


async def test_a_posted_flow_runs_by_the_same_request(controller: ControllerUnderTest) -> None:
    run = await controller.post("/api/v1/runs", {**COPYING, "Message": "hello"}, expect=202)
    assert (run["Status"], run["FlowVersion"], run["Inputs"].keys()) == ("RUNNING", "", {"in"})
    refused = await controller.post("/api/v1/runs", {**COPYING, "Version": "draft"}, expect=422)
    assert "Version" in refused["Error"]["Message"]


async def test_a_flow_that_is_not_kept_is_not_found(controller: ControllerUnderTest) -> None:
    refused = await controller.post("/api/v1/flows/nowhere/runs", {}, expect=404)
    assert refused["Error"]["Code"] == "FLOW_NOT_FOUND"


async def test_a_call_without_a_body_asks_for_nothing_special(controller: ControllerUnderTest) -> None:
    runs = await keep(controller, COPYING)
    async with controller.http.post(controller.url + runs) as response:
        run = await response.json()
    assert (response.status, run["Status"], len(run["WaitingURLs"])) == (202, "WAITING", 1)


async def test_the_same_key_and_body_give_the_same_run_and_another_body_none(controller: ControllerUnderTest) -> None:
    runs = await keep(controller, COPYING)
    key = {"headers": {"Idempotency-Key": "k"}}
    first = await controller.post(runs, {"Message": "hello"}, expect=202, **key)
    again = await controller.post(runs, {"Message": "hello"}, expect=202, **key)
    assert again["ID"] == first["ID"]
    refused = await controller.post(runs, {"Message": "bye"}, expect=409, **key)
    assert refused["Error"]["Code"] == "IDEMPOTENCY_CONFLICT"
    other = await keep(controller, COPYING, "other")
    await controller.post(other, {"Message": "hello"}, expect=409, **key)


async def test_a_run_echoes_how_it_was_called_and_keeps_no_bulk(controller: ControllerUnderTest) -> None:
    flow = a_flow(a_node(flags={"size": "${PARAM.width}"}), Parameters=[{"Name": "width", "Type": "int", "Default": 5}])
    runs = await keep(controller, documents(flow, a_def()))
    plain = await controller.post(runs, {"Message": "hello"}, expect=202)
    wish = {
        "Message": "hello",
        "Parameters": {"width": 7},
        "Overrides": {"copy.shape": "round", "copy": {"Tier": "c-nano"}},
    }
    run = await controller.post(runs, wish, expect=202)
    assert (plain["Parameters"], plain["Overrides"]) == ({"width": 5}, {})
    assert run["Parameters"] == {"width": 7}
    assert run["Overrides"] == {"copy": {"Flags": {"shape": "round"}, "Tier": "c-nano"}}
    assert run["Definition"] == plain["Definition"]
    async with controller.running.parts.service.database.connection() as connection:
        kept = await connection.fetchrow("SELECT documents, request FROM run_plans WHERE run_id = $1", run["ID"])
    assert kept is not None
    assert json.loads(kept["request"]).keys() == {"Message", "Parameters", "Overrides"}
    assert json.loads(kept["documents"])["Flow"]["Nodes"][0]["Flags"] == [{"Name": "size", "Value": "${PARAM.width}"}]


async def test_no_secret_is_kept_beside_a_run(controller: ControllerUnderTest) -> None:
    store = {"Name": "own", "Type": "s3", "Params": {"SecretKey": "hush", "AccessKey": "a", "BucketName": "bucket"}}
    body = documents(a_flow(Stores=[store], DataWells=[{"Edge": "in", "Store": "default"}]), a_def())
    run = await controller.post("/api/v1/runs", {**body, "Inputs": {"in": "a secret value"}}, expect=202)
    async with controller.running.parts.service.database.connection() as connection:
        row = await connection.fetchrow("SELECT documents, request, echo FROM run_plans WHERE run_id = $1", run["ID"])
    assert row is not None
    assert "AccessKey" in row["documents"]
    assert not any(secret in text for text in row for secret in ("hush", "a secret value"))


@pytest.mark.parametrize(
    ("wish", "status", "code"),
    [
        ({"Parameters": {"attachments": []}}, 400, "PARAMETER_NAME_RESERVED"),
        ({"Parameters": {"nothing": 1}}, 422, "INVALID_REQUEST"),
        ({"Parameters": {"width": "wide"}}, 422, "INVALID_REQUEST"),
        ({"Parameters": {}}, 422, "INVALID_REQUEST"),
        ({"Parameters": {"width": 1}}, 422, "MESSAGE_REQUIRED"),
        ({"Overrides": {"none": {}}}, 422, "INVALID_OVERRIDE"),
        ({"Overrides": {"copy": {"Tier": "c-none"}}, "Parameters": {"width": 1}}, 422, "INVALID_FLOW"),
        ({"OnlyNodes": ["none"], "Parameters": {"width": 1}}, 422, "NODE_NOT_FOUND"),
        ({"Timeout": "soon", "Parameters": {"width": 1}}, 422, "FLOW_003"),
        ({"Wait": "soon"}, 422, "FLOW_003"),
        ({"Wait": "1h"}, 422, "INVALID_REQUEST"),
        ({"Whatever": 1}, 422, "INVALID_REQUEST"),
    ],
    ids=str,
)
async def test_what_does_not_fit_is_refused_and_makes_no_run(
    controller: ControllerUnderTest, wish: Json, status: int, code: str
) -> None:
    flow = a_flow(
        DataWells=[{"Edge": "in", "Primary": True}], Parameters=[{"Name": "width", "Type": "int", "Required": True}]
    )
    runs = await keep(controller, documents(flow, a_def()))
    refused = await controller.post(runs, wish, expect=status)
    assert refused["Error"]["Code"] == code
    assert (await controller.get("/api/v1/runs"))["Runs"] == []


async def test_only_what_is_asked_for_runs_with_what_it_needs(controller: ControllerUnderTest) -> None:
    runs = await keep(controller, a_chain(3))
    worker = await controller.worker()
    run = await controller.post(runs, {"Message": "hello", "OnlyNodes": ["n1"]}, expect=202)
    assert run["OnlyNodes"] == ["n1"]
    assert [await work(worker), await work(worker)] == ["n0", "n1"]
    done = await controller.get(f"/api/v1/runs/{run['ID']}")
    assert (done["Status"], done["Progress"], done["Counts"]["Skipped"]) == ("COMPLETE", 100.0, 1)
    assert {node: state["Status"] for node, state in done["NodeState"].items()} == {
        "n0": "COMPLETE",
        "n1": "COMPLETE",
        "n2": "SKIPPED",
    }


async def test_the_inputs_of_what_does_not_run_are_neither_awaited_nor_looked_for(
    controller: ControllerUnderTest,
) -> None:
    flow = a_flow(
        a_node("one"),
        a_node("two", reads={"in": "upload"}, writes={"out": "x"}),
        a_node("three", reads={"in": "there"}, writes={"out": "y"}),
        DataWells=[{"Edge": "there", "Source": "static", "Key": "nowhere"}],
    )
    wish = {"Inputs": {"in": "hello"}, "OnlyNodes": ["one"]}
    run = await controller.post("/api/v1/runs", {**documents(flow, a_def()), **wish}, expect=202)
    assert (run["Status"], run["WaitingURLs"]) == ("RUNNING", [])


async def test_the_timeout_of_a_request_can_only_shorten_that_of_the_flow(controller: ControllerUnderTest) -> None:
    runs = await keep(controller, documents(a_flow(Timeout="10m"), a_def()))
    lasts = []
    for timeout in ("1m", "1h", None):
        run = await controller.post(runs, {"Message": "x", "Timeout": timeout}, expect=202)
        lasts.append(datetime.fromisoformat(run["Deadline"]) - datetime.fromisoformat(run["CreatedAt"]))
    assert [last.total_seconds() for last in lasts] == [60, 600, 600]


async def test_a_call_that_takes_too_long_is_answered_with_the_run_which_goes_on(
    controller: ControllerUnderTest,
) -> None:
    runs = await keep(controller, COPYING)
    run = await controller.post(f"{runs}/sync", {"Message": "hello", "Wait": "100ms"}, expect=202)
    assert (run["Status"], run["Outputs"]) == ("RUNNING", {})
    await work(await controller.worker())
    done = await controller.get(f"/api/v1/runs/{run['ID']}")
    assert done["Status"] == "COMPLETE"


async def test_a_call_that_only_an_upload_can_move_does_not_wait_for_it(controller: ControllerUnderTest) -> None:
    runs = await keep(controller, COPYING)
    run = await controller.post(f"{runs}/sync", {}, expect=202)
    assert (run["Status"], len(run["WaitingURLs"])) == ("WAITING", 1)


async def test_a_run_that_fails_is_answered_with_200(controller: ControllerUnderTest) -> None:
    runs = await keep(controller, COPYING)
    worker = await controller.worker()
    waiting = asyncio.create_task(controller.post(f"{runs}/sync?output_only=true", {"Message": "hello"}))
    (assignment,) = await worker.claim()
    await worker.finish(
        assignment.ref, outcome="failed", reason="exit", message="exit 3", exit_code=3, final=True, next=None
    )
    run = await waiting
    assert (run["Status"], run["Error"]["NodeID"], run["NodeState"]["copy"]["ExitCode"]) == ("ERROR", "copy", 3)


async def test_only_the_outputs_are_answered_where_they_are_all_that_is_asked_for(
    controller: ControllerUnderTest,
) -> None:
    runs = await keep(controller, COPYING)
    worker = await controller.worker()
    waiting = asyncio.create_task(controller.post(f"{runs}/sync?output_only=true", {"Message": "hello"}))
    await work(worker, b"some text")
    outputs = await waiting
    assert outputs.keys() == {"out"}
    assert (outputs["out"]["Value"], outputs["out"]["Size"]) == ("some text", 9)
    assert outputs["out"]["ContentType"] == "text/plain"


async def test_a_caller_who_hangs_up_cancels_the_run_only_if_that_was_asked_for(
    controller: ControllerUnderTest,
) -> None:
    runs = await keep(controller, COPYING)
    for query, status in (("", "RUNNING"), ("?cancel_on_disconnect=true", "STOPPED")):
        waiting = asyncio.create_task(controller.post(f"{runs}/sync{query}", {"Message": query or "plain"}))
        made = await newest(controller)
        waiting.cancel()
        await asyncio.wait([waiting])
        async with asyncio.timeout(20):
            while (run := await controller.get(f"/api/v1/runs/{made}"))["Status"] != status:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert run["NodeState"]["copy"]["Status"] == ("READY" if status == "RUNNING" else "STOPPED")
        await controller.post(f"/api/v1/runs/{made}/cancel")
        async with controller.http.delete(f"{controller.url}/api/v1/runs/{made}") as response:
            assert response.status == 204


async def newest(controller: ControllerUnderTest) -> str:
    """The id of the only run, once it is there."""
    async with asyncio.timeout(20):
        while not (found := (await controller.get("/api/v1/runs"))["Runs"]):  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.02)
    return str(found[0]["ID"])


async def test_a_streamed_call_is_its_run_from_the_first_event_to_the_last(controller: ControllerUnderTest) -> None:
    runs = await keep(controller, COPYING)
    worker = await controller.worker()
    async with controller.http.post(
        f"{controller.url}{runs}/stream?types=node_completed", json={"Message": "x"}
    ) as got:
        assert got.status == 200
        await work(worker)
        text = (await got.read()).decode()
    told = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
    assert [event["Type"] for event in told] == ["node_completed", "run_completed"]
    assert {event["RunID"] for event in told} == {got.headers["X-Run-ID"]}


async def test_a_stream_of_unknown_types_makes_no_run(controller: ControllerUnderTest) -> None:
    runs = await keep(controller, COPYING)
    await controller.post(f"{runs}/stream?types=node_dreamt", {"Message": "x"}, expect=422)
    assert (await controller.get("/api/v1/runs"))["Runs"] == []


async def test_progress_only_grows_and_is_whole_only_at_the_good_end(controller: ControllerUnderTest) -> None:
    runs = await keep(controller, a_chain(4))
    worker = await controller.worker()
    run = await controller.post(runs, {"Message": "hello", "OnlyNodes": ["n2"]}, expect=202)
    seen = [run["Progress"]]
    for _ in range(3):
        assert seen[-1] < 100
        await work(worker)
        seen.append((await controller.get(f"/api/v1/runs/{run['ID']}"))["Progress"])
    assert seen == sorted(set(seen))
    assert seen[-1] == 100


async def removed(controller: ControllerUnderTest, path: str) -> None:
    async with controller.http.delete(controller.url + path) as response:
        assert response.status == 204, await response.text()


async def test_the_same_call_finds_its_run_when_flow_and_session_are_gone(controller: ControllerUnderTest) -> None:
    runs, worker = await keep(controller, COPYING), await controller.worker()
    session = (await controller.post("/api/v1/sessions", {}, expect=201))["ID"]
    call, once = {"Message": "hello", "SessionID": session}, {"Idempotency-Key": "once"}
    run = await controller.post(runs, call, expect=202, headers=once)
    await work(worker)
    await removed(controller, "/api/v1/flows/copying")
    await removed(controller, f"/api/v1/sessions/{session}")
    assert (await controller.post(runs, call, expect=202, headers=once))["ID"] == run["ID"]


async def test_a_run_whose_session_is_gone_runs_again_in_a_new_one(controller: ControllerUnderTest) -> None:
    runs, worker = await keep(controller, COPYING), await controller.worker()
    run = await controller.post(runs, {"Message": "hello"}, expect=202)
    await work(worker)
    await removed(controller, f"/api/v1/sessions/{run['SessionID']}")
    again = await controller.post(f"/api/v1/runs/{run['ID']}/replay", {}, expect=202)
    assert again["SessionID"] not in {"", run["SessionID"]}
