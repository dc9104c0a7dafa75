"""Runs of flows that are kept, by request: over HTTP, on real PostgreSQL and a real store."""

import asyncio
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
