"""Builders of flow documents: the shortest thing that is valid, with what a test is about changed in it."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pupload.flow.callee import named_flow, references
from pupload.flow.check import Finding, check
from pupload.flow.compile import compile_plan
from pupload.flow.load import load_documents
from pupload.flow.model import Flow
from pupload.flow.nested import FoundFlow, callees_of
from pupload.flow.nodedef import NodeDef
from pupload.flow.plan import DEFAULT_STORE, Plan
from pupload.tiers import TIERS

Json = dict[str, Any]
COPY = "pupload/copy"

REFERENCE: Json = {
    "Flow": {
        "Name": "image-resize",
        "Nodes": [
            {
                "ID": "resize-1",
                "Uses": "pupload/resize",
                "Inputs": [{"Name": "image", "Edge": "input-image"}],
                "Outputs": [{"Name": "resized", "Edge": "output-image"}],
                "Flags": [{"Name": "width", "Value": "800"}],
            }
        ],
    },
    "NodeDefs": [
        {
            "Publisher": "pupload",
            "Name": "resize",
            "Image": "pupload/resize:latest",
            "Tier": "c-small",
            "MaxAttempts": 3,
        }
    ],
}
"""The example that the interface is described with; it must work as it stands."""


def bound(edges: Mapping[str, str]) -> list[Json]:
    """Bindings, port by port: `bound({"in": "photo"})`."""
    return [{"Name": port, "Edge": edge} for port, edge in edges.items()]


def a_node(
    node_id: str = "copy",
    *,
    reads: Mapping[str, str] | None = None,
    writes: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
    **members: Any,
) -> Json:
    """A node that copies edge `in` to edge `out`."""
    return {
        "ID": node_id,
        "Uses": COPY,
        "Inputs": bound({"in": "in"} if reads is None else reads),
        "Outputs": bound({"out": "out"} if writes is None else writes),
        "Flags": [{"Name": name, "Value": value} for name, value in (flags or {}).items()],
        **members,
    }


def a_def(reference: str = COPY, **members: Any) -> Json:
    """A def that declares nothing but its image."""
    publisher, _, name = reference.partition("/")
    return {"Publisher": publisher, "Name": name, "Image": "pupload/copy:1", **members}


def a_flow(*nodes: Json, **members: Any) -> Json:
    """A flow of these nodes; of one that copies when none is given."""
    return {"Name": "copying", "Nodes": list(nodes) or [a_node()], **members}


def documents(flow: Json | None = None, *defs: Json) -> Json:
    """The body of a request: `flow` and `defs`, or the default ones."""
    return {"Flow": flow or a_flow(), "NodeDefs": list(defs) or [a_def()]}


def read(body: Json) -> tuple[Flow, list[NodeDef]]:
    """The documents of `body`."""
    flow, defs, _ = load_documents(body, lenient=False)
    return flow, defs


def findings(
    body: Json,
    *,
    stores: Sequence[str] = (DEFAULT_STORE,),
    max_nodes: int = 10_000,
    flows: Mapping[str, Json] = MappingProxyType({}),
    name: str = "",
) -> list[Finding]:
    """What `check` finds in `body` on a server with these stores, which keeps `flows`; `name` is its own where kept."""
    flow, defs = read(body)
    callees = callees_of(flow, a_library(flow, flows), tiers=TIERS, stores=stores, name=name)
    return check(flow, defs, tiers=TIERS, stores=stores, max_nodes=max_nodes, callees=callees)


def codes_with(body: Json, flows: Mapping[str, Json], name: str = "") -> list[str]:
    """The codes of what `check` finds in `body` on a server that keeps these flows."""
    return [finding.code for finding in findings(body, flows=flows, name=name)]


def a_library(flow: Flow, flows: Mapping[str, Json]) -> dict[str, FoundFlow | str]:
    """What `flow` names, and what that names, from `flows`, the first version of each."""
    kept = {name: read(body) for name, body in flows.items()}
    named = [reference for each in (flow, *(found for found, _ in kept.values())) for reference in references(each)]
    return {reference: _found(reference, kept) for reference in named}


def _found(reference: str, kept: Mapping[str, tuple[Flow, list[NodeDef]]]) -> FoundFlow | str:
    name, version = named_flow(reference)
    if name not in kept or version not in {None, "1"}:
        return f"there is no flow {name!r}; publish it first"
    return FoundFlow(name, "1", "", *kept[name])


def codes(body: Json, *, stores: Sequence[str] = (DEFAULT_STORE,)) -> list[str]:
    """The codes of what `check` finds in `body`."""
    return [finding.code for finding in findings(body, stores=stores)]


def planned(body: Json, *, stores: Sequence[str] = (DEFAULT_STORE,), parameters: Json | None = None) -> Plan:
    """The plan of `body`, which has no error."""
    flow, defs = read(body)
    return compile_plan(flow, defs, tiers=TIERS, node_timeout_s=3600, parameters=parameters, stores=stores)


def a_chain(length: int) -> Json:
    """`length` nodes in a row, from edge e0 to edge e<length>."""
    nodes = [a_node(f"n{i}", reads={"in": f"e{i}"}, writes={"out": f"e{i + 1}"}) for i in range(length)]
    return documents(a_flow(*nodes), a_def(Command={"Name": "copy", "Exec": "cp ${in} ${out}"}))


def a_fan(width: int) -> Json:
    """`width` nodes side by side on one input, and one node that joins what they write."""
    side = [a_node(f"n{i}", writes={"out": f"e{i}"}) for i in range(width)]
    join = a_node("join", reads={f"in{i}": f"e{i}" for i in range(width)}, writes={"out": "joined"})
    return documents(a_flow(*side, join))
