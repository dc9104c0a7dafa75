"""The controller as clients and workers reach it: over HTTP, on real PostgreSQL and a real store."""

import asyncio

import pytest

from pupload.protocol import InputFound
from tests.support.controller import REFERENCE, ControllerUnderTest

pytestmark = pytest.mark.integration


async def put(controller: ControllerUnderTest, run: dict, content: bytes) -> None:  # type: ignore[type-arg]
    async with controller.http.put(run["WaitingURLs"][0]["PutURL"], data=content) as response:
        assert response.status == 200, await response.text()


async def test_the_reference_example_runs_from_post_to_download(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    run = await controller.post("/api/v1/flow/test", REFERENCE)
    assert run["Status"] == "WAITING"
    assert [url["Artifact"]["EdgeName"] for url in run["WaitingURLs"]] == ["input-image"]
    assert run["NodeState"]["resize-1"] | {"Attempt": 0, "MaxAttempts": 3, "Logs": []} == run["NodeState"]["resize-1"]
    await put(controller, run, b"abc")
    (assignment,) = await worker.claim()
    async with controller.http.get(assignment.inputs[0].content.url) as response:  # type: ignore[union-attr]
        assert await response.read() == b"abc"
    found = await worker.upload_output(assignment, b"result", "text/plain")
    await worker.finish(assignment.ref, outputs=[found])
    done = await controller.get(f"/api/v1/flow/status/{run['ID']}")
    assert (done["Status"], done["Progress"], done["WaitingURLs"]) == ("COMPLETE", 100.0, [])
    assert done["Artifacts"]["output-image"]["SHA256"] == found.sha256
    async with controller.http.get(f"{controller.url}/api/v1/runs/{run['ID']}/artifacts/output-image") as response:
        assert await response.read() == b"result"
        assert "attachment" in response.headers["Content-Disposition"]


async def test_an_unknown_run_has_the_exact_text_on_the_reference_route(controller: ControllerUnderTest) -> None:
    async with controller.http.get(f"{controller.url}/api/v1/flow/status/run_none") as response:
        assert (response.status, await response.text()) == (400, "Flow run does not exist.")
        assert response.content_type == "text/plain"
    error = await controller.get("/api/v1/runs/run_none", expect=404)
    assert error["Error"]["Code"] == "RUN_NOT_FOUND"


async def test_the_result_of_a_lost_lease_is_refused(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    run = await controller.post("/api/v1/flow/test", REFERENCE)
    await put(controller, run, b"abc")
    (first,) = await worker.claim()
    worker.instance = "two"
    await worker.hello()
    (second,) = await worker.claim(wait_s=10)
    assert second.ref.attempt == 2
    await worker.finish(first.ref, expect=409)
    found = await worker.upload_output(second, b"result", "text/plain")
    await worker.finish(second.ref, outputs=[found])
    done = await controller.get(f"/api/v1/runs/{run['ID']}")
    assert (done["Status"], done["NodeState"]["resize-1"]["Attempt"]) == ("COMPLETE", 2)


async def test_a_cancel_reaches_the_worker_in_its_held_beat(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    run = await controller.post("/api/v1/flow/test", REFERENCE)
    await put(controller, run, b"abc")
    (assignment,) = await worker.claim()
    beat = asyncio.create_task(worker.beat([assignment.ref], wait_s=5))
    await asyncio.sleep(0.05)
    cancelled = await controller.post(f"/api/v1/runs/{run['ID']}/cancel")
    assert (cancelled["Status"], cancelled["StatusReason"]) == ("RUNNING", "stopping")
    answered = await beat
    assert [order["Reason"] for order in answered["Stop"]] == ["cancelled"]
    await worker.finish(assignment.ref, outcome="failed", reason="cancelled", message="stopped")
    stopped = await controller.get(f"/api/v1/runs/{run['ID']}")
    assert (stopped["Status"], stopped["StatusReason"]) == ("STOPPED", "cancelled")


async def test_events_replay_resume_and_end(controller: ControllerUnderTest) -> None:
    run = await controller.post("/api/v1/flow/test", REFERENCE)
    await controller.post(f"/api/v1/runs/{run['ID']}/cancel")
    async with controller.http.get(f"{controller.url}/api/v1/runs/{run['ID']}/events") as response:
        whole = await response.text()
    assert [line[7:] for line in whole.splitlines() if line.startswith("event: ")] == [
        "run_started",
        "waiting_uploads",
        "run_cancelled",
    ]
    headers = {"Last-Event-ID": "2"}
    async with controller.http.get(f"{controller.url}/api/v1/runs/{run['ID']}/events", headers=headers) as response:
        assert [line for line in (await response.text()).splitlines() if line.startswith("id: ")] == ["id: 3"]


async def test_a_direct_upload_settles_its_edge_once(controller: ControllerUnderTest) -> None:
    run = await controller.post("/api/v1/flow/test", REFERENCE)
    path = f"{controller.url}/api/v1/runs/{run['ID']}/inputs"
    for edge, status in (("input-image", 204), ("input-image", 409), ("nothing", 404)):
        async with controller.http.put(f"{path}/{edge}", data=b"abc") as response:
            assert response.status == status, await response.text()
    assert (await controller.get(f"/api/v1/runs/{run['ID']}"))["NodeState"]["resize-1"]["Status"] == "READY"


async def test_a_success_without_a_required_output_is_refused(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    run = await controller.post("/api/v1/flow/test", REFERENCE)
    await put(controller, run, b"abc")
    (assignment,) = await worker.claim()
    await worker.finish(assignment.ref, expect=422)
    await worker.finish(assignment.ref, absent=["output-image"], expect=422)
    assert (await controller.get(f"/api/v1/runs/{run['ID']}"))["Status"] == "RUNNING"


async def test_two_readers_of_one_upload_must_have_read_the_same_bytes(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    nodes = [
        {
            "ID": name,
            "Uses": "pupload/resize",
            "Inputs": [{"Name": "image", "Edge": "input-image"}],
            "Outputs": [{"Name": "resized", "Edge": f"out-{name}"}],
        }
        for name in ("one", "two")
    ]
    run = await controller.post("/api/v1/flow/test", REFERENCE | {"Flow": {"Name": "two", "Nodes": nodes}})
    await put(controller, run, b"abc")
    for sha256 in ("aa", "bb"):
        (assignment,) = await worker.claim()
        found = await worker.upload_output(assignment, b"result", "text/plain")
        read = InputFound(edge="input-image", size_bytes=3, sha256=sha256, content_type="text/plain")
        await worker.finish(assignment.ref, outputs=[found], inputs=[read])
    ended = await controller.get(f"/api/v1/runs/{run['ID']}")
    assert (ended["Status"], ended["Error"]["Code"]) == ("ERROR", "NODE_TRANSFER")
    assert "overwritten" in ended["Error"]["Message"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"Flow": null}', b'{"Flow": {}, "NodeDefs": []}', b'"\xff"', b"[" * 100_000]
)
async def test_garbage_gets_400_with_a_reason(controller: ControllerUnderTest, body: bytes) -> None:
    async with controller.http.post(f"{controller.url}/api/v1/flow/test", data=body) as response:
        assert response.status == 400
        assert (await response.json())["error"]["Message"]
