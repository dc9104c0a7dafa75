"""Which nodes an event can touch, so that no more than those are read. PURE.

The shell loads at least the scope of an event before it asks `transition`; loading more changes nothing.
"""

from dataclasses import dataclass
from typing import assert_never

from pupload.flow.plan import Edge, NodeID, Plan
from pupload.run.events import (
    Event,
    NodeAsked,
    NodeClaimed,
    NodeFailed,
    NodeReleased,
    NodeSucceeded,
    RunCancelled,
    RunCreated,
    RunExhausted,
    RunTimedOut,
    ToolsAnswered,
    UploadReceived,
)


@dataclass(frozen=True, slots=True)
class Scope:
    """`nodes` by name, and with `stoppable` every node that has begun and not ended."""

    nodes: frozenset[NodeID] = frozenset()
    stoppable: bool = False

    def __or__(self, other: "Scope") -> "Scope":
        """What both touch."""
        return Scope(self.nodes | other.nodes, self.stoppable or other.stoppable)


def scope_of(plan: Plan, event: Event) -> Scope:
    """Every node whose state the event reads or writes."""
    match event:
        case RunCreated():
            return Scope(frozenset(plan.nodes))
        case UploadReceived():
            return Scope(readers(plan, event.artifact.edge))
        case NodeClaimed():
            return Scope(frozenset({event.node}))
        case NodeSucceeded() if event.absent:
            return Scope(descendants(plan, event.node))
        case NodeSucceeded():
            written = plan.nodes[event.node].outputs
            return Scope(frozenset({event.node}).union(*(readers(plan, output.edge) for output in written)))
        case NodeFailed() if not plan.fail_fast:
            return Scope(descendants(plan, event.node))
        case NodeFailed():
            return Scope(frozenset({event.node}), stoppable=True)
        case NodeReleased() | NodeAsked() | ToolsAnswered():
            return Scope(frozenset({event.node}))
        case RunCancelled() | RunTimedOut() | RunExhausted():
            return Scope(stoppable=True)
        case _:
            assert_never(event)


def readers(plan: Plan, edge: Edge) -> frozenset[NodeID]:
    """The nodes that take `edge` as an input."""
    return frozenset(plan.edges[edge].consumers)


def descendants(plan: Plan, node: NodeID) -> frozenset[NodeID]:
    """`node` and everything downstream of it."""
    found = {node}
    unseen = [node]
    while unseen:
        for output in plan.nodes[unseen.pop()].outputs:
            new = readers(plan, output.edge) - found
            found |= new
            unseen.extend(new)
    return frozenset(found)
