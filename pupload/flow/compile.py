"""A checked flow made into a Plan: every default applied, every name looked up. PURE.

The plan is made with its parameters still open, which gives the digest of the definition; then they are filled in.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from pydantic import JsonValue

from pupload.errors import InvalidRequest
from pupload.flow import keys
from pupload.flow.argv import option_problem, split, variables
from pupload.flow.callee import NO_CALLEES, Callee, Callees
from pupload.flow.evals import eval_plans
from pupload.flow.graph import FlowGraph
from pupload.flow.mime import extension_of, intersection, normal
from pupload.flow.model import DataWell, Flow, FlowNode
from pupload.flow.nodedef import NodeDef
from pupload.flow.parameters import bind_parameters, fill, filled_length, typed_text
from pupload.flow.plan import (
    DEFAULT_STORE,
    NO_TIER,
    Binding,
    Edge,
    EdgePlan,
    FlowRef,
    NodeID,
    NodePlan,
    Plan,
    Retry,
    Source,
    StorePlan,
    dump_plan,
)
from pupload.flow.survey import Port, Survey, chosen_command, survey
from pupload.tiers import DEFAULT_TIER, Tier
from pupload.units import parse_duration

DEFAULT_MAX_ATTEMPTS = 3
MAX_FILLED = 16 * 1024**2
"""Characters of all flags that name parameters, once these are filled in: a short text may name a long one often."""
UNNAMED = "flow"
"""The name of a flow that has none: it is part of keys and of containers' environment."""


def compile_plan(
    flow: Flow,
    defs: Sequence[NodeDef],
    *,
    tiers: Mapping[str, Tier],
    node_timeout_s: float,
    parameters: Mapping[str, JsonValue] | None = None,
    stores: Collection[str] = (DEFAULT_STORE,),
    callees: Callees = NO_CALLEES,
) -> Plan:
    """The plan of a flow that `check` finds no error in.

    `node_timeout_s` is for nodes that neither flow nor def limits; `stores` are the names of the server's stores,
    `callees` what the flows that it names turned out to be.
    Errors: InvalidRequest for parameters that do not fit the flow, or that make a key unsafe.
    """
    values = bind_parameters(flow.parameters, parameters or {})
    opened = open_plan(flow, defs, tiers=tiers, node_timeout_s=node_timeout_s, stores=stores, callees=callees)
    filled = _filled(opened, values)
    _require_safe_keys(filled)
    return filled


def open_plan(
    flow: Flow,
    defs: Sequence[NodeDef],
    *,
    tiers: Mapping[str, Tier],
    node_timeout_s: float,
    stores: Collection[str] = (DEFAULT_STORE,),
    callees: Callees = NO_CALLEES,
) -> Plan:
    """As `compile_plan`, its parameters still open: what the digest is of."""
    surveyed = survey(flow, defs, tiers=tiers, stores=stores, max_nodes=len(flow.nodes), callees=callees)
    order = FlowGraph(len(flow.nodes), surveyed.arcs()).order()
    nodes = [_node_or_call(surveyed, place, position, node_timeout_s) for position, place in enumerate(order)]
    plan = Plan(
        name=flow.name or UNNAMED,
        nodes={node.id: node for node in nodes},
        edges={edge.name: edge for edge in (_edge(surveyed, name) for name in surveyed.edges())},
        stores={store.name: store for store in _stores(flow)},
        timeout_s=_seconds(flow.timeout),
        fail_fast=flow.fail_fast,
        evals=eval_plans(surveyed),
    )
    return replace(plan, digest=_digest(plan, flow))


def _node_or_call(surveyed: Survey, place: int, position: int, node_timeout_s: float) -> NodePlan:
    callee = surveyed.callees.get(surveyed.flow.nodes[place].uses)
    if callee is None:
        return _node(surveyed, place, position, node_timeout_s)
    return _call(surveyed, place, position, callee)


def _call(surveyed: Survey, place: int, position: int, callee: Callee) -> NodePlan:
    node, definition = surveyed.flow.nodes[place], callee.definition
    if definition is None:
        raise ValueError(f"node {node.id} calls nothing; only a checked flow can be compiled")
    return NodePlan(
        id=NodeID(node.id),
        position=position,
        uses=node.uses,
        image="",
        tier=NO_TIER,
        flags=_flags(node, definition),
        flag_names=tuple(sorted(flag.name for flag in definition.flags)),
        inputs=tuple(_input(port) for port in surveyed.ports[place] if port.side == "Inputs"),
        outputs=tuple(_output(port) for port in surveyed.ports[place] if port.side == "Outputs"),
        max_attempts=node.max_attempts or definition.max_attempts,
        timeout_s=_seconds(node.timeout) or 0.0,
        calls=FlowRef(callee.name, callee.version, callee.digest),
    )


def _node(surveyed: Survey, place: int, position: int, node_timeout_s: float) -> NodePlan:
    node, definition = surveyed.flow.nodes[place], surveyed.defs_of_nodes[place]
    if definition is None:
        raise ValueError(f"node {node.id} has no def; only a checked flow can be compiled")
    argv = _argv(node, definition)
    return NodePlan(
        id=NodeID(node.id),
        position=position,
        uses=node.uses,
        image=definition.image,
        tier=surveyed.tiers[node.tier or definition.tier or DEFAULT_TIER],
        argv=argv,
        env=dict(sorted((definition.env | node.env).items())),
        flags=_flags(node, definition),
        flag_names=_flag_names(argv or (), surveyed.ports[place], node, definition),
        inputs=tuple(_input(port) for port in surveyed.ports[place] if port.side == "Inputs"),
        outputs=tuple(_output(port) for port in surveyed.ports[place] if port.side == "Outputs"),
        max_attempts=node.max_attempts or definition.max_attempts or DEFAULT_MAX_ATTEMPTS,
        retry=_retry(definition),
        timeout_s=_seconds(node.timeout or definition.timeout) or node_timeout_s,
        network=definition.network,
        user=definition.user,
        access=definition.access,
        session=definition.session,
        attachments=definition.attachments,
        ask_exit_code=definition.tool_exit_code if definition.allow_tools else None,
    )


def _argv(node: FlowNode, definition: NodeDef) -> tuple[str, ...] | None:
    command = chosen_command(node, definition)
    return split(command.exec) if command else None


def _flags(node: FlowNode, definition: NodeDef) -> dict[str, str]:
    kinds = {flag.name: flag.type for flag in definition.flags}
    values = {flag.name: flag.default for flag in definition.flags if flag.default is not None}
    values |= {flag.name: flag.value for flag in node.flags if flag.value is not None}
    return {name: typed_text(value, kinds.get(name, "string")) for name, value in sorted(values.items())}


def _flag_names(argv: tuple[str, ...], ports: Sequence[Port], node: FlowNode, definition: NodeDef) -> tuple[str, ...]:
    declared = [flag.name for flag in definition.flags] or [flag.name for flag in node.flags]
    bound = {port.name for port in ports}
    return tuple(sorted({*declared, *(name for name in variables(argv) if name not in bound)}))


def _input(port: Port) -> Binding:
    return Binding(port.name, Edge(port.edge), _types(port), port.required)


def _output(port: Port) -> Binding:
    return Binding(port.name, Edge(port.edge), _types(port), port.required, extension_of(port.types))


def _types(port: Port) -> tuple[str, ...]:
    return _normal_types(port.types)


@lru_cache(maxsize=1024)
def _normal_types(types: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(normal, types)))


def _retry(definition: NodeDef) -> Retry:
    given, standard = definition.retry, Retry()
    delay_s = _seconds(given.delay) or standard.delay_s
    reasons = given.reasons()
    return Retry(
        delay_s=delay_s,
        max_delay_s=max(delay_s, _seconds(given.max_delay) or standard.max_delay_s),
        on=standard.on if reasons is None else reasons,
    )


def _seconds(duration: str | None) -> float | None:
    return parse_duration(duration).total_seconds() if duration else None


def _edge(surveyed: Survey, name: str) -> EdgePlan:
    producers, consumers = surveyed.producers.get(name, ()), surveyed.consumers.get(name, ())
    well = surveyed.well_of(name) or DataWell()
    types = _types(producers[0]) if producers else _types_of_all(consumers)
    nodes = surveyed.flow.nodes
    return EdgePlan(
        name=Edge(name),
        producer=NodeID(nodes[producers[0].node].id) if producers else None,
        consumers=tuple(dict.fromkeys(NodeID(nodes[port.node].id) for port in consumers)),
        source=None if producers else Source(well.source or Source.UPLOAD),
        store=well.store or surveyed.default_store() or surveyed.last_resort() or DEFAULT_STORE,
        key=well.key,
        lifetime_s=_seconds(well.lifetime),
        max_size_bytes=well.max_size,
        primary=well.primary,
        types=types,
        extension=extension_of(types),
        output=bool(producers) and (not consumers or name in surveyed.wells),
    )


def _types_of_all(consumers: Sequence[Port]) -> tuple[str, ...]:
    """What every consumer takes."""
    types = _types(consumers[0])
    # One consumer's set again and again is the usual fan-out, and meets itself.
    for other in dict.fromkeys(_types(port) for port in consumers[1:]):
        types = types if other == types else intersection(types, other)
    return types


def _stores(flow: Flow) -> Iterator[StorePlan]:
    for store in flow.stores:
        if not store.names_a_server_store:
            params = store.read_params()
            yield StorePlan(
                name=store.name,
                type=store.type,
                endpoint=params.endpoint,
                bucket=params.bucket_name,
                access_key=params.access_key,
                public_endpoint=params.public_endpoint,
                location=params.location,
                secure=params.secure,
            )


def _digest(plan: Plan, flow: Flow) -> str:
    parameters = [parameter.wire() for parameter in flow.parameters]
    # Digests are older than the account, which is no part of a definition.
    definition = dump_plan(plan, without={"account"})
    return hashlib.sha256(definition + json.dumps(parameters, sort_keys=True).encode()).hexdigest()


def _require_safe_keys(plan: Plan) -> None:
    """Refuse now what would otherwise be found out only when a result is there to be kept.

    Values that are not known yet are long, and as harmless as they will be.
    """
    later = dict.fromkeys(keys.VARIABLES, "x" * 64) | dict.fromkeys(keys.DIGITS, "0" * 64) | {"FLOW_NAME": plan.name}
    given = {f"PARAM.{name}": value for name, value in plan.parameters.items()}
    for edge in plan.edges.values():
        if edge.key is not None:
            keys.render_key(edge.key, later | given | {"EDGE": edge.name, "NODE_ID": edge.producer or keys.NO_NODE})


def _filled(plan: Plan, values: Mapping[str, str]) -> Plan:
    if not values and not any("${PARAM." in text for node in plan.nodes.values() for text in node.flags.values()):
        return plan
    texts = (text for node in plan.nodes.values() for text in node.flags.values() if "${PARAM." in text)
    if sum(filled_length(text, values) for text in texts) > MAX_FILLED:
        raise InvalidRequest("the flags are too long with the values of these parameters; give shorter values")
    nodes = {place: replace(node, flags=_filled_flags(node, values)) for place, node in plan.nodes.items()}
    return replace(plan, nodes=nodes, parameters=values)


def _filled_flags(node: NodePlan, values: Mapping[str, str]) -> dict[str, str]:
    filled = {name: fill(text, values) for name, text in node.flags.items()}
    flags = {name: text for name, text in filled.items() if text is not None}
    problem = option_problem(node.argv or (), [b.port for b in (*node.inputs, *node.outputs)], flags)
    if problem:
        raise InvalidRequest(f"node {node.id}: {problem}")
    return flags
