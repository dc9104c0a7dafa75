"""Which input the message of a request is the value of. PURE.

Source: contract.md 8.2, `Message`.
"""

from collections.abc import Collection, Mapping

from pydantic import JsonValue

from pupload.errors import InvalidRequest
from pupload.flow.mime import is_text, normal, overlap
from pupload.flow.model import Flow
from pupload.flow.plan import Edge, EdgePlan, NodeID, Plan, Source


def inputs_with_message(plan: Plan, inputs: Mapping[str, JsonValue], message: str | None) -> dict[Edge, JsonValue]:
    """The given inputs, the message among them as that of its edge.

    Errors: InvalidRequest when the message could be for several edges or for none, or its edge is given as well.
    """
    given = {Edge(edge): value for edge, value in inputs.items()}
    if message is None:
        return given
    edge = _edge_of_message(plan, given)
    if edge in given:
        raise InvalidRequest(f"edge {edge!r} is given twice, by Message and by Inputs; leave out one")
    return {**given, edge: message}


def _edge_of_message(plan: Plan, given: Collection[Edge]) -> Edge:
    """The input marked Primary, else the only one that takes text and is not given."""
    outside = [edge for edge in plan.edges.values() if edge.source not in {None, Source.STATIC}]
    primary = [edge for edge in outside if edge.primary]
    candidates = primary or [edge for edge in outside if _takes_text(edge) and edge.name not in given]
    if len(candidates) == 1:
        return candidates[0].name
    what = f"it could be for {', '.join(edge.name for edge in candidates)}" if candidates else "no input takes text"
    raise InvalidRequest(
        f"whose value is the message? {what}; mark one well Primary, or use Inputs", code="AMBIGUOUS_MESSAGE"
    )


def _takes_text(edge: EdgePlan) -> bool:
    return overlap(edge.types, ["text/*"]) or any(is_text(normal(kind)) for kind in edge.types)


def missing_message(flow: Flow, plan: Plan, given: Collection[Edge], idle: Collection[NodeID]) -> Edge | None:
    """The edge that must be given with a call and is not: its well is Primary and has no Source of its own.

    None also where nobody reads it: all its readers are `idle` in this run.
    """
    for well in flow.data_wells:
        edge = plan.edges[Edge(well.edge)]
        from_the_call = well.primary and well.source is None and edge.producer is None
        if from_the_call and edge.name not in given and not set(edge.consumers) <= set(idle):
            return edge.name
    return None
