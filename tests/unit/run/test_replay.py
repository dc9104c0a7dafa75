"""What a replay keeps, by example."""

from collections.abc import Collection
from dataclasses import replace

import pytest

from pupload.flow.plan import Edge, NodeID, Plan
from pupload.run.replay import Earlier, edited_nodes, kept_edges, kept_nodes, to_run_again
from pupload.run.state import NodeStatus
from tests.support.runs import DIAMOND, a_plan, chain

pytestmark = pytest.mark.unit


def left_by(plan: Plan, *, lost: Collection[str] = (), **ended: str) -> Earlier:
    """What a run left in which every node was through but those that `ended` otherwise."""
    statuses = {node: NodeStatus(ended.get(node, "COMPLETE")) for node in plan.nodes}
    named = {
        edge.name
        for edge in plan.edges.values()
        if edge.producer is None or statuses[edge.producer] is NodeStatus.COMPLETE
    }
    return Earlier(statuses, frozenset(named), frozenset(named - set(lost)))


def kept(plan: Plan, earlier: Earlier, *roots: str) -> set[str]:
    return set(kept_nodes(plan, earlier, to_run_again(plan, earlier, [NodeID(root) for root in roots])))


def test_from_a_node_downwards_everything_runs_again() -> None:
    plan = a_plan(*DIAMOND)
    assert kept(plan, left_by(plan), "left") == {"top", "right"}


def test_only_what_failed_runs_again_with_what_hangs_on_it() -> None:
    plan = a_plan(*DIAMOND, fail_fast=False)
    assert kept(plan, left_by(plan, left="ERROR", bottom="SKIPPED")) == {"top", "right"}


def test_a_node_that_never_came_to_run_runs() -> None:
    plan = a_plan(*chain(3))
    assert kept(plan, left_by(plan, n1="ERROR", n2="IDLE")) == {"n0"}


def test_a_lost_object_makes_its_producer_run_again_and_what_that_needs() -> None:
    plan = a_plan(*chain(3))
    assert kept(plan, left_by(plan, lost=["e1"]), "n2") == {"n0"}
    assert kept(plan, left_by(plan, lost=["e0", "e1"]), "n2") == set()


def test_a_lost_object_that_nobody_needs_changes_nothing() -> None:
    plan = a_plan(*chain(3))
    assert kept(plan, left_by(plan, lost=["e0"]), "n2") == {"n0", "n1"}


def test_a_lost_result_is_made_again() -> None:
    plan = a_plan(*chain(2))
    assert kept(plan, left_by(plan, lost=["e1"])) == {"n0"}


def test_a_producer_that_runs_for_one_reader_leaves_the_other_alone() -> None:
    plan = a_plan(*DIAMOND)
    earlier = left_by(plan, lost=["a"])
    found = kept(plan, earlier, "left")
    assert found == {"right"}
    assert kept_edges(plan, earlier, {NodeID("right")}, ()) == {"in", "d"}


def test_what_an_optional_port_left_out_is_not_lost() -> None:
    plan = a_plan("n0: in -> a, b?", "n1: a, b? -> out")
    earlier = replace(left_by(plan), named=frozenset({Edge("in"), Edge("a"), Edge("out")}))
    earlier = replace(earlier, there=earlier.named)
    assert kept(plan, earlier, "n1") == {"n0"}


def test_a_replaced_input_is_not_kept() -> None:
    plan = a_plan(*chain(1))
    assert kept_edges(plan, left_by(plan), (), [Edge("in")]) == frozenset()


def test_limits_are_no_edit_and_flags_are() -> None:
    plan = a_plan(*chain(2))
    first = plan.nodes[NodeID("n0")]
    longer = replace(plan, nodes={**plan.nodes, first.id: replace(first, timeout_s=9.0, max_attempts=7)})
    flagged = replace(plan, nodes={**plan.nodes, first.id: replace(first, flags={"width": "9"})})
    assert edited_nodes(longer, plan) == frozenset()
    assert edited_nodes(flagged, plan) == {"n0"}


def test_a_parameter_in_the_key_of_a_result_is_an_edit() -> None:
    plan = a_plan(*chain(2))
    edge = replace(plan.edges[Edge("e1")], key="out/${RUN_ID}/${PARAM.name}")
    before = replace(plan, edges={**plan.edges, edge.name: edge}, parameters={"name": "a"})
    assert edited_nodes(replace(before, parameters={"name": "b"}), before) == {"n1"}
