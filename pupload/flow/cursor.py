"""Where a loop of steps stands in a plan: what is behind it, what runs now, what is still missing. PURE."""

from collections.abc import Collection
from dataclasses import dataclass

from pupload.errors import CallerError
from pupload.flow.plan import Edge, NodeID, Plan


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the order of a plan. `now` are the nodes that run in this call, `next` the one that would follow."""

    index: int
    behind: tuple[NodeID, ...]
    now: tuple[NodeID, ...]
    next: NodeID | None


@dataclass(frozen=True, slots=True)
class Behind:
    """What the nodes behind a cursor left. `skipped` never ran, as something they need was left out.

    `missing` are outputs that must be there, are not, and are read by a node that is yet to run.
    """

    skipped: frozenset[NodeID]
    missing: tuple[Edge, ...]


def cursor_at(plan: Plan, index: int, *, remaining: bool) -> Cursor:
    """The cursor before the node with this index; with `remaining`, everything from there on runs now.

    Errors: CallerError when there is no such node.
    """
    order = tuple(sorted(plan.nodes, key=lambda node: plan.nodes[node].position))
    if not 0 <= index < len(order):
        raise CallerError(
            f"StepIndex {index}: this flow has {len(order)} nodes, so it is 0 to {len(order) - 1}",
            code="INVALID_STEP_INDEX",
        )
    end = len(order) if remaining else index + 1
    return Cursor(index, order[:index], order[index:end], order[end] if end < len(order) else None)


def left_behind(plan: Plan, cursor: Cursor, given: Collection[Edge]) -> Behind:
    """What is known of the nodes behind the cursor, from the outputs that are given of them."""
    ahead = plan.nodes.keys() - set(cursor.behind)
    absent, skipped, missing = set[Edge](), set[NodeID](), list[Edge]()
    for node_id in cursor.behind:
        node = plan.nodes[node_id]
        lacks = [output for output in node.outputs if output.edge not in given]
        if any(binding.required and binding.edge in absent for binding in node.inputs):
            skipped.add(node_id)
            absent |= {output.edge for output in lacks}
            continue
        absent |= {output.edge for output in lacks if not output.required}
        missing += [o.edge for o in lacks if o.required and ahead.intersection(plan.edges[o.edge].consumers)]
    return Behind(frozenset(skipped), tuple(missing))
