"""Flows that a flow names: by a node's `Uses: flow/<name>[@<version>]`, or as an evaluation. PURE."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pupload.flow.model import Flow
from pupload.flow.nodedef import NodeDef

FLOWS = "flow"
"""The publisher of node definitions that are flows; no other definition may have it."""


@dataclass(frozen=True, slots=True)
class Callee:
    """What a reference to a flow turned out to mean.

    `definition` is the flow as a node sees it: its input edges and written edges are ports, its parameters flags; None
    where it cannot be called, and then `problem` or `recursion` says why. `finals` are the edges that it writes and
    does not read itself. `version` is a number, or "draft". `nodes` is how many it has, with those that it calls in
    turn.
    """

    name: str = ""
    version: str = ""
    digest: str = ""
    definition: NodeDef | None = None
    finals: tuple[str, ...] = ()
    nodes: int = 0
    problem: str = ""
    recursion: str = ""


Callees = Mapping[str, Callee]
"""By reference, as `Uses` says it."""
NO_CALLEES: Callees = MappingProxyType({})


def names_a_flow(uses: str) -> bool:
    """True for a `Uses` that is a flow's and no definition's."""
    return uses.startswith(f"{FLOWS}/")


def named_flow(reference: str) -> tuple[str, str | None]:
    """Name and version that a reference says; None where it leaves the version open.

    >>> named_flow("flow/thumbnails@3"), named_flow("flow/thumbnails")
    (('thumbnails', '3'), ('thumbnails', None))
    """
    name, _, version = reference.removeprefix(f"{FLOWS}/").partition("@")
    return name, version or None


def called(flow: Flow) -> list[str]:
    """Every flow that a node of `flow` calls, once, in the order of the document."""
    return list(dict.fromkeys(node.uses for node in flow.nodes if names_a_flow(node.uses)))


def references(flow: Flow) -> list[str]:
    """Every flow that `flow` names, as a node or as an evaluation, once."""
    return list(dict.fromkeys([*called(flow), *(eval_reference(each.flow) for each in flow.evals)]))


def nodes_in(flow: Flow, callees: Callees) -> int:
    """How many nodes a run of `flow` has, with those of all runs that it calls."""
    return len(flow.nodes) + sum(callees[node.uses].nodes for node in flow.nodes if node.uses in callees)


def without_evals(flow: Flow) -> Flow:
    """`flow` as it is when another one calls it: only a run that somebody asked for is evaluated."""
    return flow.model_copy(update={"evals": []}) if flow.evals else flow


def eval_reference(flow: str) -> str:
    """The reference to the flow of an evaluation."""
    return flow if names_a_flow(flow) else f"{FLOWS}/{flow}"


def exact_reference(callee: Callee) -> str:
    """The reference that names the callee at its version."""
    return f"{FLOWS}/{callee.name}@{callee.version}"


def pinned(flow: Flow, callees: Callees) -> Flow:
    """`flow` with the version of every flow that it names written out."""
    exact = {reference: exact_reference(callee) for reference, callee in callees.items()}
    nodes = [node.model_copy(update={"uses": exact.get(node.uses, node.uses)}) for node in flow.nodes]
    evals = [
        each.model_copy(update={"flow": exact.get(eval_reference(each.flow), each.flow).removeprefix(f"{FLOWS}/")})
        for each in flow.evals
    ]
    return flow.model_copy(update={"nodes": nodes, "evals": evals})
