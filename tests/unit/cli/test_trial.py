"""`pup test` against a server that plays a run."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pupload.cli.exits import UsageError
from pupload.cli.trial import conduct
from pupload.cli.wishes import Wishes
from pupload.client.errors import NotAllowed
from tests.support.fake_server import FakeServer, event, gives, moved, says, sends, streams
from tests.unit.cli.conftest import node

Flows = Callable[..., Path]
RUN: dict[str, Any] = {
    "ID": "run_1",
    "FlowName": "f",
    "Status": "RUNNING",
    "CreatedAt": "2026-01-02T03:04:05Z",
    "StartedAt": "2026-01-02T03:04:05Z",
    "NodeState": {"a": {"Status": "IDLE", "MaxAttempts": 3}},
}


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with FakeServer() as fake:
        waiting = {"Artifact": {"StoreName": "default", "ObjectName": "k", "EdgeName": "x", "Size": 0}, "TTL": 60}
        begun = RUN | {"WaitingURLs": [waiting | {"PutURL": f"{fake.url}/bucket/k?s=1"}]}
        fake.on("GET", "/readyz", gives({}))
        fake.on("POST", "/api/v1/flow/test", gives(begun))
        fake.on("PUT", "/bucket/k", says("", 200))
        fake.on("POST", "/api/v1/runs/run_1/uploads/x/complete", gives({}))
        fake.on("POST", "/api/v1/runs/run_1/cancel", gives(RUN))
        yield fake


def ends(server: FakeServer, status: str, last: str, *frames: str, **members: Any) -> None:
    async def once_uploaded(request: web.Request) -> web.StreamResponse:
        async with asyncio.timeout(10):
            while not any(asked.path.endswith("/complete") for asked in server.asked):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        return await streams(*frames, event(9, last))(request)

    ended = {"Status": status, "FinishedAt": "2026-01-02T03:04:07Z"}
    server.on("GET", "/api/v1/runs/run_1/events", once_uploaded)
    server.on("GET", "/api/v1/runs/run_1", gives(RUN | ended | members))


async def tried(server: FakeServer, flow: Path, *outputs: str, as_json: bool = False) -> int:
    given = flow.with_name("x.bin")
    given.write_bytes(b"123")
    wishes = Wishes.read(flow, [f"x={given}"], list(outputs), None, None)
    return await conduct(server.url, wishes, as_json=as_json)


async def test_a_complete_run_uploads_shows_and_downloads(
    server: FakeServer, flow_file: Flows, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = {"StoreName": "default", "ObjectName": "o", "EdgeName": "z", "Size": 3, "ContentType": "text/plain"}
    ends(
        server, "COMPLETE", "run_completed",
        event(1, "node_started", "a", Attempt=1, Worker="w"),
        event(2, "node_log", "a", Message="hello", Stream="stdout"),
        event(3, "node_completed", "a", Attempt=1),
        Artifacts={"z": artifact},
    )  # fmt: skip
    server.on("GET", "/api/v1/runs/run_1/artifacts/z", moved(f"{server.url}/bucket/o?s=1"))
    server.on("GET", "/bucket/o", sends(b"abc"))
    assert await tried(server, flow_file(node("a", ["x"], ["z"])), f"z={tmp_path}/deep/z.txt") == 0
    assert (tmp_path / "deep/z.txt").read_text() == "abc"
    assert [asked.body for asked in server.asked if asked.method == "PUT"] == [b"123"]
    said = capsys.readouterr().out
    for line in ("a: started on w", "a | hello", "a: complete in 0.0 s", "run_1: COMPLETE in 2.0 s"):
        assert line in said


async def test_where_a_posted_file_is_awaited_is_said(
    server: FakeServer, flow_file: Flows, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = {"Artifact": {"StoreName": "default", "ObjectName": "k", "EdgeName": "y", "Size": 0}, "TTL": 60}
    hooked = waiting | {"PutURL": "", "PostURL": "http://somewhere/hook"}
    server._answers["POST", "/api/v1/flow/test"] = [gives(RUN | {"WaitingURLs": [hooked]})]
    server.on("GET", "/api/v1/runs/run_1/events", streams(event(9, "run_completed")))
    server.on("GET", "/api/v1/runs/run_1", gives(RUN | {"Status": "COMPLETE", "FinishedAt": "2026-01-02T03:04:07Z"}))
    flow = flow_file(node("a", ["y"], ["z"]), DataWells=[{"Edge": "y", "Source": "webhook"}])
    assert await conduct(server.url, Wishes.read(flow, [], [], None, None), as_json=False) == 0
    assert "waiting for y: POST its bytes to http://somewhere/hook" in capsys.readouterr().out


async def test_a_failed_run_names_node_and_reason(
    server: FakeServer, flow_file: Flows, capsys: pytest.CaptureFixture[str]
) -> None:
    error = {"Code": "NODE_EXIT", "Message": "exit code 3", "NodeID": "a"}
    ends(server, "ERROR", "run_failed", Error=error, StatusReason="node_failed")
    assert await tried(server, flow_file(node("a", ["x"], ["z"]))) == 1
    assert "ERROR in 2.0 s: node a: exit code 3 (NODE_EXIT)" in capsys.readouterr().out


async def test_a_stopped_run_has_its_own_exit_code(server: FakeServer, flow_file: Flows) -> None:
    ends(server, "STOPPED", "run_cancelled", StatusReason="cancelled")
    assert await tried(server, flow_file(node("a", ["x"], ["z"]))) == 3


async def test_json_is_all_that_goes_to_standard_output(
    server: FakeServer, flow_file: Flows, capsys: pytest.CaptureFixture[str]
) -> None:
    ends(server, "COMPLETE", "run_completed")
    assert await tried(server, flow_file(node("a", ["x"], ["z"])), as_json=True) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["Status"] == "COMPLETE"
    assert "COMPLETE" in captured.err


async def test_where_results_are_that_were_not_wished_is_said(
    server: FakeServer, flow_file: Flows, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = {"StoreName": "default", "ObjectName": "o", "EdgeName": "z", "Size": 3, "ContentType": "text/plain"}
    ends(server, "COMPLETE", "run_completed", Artifacts={"z": artifact})
    await tried(server, flow_file(node("a", ["x"], ["z"])))
    assert f"at {server.url}/api/v1/runs/run_1/artifacts/z" in capsys.readouterr().out


async def test_an_upload_that_is_refused_cancels_the_run(server: FakeServer, flow_file: Flows) -> None:
    async def for_ever(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.Event().wait()
        return response

    server._answers["PUT", "/bucket/k"] = [says("no", 403)]
    server.on("GET", "/api/v1/runs/run_1/events", for_ever)
    with pytest.raises(NotAllowed):
        await tried(server, flow_file(node("a", ["x"], ["z"])))
    assert "/api/v1/runs/run_1/cancel" in [asked.path for asked in server.asked]


async def test_a_flow_that_the_server_refuses_is_a_usage_error(flow_file: Flows) -> None:
    async with FakeServer() as server:
        finding = {"Code": "FLOW_001", "Path": "$.Flow", "Message": "a cycle"}
        server.on("GET", "/readyz", gives({}))
        refusal = {"error": {"Code": "INVALID_FLOW", "Message": "1 finding", "Details": [finding]}}
        server.on("POST", "/api/v1/flow/test", gives(refusal, 400))
        with pytest.raises(UsageError) as raised:
            await tried(server, flow_file(node("a", ["x"], ["z"])))
    assert raised.value.details == (finding,)
