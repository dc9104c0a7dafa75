"""Which nodes of a plan run when only some are asked for. PURE."""

import difflib
from collections.abc import Collection, Iterable

from pupload.errors import InvalidRequest
from pupload.flow.plan import NodeID, Plan


def needed_for(plan: Plan, asked: Iterable[str]) -> frozenset[NodeID]:
    """The nodes asked for, and every node whose output one of them needs.

    Errors: InvalidRequest for what is no node of the plan.
    """
    unseen = [_known(plan, node) for node in asked]
    found = set(unseen)
    while unseen:
        for binding in plan.nodes[unseen.pop()].inputs:
            producer = plan.edges[binding.edge].producer
            if producer is not None and producer not in found:
                found.add(producer)
                unseen.append(producer)
    return frozenset(found)


def _known(plan: Plan, node: str) -> NodeID:
    if NodeID(node) not in plan.nodes:
        raise InvalidRequest(f"OnlyNodes: {no_such_node(node, plan.nodes)}", code="NODE_NOT_FOUND")
    return NodeID(node)


def no_such_node(node: str, known: Collection[str]) -> str:
    """That there is no such node, and which one is nearest."""
    near = difflib.get_close_matches(node, known, n=1, cutoff=0.0)
    hint = f"; the nearest is {near[0]!r}" if near else ""
    return f"there is no node {node[:80]!r}{hint}"
