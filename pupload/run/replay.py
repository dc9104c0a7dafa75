"""Which nodes of an earlier run need not run again: a choice over the plan. PURE.

A node is kept when it was through, nothing asks for it anew, and every output of it is there that somebody still
needs. What is not kept runs: so a node that runs finds each input present, or made by another that runs, or known to
have been left out.
"""

from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass, replace

from pupload.flow.plan import Binding, Edge, NodeID, NodePlan, Plan
from pupload.run.scope import descendants
from pupload.run.state import NodeStatus

_THROUGH = frozenset({NodeStatus.COMPLETE, NodeStatus.SKIPPED})


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier run left behind.

    `named` are the edges on which it has an artifact, `there` those whose object still exists.
    """

    statuses: Mapping[NodeID, NodeStatus]
    named: frozenset[Edge]
    there: frozenset[Edge]


def kept_nodes(plan: Plan, earlier: Earlier, again: Set[NodeID]) -> frozenset[NodeID]:
    """The nodes whose work stands. `again` are those that are to run in any case; see `to_run_again`."""
    kept = set[NodeID]()
    for node in reversed(list(plan.nodes.values())):
        through = earlier.statuses.get(node.id) is NodeStatus.COMPLETE and node.id not in again
        if through and not any(_is_wanted(plan, output, earlier, kept) for output in node.outputs):
            kept.add(node.id)
    return frozenset(kept)


def to_run_again(plan: Plan, earlier: Earlier, roots: Iterable[NodeID]) -> frozenset[NodeID]:
    """`roots`, the nodes that failed or never came to it, and everything that hangs on one of these."""
    failed = [node for node in plan.nodes if earlier.statuses.get(node, NodeStatus.IDLE) not in _THROUGH]
    return frozenset[NodeID]().union(*(descendants(plan, node) for node in {*roots, *failed}))


def kept_edges(plan: Plan, earlier: Earlier, kept: Collection[NodeID], replaced: Collection[Edge]) -> frozenset[Edge]:
    """The edges whose objects the new run begins with: those of kept nodes, and from outside what is not replaced."""
    return frozenset(
        edge
        for edge in earlier.there - frozenset(replaced)
        if edge in plan.edges and (plan.edges[edge].producer is None or plan.edges[edge].producer in kept)
    )


def edited_nodes(plan: Plan, before: Plan) -> frozenset[NodeID]:
    """The nodes of `plan` that would not do what they did `before`. Limits alone change no result."""
    return frozenset(node_id for node_id in plan.nodes if not _does_the_same(plan, before, node_id))


def _does_the_same(plan: Plan, before: Plan, node_id: NodeID) -> bool:
    old, new = before.nodes.get(node_id), plan.nodes[node_id]
    if old is None:
        return False
    alike = replace(
        new,
        position=old.position,
        tier=old.tier,
        max_attempts=old.max_attempts,
        timeout_s=old.timeout_s,
        retry=old.retry,
    )
    return alike == old and _places(plan, new) == _places(before, old)


def _places(plan: Plan, node: NodePlan) -> tuple[object, ...]:
    """Where the results of the node go."""
    keys = [(plan.edges[output.edge].store, plan.edges[output.edge].key or "") for output in node.outputs]
    return (keys, plan.parameters if any("PARAM." in key for _, key in keys) else {})


def _is_wanted(plan: Plan, output: Binding, earlier: Earlier, kept: Collection[NodeID]) -> bool:
    """True when the object of this output is lost, and not all who read it are kept.

    A result that nobody reads is wanted by the user. What an optional port may have left out is wanted as soon as it
    is known to be lost: a run that begins without it could not tell the two apart.
    """
    edge = plan.edges[output.edge]
    if edge.name in earlier.there:
        return False
    was_there = output.required or edge.name in earlier.named or edge.lifetime_s is not None
    return was_there and (not output.required or not edge.consumers or not set(edge.consumers).issubset(kept))
