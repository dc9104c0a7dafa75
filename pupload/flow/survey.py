"""A flow with everything that rules and compiler ask of it, found once. PURE.

Nodes and ports are known by their place in the document, so that equal names cannot confuse anything.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pupload.flow.argv import split
from pupload.flow.callee import NO_CALLEES, Callees
from pupload.flow.mime import ANY
from pupload.flow.model import DataWell, Flow, FlowBinding, FlowNode
from pupload.flow.nodedef import CommandDef, NodeDef, PortDef
from pupload.flow.paths import in_flow
from pupload.flow.plan import DEFAULT_STORE
from pupload.tiers import Tier


@dataclass(frozen=True, slots=True)
class Port:
    """A bound port. `side` is Inputs or Outputs; `known` is False for a name that the def does not declare."""

    node: int
    side: str
    place: int
    name: str
    edge: str
    types: tuple[str, ...]
    required: bool
    known: bool

    @property
    def path(self) -> str:
        """Where it stands in the document."""
        return in_flow("Nodes", self.node, self.side, self.place)


@dataclass(frozen=True, slots=True)
class Required:
    """Names that every node of a def must bind or set."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Survey:
    """Everything about a flow.

    Shape: `defs_of_nodes` and `ports` go by the node's place, `required` by the def's `id()`, `producers`, `consumers`
    and `wells` by the edge's name, `callees` by reference. `defs` are those that were given; one of `defs_of_nodes` may
    be a called flow's.
    """

    flow: Flow
    defs: Sequence[NodeDef]
    tiers: Mapping[str, Tier]
    server_stores: frozenset[str]
    flow_stores: frozenset[str]
    max_nodes: int
    defs_of_nodes: Sequence[NodeDef | None]
    required: Mapping[int, Required]
    ports: Sequence[tuple[Port, ...]]
    producers: Mapping[str, Sequence[Port]]
    consumers: Mapping[str, Sequence[Port]]
    wells: Mapping[str, DataWell]
    callees: Callees

    def nodes(self) -> Iterator[tuple[int, FlowNode, NodeDef]]:
        """Place, node and def of every node whose def is there."""
        for place, (node, definition) in enumerate(zip(self.flow.nodes, self.defs_of_nodes, strict=True)):
            if definition is not None:
                yield place, node, definition

    def edges(self) -> list[str]:
        """Every edge that a node names, in the order of the document."""
        return list(dict.fromkeys(port.edge for ports in self.ports for port in ports if port.edge))

    def arcs(self) -> Iterator[tuple[int, int]]:
        """Producer and consumer of every edge, by place."""
        for edge, producers in self.producers.items():
            for consumer in self.consumers.get(edge, ()):
                yield producers[0].node, consumer.node

    def well_of(self, edge: str) -> DataWell | None:
        """The well that says where `edge` is kept: its own, else the flow's default one."""
        return self.wells.get(edge) or self.flow.default_data_well

    def has_store(self, name: str) -> bool:
        """True when the server, or the flow itself, declares the store `name`."""
        return name in self.server_stores or name in self.flow_stores

    def default_store(self) -> str | None:
        """The store of edges whose well names none; None when neither the flow nor the server has one."""
        well = self.flow.default_data_well
        if well is not None and well.store:
            return well.store
        return DEFAULT_STORE if self.has_store(DEFAULT_STORE) else None

    def last_resort(self) -> str | None:
        """The store of a produced edge that no well and no default store keeps: the flow's first."""
        return next((s.name for s in self.flow.stores), None)


def survey(
    flow: Flow,
    defs: Sequence[NodeDef],
    *,
    tiers: Mapping[str, Tier],
    stores: Collection[str],
    max_nodes: int,
    callees: Callees = NO_CALLEES,
) -> Survey:
    """What `flow` says, looked up in linear time."""
    flows = {reference: callee.definition for reference, callee in callees.items() if callee.definition}
    by_reference = defs_by_reference(defs) | flows
    defs_of_nodes = [by_reference.get(node.uses) for node in flow.nodes]
    ports = list(_ports_of_nodes(flow.nodes, defs_of_nodes))
    return Survey(
        flow=flow,
        defs=defs,
        tiers=tiers,
        server_stores=frozenset(stores),
        flow_stores=frozenset(s.name for s in flow.stores if not s.names_a_server_store),
        max_nodes=max_nodes,
        defs_of_nodes=defs_of_nodes,
        required={id(definition): _required(definition) for definition in (*defs, *flows.values())},
        ports=ports,
        producers=_by_edge(ports, "Outputs"),
        consumers=_by_edge(ports, "Inputs"),
        wells={well.edge: well for well in reversed(flow.data_wells)},
        callees=callees,
    )


def chosen_command(node: FlowNode, definition: NodeDef) -> CommandDef | None:
    """The command that `node` runs: the one it names, else the def's first; None when there is none such."""
    commands = definition.all_commands
    if node.command:
        return next((c for c in commands if c.name == node.command), None)
    return commands[0] if commands else None


def arguments(command: CommandDef) -> tuple[str, ...]:
    """The arguments of `command`; none when a quotation is not closed, which rule DEF_004 reports."""
    try:
        return split(command.exec)
    except ValueError:
        return ()


def version_order(version: str) -> list[tuple[int, int | str]]:
    """A sort key under which newer versions are greater; a release is newer than what leads up to it.

    >>> sorted(["1.10", "1.9", "2.0-rc1", "2.0", ""], key=version_order)
    ['', '1.9', '1.10', '2.0-rc1', '2.0']
    """
    parts = re.findall(r"\d+|[a-z]+", version.lower().removeprefix("v"))
    ordered: list[tuple[int, int | str]] = [(2, int(part)) if part.isdecimal() else (0, part) for part in parts]
    return [*ordered, (1, 0)] if parts else []


def defs_by_reference(defs: Sequence[NodeDef]) -> dict[str, NodeDef]:
    """Defs by what `Uses` may say: `publisher/name@version`, and without a version the newest."""
    found: dict[str, NodeDef] = {}
    for definition in sorted(defs, key=lambda d: version_order(d.version)):
        found[definition.reference] = definition
    for definition in reversed(defs):
        if definition.version:
            found[f"{definition.reference}@{definition.version}"] = definition
    return found


def _required(definition: NodeDef) -> Required:
    return Required(
        inputs=tuple(port.name for port in definition.inputs if port.required),
        outputs=tuple(port.name for port in definition.outputs if port.required),
        flags=tuple(flag.name for flag in definition.flags if flag.required and flag.default is None),
    )


def _ports_of_nodes(nodes: Sequence[FlowNode], defs: Sequence[NodeDef | None]) -> Iterator[tuple[Port, ...]]:
    declared: dict[int, tuple[dict[str, PortDef], dict[str, PortDef]]] = {}
    for place, (node, definition) in enumerate(zip(nodes, defs, strict=True)):
        if id(definition) not in declared:
            # Once for each def, not for each node: a def may have thousands of ports, and a flow of nodes.
            declared[id(definition)] = _named(definition)
        inputs, outputs = declared[id(definition)]
        yield (*_side(place, "Inputs", node.inputs, inputs), *_side(place, "Outputs", node.outputs, outputs))


def _named(definition: NodeDef | None) -> tuple[dict[str, PortDef], dict[str, PortDef]]:
    if definition is None:
        return {}, {}
    return {port.name: port for port in definition.inputs}, {port.name: port for port in definition.outputs}


def _side(node: int, side: str, bound: Sequence[FlowBinding], declared: Mapping[str, PortDef]) -> Iterator[Port]:
    for place, binding in enumerate(bound):
        port = declared.get(binding.name)
        types = tuple(port.type) if port else (ANY,)
        required = port.required if port else True
        known = port is not None or not declared
        yield Port(node, side, place, binding.name, binding.edge, types, required, known)


def _by_edge(ports: Sequence[tuple[Port, ...]], side: str) -> dict[str, list[Port]]:
    found: dict[str, list[Port]] = {}
    for port in (port for of_node in ports for port in of_node if port.side == side and port.edge):
        found.setdefault(port.edge, []).append(port)
    return found
