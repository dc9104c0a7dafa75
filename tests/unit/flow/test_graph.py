"""The order of a flow, its cycles, and who waits for whom."""

import pytest

from pupload.flow.graph import FlowGraph

DIAMOND = [(3, 1), (3, 2), (1, 0), (2, 0)]


def test_producers_come_before_consumers_and_ties_go_by_place() -> None:
    assert FlowGraph(4, DIAMOND).order() == [3, 1, 2, 0]
    assert FlowGraph(5, []).order() == [0, 1, 2, 3, 4]


def test_every_knot_of_nodes_is_a_cycle_of_its_own() -> None:
    assert FlowGraph(6, [(0, 1), (1, 0), (2, 3), (3, 4), (4, 2), (5, 5)]).cycles() == [[0, 1], [2, 3, 4], [5]]


def test_a_graph_without_cycles_has_none() -> None:
    assert FlowGraph(4, DIAMOND).cycles() == []


def test_a_cycle_has_no_order() -> None:
    with pytest.raises(ValueError, match="cycle"):
        FlowGraph(2, [(0, 1), (1, 0)]).order()


def test_a_node_may_have_ten_thousand_parents_and_a_chain_ten_thousand_links() -> None:
    assert FlowGraph(10_001, [(place, 10_000) for place in range(10_000)]).order()[-1] == 10_000
    chain = FlowGraph(10_001, [(place + 1, place) for place in range(10_000)])
    assert chain.order() == list(range(10_000, -1, -1))
    assert FlowGraph(10_000, [(place, (place + 1) % 10_000) for place in range(10_000)]).cycles() == [
        list(range(10_000))
    ]
