"""A flow as a node of another one. PURE.

What a flow is called with and gives follows from its own plan, so the flows that it calls are looked into first.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pupload.flow.callee import FLOWS, Callee, Callees, called, nodes_in, references, without_evals
from pupload.flow.check import check, errors_in
from pupload.flow.compile import open_plan
from pupload.flow.model import Flow, FlowParameter
from pupload.flow.nodedef import FlagDef, FlagType, InputDef, NodeDef, OutputDef
from pupload.flow.plan import EdgePlan, Plan, Source
from pupload.tiers import Tier

MAX_DEPTH = 16
"""Flows below one another."""
TRIES = 1
"""Attempts of a node that calls a flow, unless it says more: the flow's own nodes have theirs."""


@dataclass(frozen=True, slots=True)
class FoundFlow:
    """A flow that a reference names, as it is kept. `version` is a number, or "draft"."""

    name: str
    version: str
    digest: str
    flow: Flow
    defs: Sequence[NodeDef]


Library = Mapping[str, FoundFlow | str]
"""By reference, the flow, or why there is none: of what a flow names, and of what that calls, and so on."""


def callees_of(
    flow: Flow, library: Library, *, tiers: Mapping[str, Tier], stores: Collection[str], name: str = ""
) -> Callees:
    """What each reference of `flow` means; `name` is its own where it is kept."""
    return _Caller(library, tiers, stores, name).callees_of(flow)


@dataclass(slots=True)
class _Caller:
    library: Library
    tiers: Mapping[str, Tier]
    stores: Collection[str]
    name: str
    named: dict[str, set[str]] = field(default_factory=dict)
    """By name, the names of the flows that some version of it calls."""
    heights: dict[str, int] = field(default_factory=dict)
    derived: dict[str, Callee] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for found in self.library.values():
            if isinstance(found, FoundFlow):
                self.named.setdefault(found.name, set()).update(self._names_in(found.flow))

    def _names_in(self, flow: Flow) -> Iterator[str]:
        calls = (self.library[reference] for reference in called(flow))
        return (found.name for found in calls if isinstance(found, FoundFlow))

    def callees_of(self, flow: Flow) -> Callees:
        calls = set(called(flow))
        return {each: self._callee(each, called=each in calls) for each in references(flow)}

    def _callee(self, reference: str, *, called: bool) -> Callee:
        found = self.library[reference]
        if isinstance(found, FoundFlow):
            # An evaluation is not evaluated, so by it nothing comes round.
            if loop := self._loop(found.name, (self.name,) if self.name and called else (), set()):
                return Callee(recursion=f"{' calls '.join(loop)}; let one of them do without the other")
            if self._height(found.name) > MAX_DEPTH:
                deep = f"flow {found.name} calls flows more than {MAX_DEPTH} deep"
                return Callee(recursion=f"{deep}; call them side by side")
        return self._derive(reference)

    def _loop(self, name: str, above: tuple[str, ...], clean: set[str]) -> tuple[str, ...]:
        """The names of a circle of calls that `name`, called by the last of `above`, leads into."""
        if name in above:
            return (*above[above.index(name) :], name)
        if name not in clean:
            for each in sorted(self.named.get(name, ())):
                if loop := self._loop(each, (*above, name), clean):
                    return loop
            clean.add(name)
        return ()

    def _height(self, name: str) -> int:
        """How deep calls go from a flow that leads into no circle."""
        if name not in self.heights:
            self.heights[name] = 1 + max(map(self._height, self.named.get(name, ())), default=0)
        return self.heights[name]

    def _derive(self, reference: str) -> Callee:
        """What the reference means, where it leads into no circle."""
        if reference not in self.derived:
            found = self.library[reference]
            self.derived[reference] = Callee(problem=found) if isinstance(found, str) else self._derived(found)
        return self.derived[reference]

    def _derived(self, found: FoundFlow) -> Callee:
        flow = without_evals(found.flow)
        inner = {reference: self._derive(reference) for reference in called(flow)}
        wrong = errors_in(check(flow, found.defs, tiers=self.tiers, stores=self.stores, callees=inner))
        if wrong:
            return Callee(problem=f"flow {found.name} has {wrong[0].code} at {wrong[0].path}: {wrong[0].message}")
        plan = open_plan(flow, found.defs, tiers=self.tiers, node_timeout_s=1, stores=self.stores, callees=inner)
        finals = tuple(edge.name for edge in plan.edges.values() if edge.producer and not edge.consumers)
        digest, definition = found.digest or plan.digest, definition_of(found, plan)
        return Callee(found.name, found.version, digest, definition, finals, nodes_in(flow, inner))


def definition_of(found: FoundFlow, plan: Plan) -> NodeDef:
    """The flow as a node sees it. An output may be left unbound, and has no object where the flow left it absent."""
    edges = plan.edges.values()
    inputs = [
        InputDef(name=edge.name, required=_is_needed(plan, edge), type=list(edge.types))
        for edge in edges
        if edge.source in (Source.UPLOAD, Source.WEBHOOK)
    ]
    outputs = [OutputDef(name=edge.name, required=False, type=list(edge.types)) for edge in edges if edge.producer]
    # Unlike a definition that somebody writes, it has as many flags as the flow has parameters.
    return NodeDef.model_construct(
        publisher=FLOWS,
        name=found.name,
        version=found.version,
        inputs=inputs,
        outputs=outputs,
        flags=[_flag(parameter) for parameter in found.flow.parameters],
        max_attempts=TRIES,
        timeout=found.flow.timeout,
    )


def _is_needed(plan: Plan, edge: EdgePlan) -> bool:
    return any(
        binding.required
        for reader in edge.consumers
        for binding in plan.nodes[reader].inputs
        if binding.edge == edge.name
    )


def _flag(parameter: FlowParameter) -> FlagDef:
    default = parameter.default if isinstance(parameter.default, str | int | float) else None
    return FlagDef(
        name=parameter.name,
        description=parameter.description,
        required=parameter.required and default is None,
        type=FlagType(parameter.type),
        default=default,
    )
