"""Flows that call flows, on a real controller, the workers' side played by hand."""

from typing import Any

from pupload.protocol import Assignment
from tests.support.controller import ControllerUnderTest, HandWorker
from tests.support.flows import a_def, a_flow, a_node, bound, documents
from tests.support.until import until_found

Json = dict[str, Any]
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


async def ended(controller: ControllerUnderTest, run_id: str) -> Json:
    """The run once it is over."""

    async def over() -> Json | None:
        run: Json = await controller.get(f"/api/v1/runs/{run_id}")
        return run if run["Status"] in {"COMPLETE", "ERROR", "STOPPED"} else None

    found: Json = await until_found(over)
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
    (assignment,) = await until_found(worker.claim)
    found: Assignment = assignment
    return found


async def a_call(controller: ControllerUnderTest, child: Json = COPYING) -> tuple[str, HandWorker, Assignment]:
    """A run that calls a flow, and the attempt of the called run, held by a worker."""
    await keep(controller, "child", child)
    await keep(controller, "parent", calling("flow/child"))
    parent = await start(controller, "parent", Inputs={"photo": "hello"})
    worker = await controller.worker()
    return parent, worker, await work(worker)


async def test_a_called_flow_is_a_run_with_parent_and_root_and_its_output_is_the_callers(
    controller: ControllerUnderTest,
) -> None:
    parent, worker, assignment = await a_call(controller)
    child = assignment.ref.run_id
    await copy(worker, assignment)
    run = await ended(controller, parent)
    assert run["Status"] == "COMPLETE", run
    assert run["Artifacts"]["result"]["ObjectName"].startswith(child)
    lower = await controller.get(f"/api/v1/runs/{child}")
    assert (lower["ParentRunID"], lower["RootRunID"], run["RootRunID"]) == (parent, parent, parent)
    assert run["NodeState"]["call"]["ChildRunID"] == child
    async with controller.http.get(f"{controller.url}/api/v1/runs/{parent}/artifacts/result") as response:
        assert await response.read() == b"copied"


async def test_a_flow_may_call_one_that_calls_another(controller: ControllerUnderTest) -> None:
    await keep(controller, "bottom", COPYING)
    await keep(controller, "middle", calling("flow/bottom", Inputs=bound({"in": "in"}), Outputs=bound({"out": "out"})))
    await keep(controller, "top", calling("flow/middle@1"))
    top = await start(controller, "top", Inputs={"photo": "hello"})
    worker = await controller.worker()
    assignment = await work(worker)
    assert (await controller.get(f"/api/v1/runs/{assignment.ref.run_id}"))["RootRunID"] == top
    await copy(worker, assignment)
    run = await ended(controller, top)
    assert run["Status"] == "COMPLETE", run
    async with controller.http.get(f"{controller.url}/api/v1/runs/{top}/artifacts/result") as response:
        assert await response.read() == b"copied"


async def test_what_fails_below_fails_the_node_with_the_same_code_and_text(controller: ControllerUnderTest) -> None:
    parent, worker, assignment = await a_call(controller, documents(a_flow(Name=""), a_def(MaxAttempts=1)))
    await worker.finish(assignment.ref, outcome="failed", reason="exit", message="it broke", exit_code=3)
    run = await ended(controller, parent)
    assert (run["Status"], run["Error"]["Code"], run["Error"]["NodeID"]) == ("ERROR", "NODE_EXIT", "call")
    assert "it broke" in run["Error"]["Message"]
    assert run["NodeState"]["call"]["Attempt"] == 1


async def test_a_node_calls_its_flow_as_often_as_its_attempts_allow(controller: ControllerUnderTest) -> None:
    await keep(controller, "child", documents(a_flow(Name=""), a_def(MaxAttempts=1)))
    await keep(controller, "parent", calling("flow/child", MaxAttempts=2))
    parent = await start(controller, "parent", Inputs={"photo": "hello"})
    worker = await controller.worker()
    first = await work(worker)
    await worker.finish(first.ref, outcome="failed", reason="exit", message="it broke", exit_code=3)
    second = await work(worker)
    assert second.ref.run_id != first.ref.run_id
    await copy(worker, second)
    run = await ended(controller, parent)
    assert (run["Status"], run["NodeState"]["call"]["Attempt"]) == ("COMPLETE", 2)


async def test_who_stops_the_caller_stops_what_it_called(controller: ControllerUnderTest) -> None:
    parent, worker, assignment = await a_call(controller)
    await controller.post(f"/api/v1/runs/{parent}/cancel")
    stop = await until_found(lambda: _ordered_to_stop(worker, assignment))
    assert stop
    await worker.finish(assignment.ref, outcome="failed", reason="cancelled", message="stopped")
    assert (await ended(controller, assignment.ref.run_id))["Status"] == "STOPPED"
    assert (await ended(controller, parent))["Status"] == "STOPPED"


async def _ordered_to_stop(worker: HandWorker, assignment: Assignment) -> bool:
    return bool((await worker.beat([assignment.ref]))["Stop"])


async def test_who_stops_a_called_run_ends_the_call(controller: ControllerUnderTest) -> None:
    await keep(controller, "child", COPYING)
    await keep(controller, "parent", calling("flow/child", MaxAttempts=3))
    parent = await start(controller, "parent", Inputs={"photo": "hello"})
    child = await until_found(lambda: _child_of(controller, parent))
    await controller.post(f"/api/v1/runs/{child}/cancel")
    run = await ended(controller, parent)
    assert (run["Status"], run["NodeState"]["call"]["Reason"]) == ("ERROR", "cancelled")


async def _child_of(controller: ControllerUnderTest, parent: str) -> str:
    run = await controller.get(f"/api/v1/runs/{parent}")
    return str(run["NodeState"]["call"]["ChildRunID"])


async def test_the_timeout_of_a_node_is_that_of_the_run_that_it_calls(controller: ControllerUnderTest) -> None:
    await keep(controller, "child", COPYING)
    await keep(controller, "parent", calling("flow/child", Timeout="300ms"))
    parent = await start(controller, "parent", Inputs={"photo": "hello"})
    run = await ended(controller, parent)
    assert (run["Status"], run["StatusReason"], run["Error"]["Code"]) == ("ERROR", "timeout", "RUN_TIMEOUT")


async def test_parameters_come_from_flags_and_an_unbound_optional_input_stays_absent(
    controller: ControllerUnderTest,
) -> None:
    optional = a_def(Inputs=[{"Name": "in"}, {"Name": "extra", "Required": False}], Outputs=[{"Name": "out"}])
    node = a_node(reads={"in": "in", "extra": "extra"}, flags={"size": "${PARAM.size}"})
    child = documents(a_flow(node, Name="", Parameters=[{"Name": "size", "Type": "int", "Required": True}]), optional)
    await keep(controller, "child", child)
    await keep(controller, "parent", calling("flow/child", Flags=[{"Name": "size", "Value": 7}]))
    parent = await start(controller, "parent", Inputs={"photo": "hello"})
    worker = await controller.worker()
    assignment = await work(worker)
    assert assignment.flags == {"size": "7"}
    assert {each.port: each.content is not None for each in assignment.inputs} == {"in": True, "extra": False}
    await copy(worker, assignment)
    assert (await ended(controller, parent))["Status"] == "COMPLETE"


async def test_a_wells_own_key_gets_a_copy_of_what_the_called_flow_wrote(controller: ControllerUnderTest) -> None:
    await keep(controller, "child", COPYING)
    body = calling("flow/child")
    body["Flow"]["DataWells"] = [{"Edge": "result", "Key": "results/${RUN_ID}.txt"}]
    await keep(controller, "parent", body)
    parent = await start(controller, "parent", Inputs={"photo": "hello"})
    worker = await controller.worker()
    await copy(worker, await work(worker))
    run = await ended(controller, parent)
    assert run["Artifacts"]["result"]["ObjectName"] == f"results/{parent}.txt"


async def test_findings_name_what_cannot_be_called(controller: ControllerUnderTest) -> None:
    await keep(controller, "child", COPYING)
    await keep(controller, "here", calling("flow/there"), publish=False)
    await keep(controller, "there", calling("flow/here"), publish=False)
    for flow, code in (("here", "FLOW_006"), ("there", "FLOW_006")):
        assert await _codes(controller, flow) == [code]
    await keep(controller, "lost", calling("flow/nowhere"), publish=False)
    assert await _codes(controller, "lost") == ["FLOW_007"]
    await keep(controller, "old", calling("flow/child@7"), publish=False)
    assert await _codes(controller, "old") == ["FLOW_007"]
    await keep(controller, "loose", calling("flow/child", Inputs=[]), publish=False)
    assert await _codes(controller, "loose") == ["NODE_002"]
    await keep(controller, "odd", calling("flow/child", Flags=[{"Name": "size", "Value": 1}]), publish=False)
    assert await _codes(controller, "odd") == ["NODE_006"]


async def _codes(controller: ControllerUnderTest, flow: str) -> list[str]:
    async with controller.http.post(f"{controller.url}/api/v1/flows/{flow}/validate") as response:
        return [finding["Code"] for finding in (await response.json())["Findings"]]


async def test_a_published_caller_goes_on_with_the_version_that_it_was_published_with(
    controller: ControllerUnderTest,
) -> None:
    await keep(controller, "child", documents(a_flow(Name=""), a_def(Env={"EDITION": "1"})))
    await keep(controller, "parent", calling("flow/child"))
    await keep(controller, "child", documents(a_flow(Name=""), a_def(Env={"EDITION": "2"})))
    worker = await controller.worker()
    await start(controller, "parent", Inputs={"photo": "hello"})
    assert (await work(worker)).env["EDITION"] == "1"
    await start(controller, "parent", Inputs={"photo": "hello"}, Version="draft")
    assert (await work(worker)).env["EDITION"] == "2"


async def test_who_calls_a_draft_cannot_be_published(controller: ControllerUnderTest) -> None:
    await keep(controller, "child", COPYING, publish=False)
    await keep(controller, "parent", calling("flow/child"), publish=False)
    refused = await controller.post("/api/v1/flows/parent/versions", expect=409)
    assert refused["Error"]["Code"] == "NAMES_DRAFT"


async def test_a_draft_that_changed_since_is_not_called(controller: ControllerUnderTest) -> None:
    await keep(controller, "child", COPYING, publish=False)
    await keep(controller, "parent", calling("flow/child"), publish=False)
    parent = await start(controller, "parent")
    await keep(controller, "child", documents(a_flow(Name=""), a_def(MaxAttempts=9)), publish=False)
    async with controller.http.put(f"{controller.url}/api/v1/runs/{parent}/inputs/photo", data=b"x") as response:
        assert response.status == 204
    run = await ended(controller, parent)
    assert run["Error"]["Code"] == "DRAFT_CHANGED"


async def test_a_called_run_may_be_removed_and_its_result_stays_with_the_caller(
    controller: ControllerUnderTest,
) -> None:
    parent, worker, assignment = await a_call(controller)
    await copy(worker, assignment)
    await ended(controller, parent)
    for run_id, left in ((assignment.ref.run_id, [200, 200]), (parent, [404, 404])):
        async with controller.http.delete(f"{controller.url}/api/v1/runs/{run_id}") as response:
            assert response.status == 204, await response.text()
        there = []
        for edge in ("result", "photo"):
            async with controller.http.get(f"{controller.url}/api/v1/runs/{parent}/artifacts/{edge}") as response:
                there.append(response.status)
        assert there == left
