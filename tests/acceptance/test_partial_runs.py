"""Runs of some nodes, with what they need."""

import pytest

from tests.support.shell_steps import a_chain, a_request, a_step
from tests.support.visitor import Visitor, statuses, told

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]


def test_only_what_is_asked_for_runs_and_what_it_needs(visitor: Visitor) -> None:
    wish = {**a_chain(3), "Message": "hello", "OnlyNodes": ["n1"]}
    run = visitor.post("/api/v1/runs/sync", wish)
    assert run["Status"] == "COMPLETE", told(run)
    assert statuses(run) == {"n0": "COMPLETE", "n1": "COMPLETE", "n2": "SKIPPED"}
    assert (run["Progress"], run["Counts"]["Skipped"], run["Artifacts"].keys()) == (100.0, 1, {"e0", "e1", "e2"})
    assert {edge: output["Value"] for edge, output in run["Outputs"].items()} == {"e2": "hello"}
    first = visitor.events(run["ID"])[0]
    assert (first.event, first.data["Data"]["Skipped"]) == ("run_started", ["n2"])


def test_nobody_waits_for_the_input_of_what_does_not_run(visitor: Visitor) -> None:
    request = a_request(a_step("one"), a_step("two", reads={"in": "never"}, writes={"out": "nothing"}))
    run = visitor.post("/api/v1/runs/sync", {**request, "Inputs": {"in": "hello"}, "OnlyNodes": ["one"]})
    assert run["Status"] == "COMPLETE", told(run)
    assert run["WaitingURLs"] == []


def test_an_unknown_node_is_named_and_makes_no_run(visitor: Visitor) -> None:
    error = visitor.post("/api/v1/runs", {**a_chain(2), "OnlyNodes": ["m1"]}, status=422)["Error"]
    assert error["Code"] == "NODE_NOT_FOUND"
    assert "'m1'" in error["Message"]
