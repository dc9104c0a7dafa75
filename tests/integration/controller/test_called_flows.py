"""Flows that call flows, on a real controller, the workers' side played by hand."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from pupload.protocol import Assignment
from tests.support.controller import ControllerUnderTest, HandWorker
from tests.support.flows import a_def, a_flow, a_node, bound, documents

Json = dict[str, Any]
_PATIENCE_S = 30.0
COPYING = documents(a_flow(Name=""))


async def keep(controller: ControllerUnderTest, name: str, body: Json, *, publish: bool = True) -> None:
    """The flow is there."""
    async with controller.http.put(f"{controller.url}/api/v1/flows/{name}", json=body) as response:
        assert response.status in {200, 201}, await response.text()
    if publish:
        async with controller.http.post(f"{controller.url}/api/v1/flows/{name}/versions") as response:
            assert response.status in {200, 201}, await response.text()


def calling(reference: str, **members: Any) -> Json:
    """A flow of one node that calls another."""
    node = {
        "ID": "call",
        "Uses": reference,
        "Inputs": bound({"in": "photo"}),
        "Outputs": bound({"out": "result"}),
        **members,
    }
    return {"Flow": {"Nodes": [node]}, "NodeDefs": []}


async def until(holds: Callable[[], Awaitable[Any]]) -> Any:
    """What `holds` gives once it is true."""
    async with asyncio.timeout(_PATIENCE_S):
        while not (found := await holds()):
            await asyncio.sleep(0.02)
    return found


async def ended(controller: ControllerUnderTest, run_id: str) -> Json:
    """The run once it is over."""

    async def over() -> Json | None:
        run: Json = await controller.get(f"/api/v1/runs/{run_id}")
        return run if run["Status"] in {"COMPLETE", "ERROR", "STOPPED"} else None

    found: Json = await until(over)
    return found


async def start(controller: ControllerUnderTest, flow: str, **request: Any) -> str:
    """The id of a new run of the flow."""
    run: Json = await controller.post(f"/api/v1/flows/{flow}/runs", request, expect=202)
    return str(run["ID"])


async def copy(worker: HandWorker, assignment: Assignment, content: bytes = b"copied") -> None:
    """The attempt ends well, with that content."""
    output = await worker.upload_output(assignment, content, "text/plain")
    await worker.finish(assignment.ref, outputs=[output.wire()], exit_code=0)


async def work(worker: HandWorker) -> Assignment:
    """The next attempt that there is."""
    (assignment,) = await until(worker.claim)
    found: Assignment = assignment
    return found


async def test_a_called_flow_is_a_run_with_parent_and_root_and_its_output_is_the_callers(
    controller: ControllerUnderTest,
) -> None:
    await keep(controller, "child", COPYING)
    await keep(controller, "parent", calling("flow/child"))
    parent = await start(controller, "parent", Inputs={"photo": "hello"})
    worker = await controller.worker()
    assignment = await work(worker)
    child = assignment.ref.run_id
    assert child != parent
    await copy(worker, assignment)
    run = await ended(controller, parent)
    assert run["Status"] == "COMPLETE", run
    assert run["Artifacts"]["result"]["ObjectName"].startswith(child)
    lower = await controller.get(f"/api/v1/runs/{child}")
    assert (lower["ParentRunID"], lower["RootRunID"], run["RootRunID"]) == (parent, parent, parent)
