"""What a flow looks like to the flow that calls it."""

from typing import Any

import pytest

from pupload.flow.callee import Callee, pinned, references
from pupload.flow.compile import compile_plan
from pupload.flow.nested import MAX_DEPTH, callees_of
from pupload.flow.plan import FlowRef, NodeID
from pupload.tiers import TIERS
from tests.support.flows import a_def, a_flow, a_library, a_node, bound, codes_with, documents, findings, read

Json = dict[str, Any]
STORES = ["default"]


def calling(*names: str, **members: Any) -> Json:
    """A flow that calls these, one after the other, from edge `in` to edge `out`."""
    edges = ["in", *(f"e{i}" for i in range(1, len(names))), "out"]
    nodes = [
        {"ID": f"n{i}", "Uses": f"flow/{name}", "Inputs": bound({"in": source}), "Outputs": bound({"out": target})}
        | members
        for i, (name, source, target) in enumerate(zip(names, edges, edges[1:], strict=False))
    ]
    return {"Flow": {"Nodes": nodes}, "NodeDefs": []}


def callee(body: Json, **flows: Json) -> Callee:
    """What `flow/child` means, where it is `body`."""
    flow, _ = read(calling("child"))
    return callees_of(flow, a_library(flow, {"child": body, **flows}), tiers=TIERS, stores=STORES)["flow/child"]


def test_inputs_are_what_comes_from_outside_and_outputs_whatever_is_written() -> None:
    first, last = a_node("a", writes={"out": "mid"}), a_node("b", reads={"in": "mid"}, writes={"out": "end"})
    found = callee(documents(a_flow(first, last)))
    assert found.definition is not None
    assert [port.name for port in found.definition.inputs] == ["in"]
    assert {port.name: port.required for port in found.definition.outputs} == {"mid": False, "end": False}
    assert found.finals == ("end",)


def test_an_input_is_required_where_some_node_requires_it() -> None:
    optional = a_def(Inputs=[{"Name": "in", "Required": False}], Outputs=[{"Name": "out"}])
    found = callee(documents(a_flow(), optional))
    assert found.definition is not None
    assert [port.required for port in found.definition.inputs] == [False]


def test_a_static_edge_is_no_input() -> None:
    found = callee(documents(a_flow(DataWells=[{"Edge": "in", "Source": "static", "Key": "logo.png"}])))
    assert found.definition is not None
    assert found.definition.inputs == []


def test_types_go_through_every_level() -> None:
    typed = a_def(Inputs=[{"Name": "in", "Type": "image/png"}], Outputs=[{"Name": "out", "Type": "text/plain"}])
    inner = documents(a_flow(a_node(writes={"out": "out"})), typed)
    middle = calling("inner")
    flow, _ = read(calling("middle"))
    found = callees_of(flow, a_library(flow, {"middle": middle, "inner": inner}), tiers=TIERS, stores=STORES)
    definition = found["flow/middle"].definition
    assert definition is not None
    assert [port.type for port in definition.inputs] == [["image/png"]]
    assert [port.type for port in definition.outputs] == [["text/plain"]]


def test_parameters_are_flags() -> None:
    declared = [{"Name": "width", "Type": "int", "Required": True}, {"Name": "name", "Default": "x"}]
    found = callee(documents(a_flow(Parameters=declared)))
    assert found.definition is not None
    assert [(flag.name, flag.type, flag.required, flag.default) for flag in found.definition.flags] == [
        ("width", "int", True, None),
        ("name", "string", False, "x"),
    ]


def test_a_callee_with_errors_says_the_first_of_them() -> None:
    found = callee(documents(a_flow(), a_def("pupload/other")))
    assert "NODE_001" in found.problem


def test_a_circle_is_found_from_each_of_its_flows_and_from_outside() -> None:
    flows = {"a": calling("b"), "b": calling("c"), "c": calling("a")}
    for name, body in flows.items():
        assert codes_with(body, flows, name) == ["FLOW_006"]
    (found,) = findings(calling("b"), flows=flows)
    assert found.message.startswith("b calls c calls a calls b")


def test_a_flow_that_calls_itself_is_found() -> None:
    (found,) = findings(calling("a"), flows={"a": calling("a")}, name="a")
    assert found.message.startswith("a calls a")


def test_a_posted_flow_may_have_the_name_of_one_that_it_calls() -> None:
    assert findings(calling("a"), flows={"a": documents()}) == []


def test_the_same_flow_may_be_called_twice_and_by_two() -> None:
    flows = {"left": calling("base"), "right": calling("base"), "base": documents()}
    assert codes_with(calling("left", "right"), flows) == []


@pytest.mark.parametrize(("depth", "codes"), [(MAX_DEPTH, []), (MAX_DEPTH + 1, ["FLOW_006"])])
def test_calls_go_so_deep_and_no_deeper(depth: int, codes: list[str]) -> None:
    flows = {f"f{i}": calling(f"f{i + 1}") for i in range(1, depth)} | {f"f{depth}": documents()}
    assert codes_with(calling("f1"), flows) == codes


def test_a_wide_ladder_of_calls_is_looked_into_once() -> None:
    rungs = {f"f{i}": calling(*([f"f{i + 1}"] * 8)) for i in range(1, MAX_DEPTH)}
    assert codes_with(calling("f1"), rungs | {f"f{MAX_DEPTH}": documents()}) == []


def test_an_evaluation_of_a_called_flow_is_not_looked_into() -> None:
    child = documents(a_flow(Evals=[{"Name": "gone", "Flow": "nowhere"}]))
    assert codes_with(calling("child"), {"child": child}) == []


def test_an_evaluation_may_call_what_it_judges() -> None:
    judged = a_flow(Evals=[{"Name": "again", "Flow": "judge", "Inputs": {"in": {"From": "input", "Edge": "in"}}}])
    flows = {"judge": calling("copying"), "copying": documents(judged)}
    assert codes_with(documents(judged), flows, "copying") == []


def test_a_calling_node_has_no_image_and_no_tier_and_one_attempt() -> None:
    flow, defs = read(calling("child", Timeout="90s"))
    callees = callees_of(flow, a_library(flow, {"child": documents()}), tiers=TIERS, stores=STORES)
    node = compile_plan(flow, defs, tiers=TIERS, node_timeout_s=3600, callees=callees).nodes[NodeID("n0")]
    assert node.calls == FlowRef("child", "1", callees["flow/child"].digest)
    assert (node.image, node.tier.name, node.max_attempts, node.timeout_s) == ("", "", 1, 90.0)


def test_pinning_writes_out_every_version() -> None:
    flow, _ = read(calling("child"))
    judged = flow.model_copy(update={"evals": read(documents(a_flow(Evals=[{"Name": "e", "Flow": "judge"}])))[0].evals})
    callees = {each: Callee(each.partition("/")[2], "3") for each in references(judged)}
    exact = pinned(judged, callees)
    assert (exact.nodes[0].uses, exact.evals[0].flow) == ("flow/child@3", "judge@3")
    assert references(exact) == ["flow/child@3", "flow/judge@3"]
