"""The flow as a graph: its order and its cycles. PURE; the only importer of networkx.

It imports it when there is a graph to look at: that takes half a second, which nobody need pay who only answers.
"""

from collections.abc import Iterable


class FlowGraph:
    """Nodes by their place in the flow (0, 1, …), and an arc from each producer to each of its consumers."""

    def __init__(self, size: int, arcs: Iterable[tuple[int, int]]) -> None:
        import networkx as nx

        self._graph: nx.DiGraph[int] = nx.DiGraph()
        self._graph.add_nodes_from(range(size))
        self._graph.add_edges_from(arcs)

    def order(self) -> list[int]:
        """Producers before consumers, ties by place. Errors: ValueError when there is a cycle."""
        import networkx as nx

        try:
            return list(nx.lexicographical_topological_sort(self._graph))
        except nx.NetworkXUnfeasible as error:
            raise ValueError("a graph with a cycle has no order") from error

    def cycles(self) -> list[list[int]]:
        """One list for each knot of nodes that wait for one another, by place; empty for a graph without cycles."""
        import networkx as nx

        knots = [sorted(c) for c in nx.strongly_connected_components(self._graph) if len(c) > 1]
        return sorted(knots + [[node] for node in nx.nodes_with_selfloops(self._graph)])
