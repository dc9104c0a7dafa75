"""Flows that call flows, as a client sees them."""

from typing import Any

import pytest

from tests.support.shell_steps import a_request, a_step
from tests.support.visitor import Json, Visitor, statuses, told

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

SHOUT = 'tr a-z A-Z < "$INPUT_IN" > "$OUTPUT_OUT"; printf "%s" "$FLAG_MARK" >> "$OUTPUT_OUT"'


def publish(visitor: Visitor, name: str, body: Json) -> None:
    """A version of the flow."""
    visitor.ask("PUT", f"/api/v1/flows/{name}", json=body)
    visitor.post(f"/api/v1/flows/{name}/versions", status=201)


def calling(name: str, **members: Any) -> Json:
    """A flow whose one node calls another."""
    node = {
        "ID": "call",
        "Uses": f"flow/{name}",
        "Inputs": [{"Name": "in", "Edge": "in"}],
        "Outputs": [{"Name": "out", "Edge": "out"}],
        **members,
    }
    return {"Flow": {"Nodes": [node]}, "NodeDefs": []}


def called(visitor: Visitor, name: str) -> Json:
    """The ended run of a call of the flow."""
    run = visitor.post(f"/api/v1/flows/{name}/runs", {"Inputs": {"in": "hello"}}, status=202)
    visitor.made.append(run["ID"])
    return visitor.ended(run["ID"])


def test_a_flow_runs_as_a_node_of_another_and_of_another(visitor: Visitor) -> None:
    mark = {"Name": "mark", "Type": "string", "Required": True}
    shout = a_step("shout", SHOUT, node={"Flags": [{"Name": "mark", "Value": "${PARAM.mark}"}]})
    publish(visitor, "nested-shout", a_request(shout, Name="", Parameters=[mark]))
    publish(visitor, "nested-middle", calling("nested-shout@1", Flags=[{"Name": "mark", "Value": "!"}]))
    publish(visitor, "nested-top", calling("nested-middle"))
    top = called(visitor, "nested-top")
    assert top["Status"] == "COMPLETE", told(top)
    assert visitor.artifact(top["ID"], "out") == b"HELLO!"
    middle = visitor.run(top["NodeState"]["call"]["ChildRunID"])
    bottom = visitor.run(middle["NodeState"]["call"]["ChildRunID"])
    assert [run["ParentRunID"] for run in (top, middle, bottom)] == ["", top["ID"], middle["ID"]]
    assert {run["RootRunID"] for run in (top, middle, bottom)} == {top["ID"]}
    assert (bottom["FlowName"], bottom["FlowVersion"]) == ("nested-shout", "1")
    types = [frame.event for frame in visitor.events(top["ID"]) if frame.node == "call"]
    assert types == ["node_queued", "node_started", "node_output", "node_completed"]


def test_the_failure_of_a_called_flow_fails_the_node(visitor: Visitor) -> None:
    publish(visitor, "nested-broken", a_request(a_step("broken", "exit 3", MaxAttempts=1), Name=""))
    publish(visitor, "nested-caller", calling("nested-broken"))
    run = called(visitor, "nested-caller")
    assert (run["Status"], run["Error"]["Code"], statuses(run)) == ("ERROR", "NODE_EXIT", {"call": "ERROR"})
    assert "nested-broken" in run["Error"]["Message"]


def test_cancelling_the_caller_stops_the_container_below(visitor: Visitor) -> None:
    publish(visitor, "nested-sleeper", a_request(a_step("sleep", "sleep 60"), Name=""))
    publish(visitor, "nested-waiting", calling("nested-sleeper"))
    run = visitor.post("/api/v1/flows/nested-waiting/runs", {"Inputs": {"in": "hello"}}, status=202)
    visitor.made.append(run["ID"])
    child = visitor.until(run["ID"], lambda seen: bool(seen["NodeState"]["call"]["ChildRunID"]))
    child_id = child["NodeState"]["call"]["ChildRunID"]
    visitor.until(child_id, lambda seen: statuses(seen) == {"sleep": "RUNNING"})
    visitor.cancel(run["ID"])
    assert [visitor.ended(each)["Status"] for each in (child_id, run["ID"])] == ["STOPPED", "STOPPED"]


def test_a_flow_that_calls_itself_is_refused(visitor: Visitor) -> None:
    publish(visitor, "nested-circle", a_request(a_step(), Name=""))
    visitor.ask("PUT", "/api/v1/flows/nested-circle", json=calling("nested-circle"))
    found = visitor.post("/api/v1/flows/nested-circle/validate")["Findings"]
    assert [finding["Code"] for finding in found] == ["FLOW_006"]
    refused = visitor.post("/api/v1/flows/nested-circle/versions", status=422)
    assert [detail["Code"] for detail in refused["Error"]["Details"]] == ["FLOW_006"]
