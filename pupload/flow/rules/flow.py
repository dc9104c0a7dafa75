"""Rules about the flow as a whole: its graph, its size, its durations, its parameters. PURE."""

import math
from collections.abc import Iterator

from pydantic import JsonValue

from pupload.flow.graph import FlowGraph
from pupload.flow.model import FlowParameter
from pupload.flow.names import PARAMETER_NAME
from pupload.flow.nodedef import NodeDef
from pupload.flow.paths import in_flow, json_path
from pupload.flow.rules.rule import Fault, rule, shown
from pupload.flow.survey import Survey, arguments
from pupload.units import parse_duration

MAX_WEIGHT = 32 * 1024**2
"""Characters that all nodes together may take from their defs, each argument, flag and variable counting more."""
ENTRY_WEIGHT = 32
PARAMETER_TYPES = ("string", "int", "float", "bool")


@rule("FLOW_001", "FlowCycle")
def cycle(survey: Survey) -> Iterator[Fault]:
    """The graph has a cycle."""
    for knot in FlowGraph(len(survey.flow.nodes), survey.arcs()).cycles():
        names = shown([survey.flow.nodes[place].id or f"node {place}" for place in knot])
        yield in_flow("Nodes", knot[0]), f"these nodes wait for one another: {names}; break the circle at one edge"


@rule("FLOW_002", "FlowEmpty")
def empty(survey: Survey) -> Iterator[Fault]:
    """The flow has no nodes."""
    if not survey.flow.nodes:
        yield in_flow("Nodes"), "a flow needs at least one node"


@rule("FLOW_003", "FlowInvalidTimeout")
def invalid_timeout(survey: Survey) -> Iterator[Fault]:
    """A duration of flow, node, def or well is none, or not above zero."""
    for steps, text in _durations(survey):
        try:
            parse_duration(text or "1s")
        except ValueError as error:
            yield json_path(steps), str(error)


def _durations(survey: Survey) -> Iterator[tuple[tuple[str | int, ...], str | None]]:
    flow = survey.flow
    yield ("Flow", "Timeout"), flow.timeout
    yield from (
        (("Flow", "Nodes", place, "Timeout"), node.timeout) for place, node in enumerate(flow.nodes) if node.timeout
    )
    yield from ((("Flow", "DataWells", place, "Lifetime"), well.lifetime) for place, well in enumerate(flow.data_wells))
    if flow.default_data_well:
        yield ("Flow", "DefaultDataWell", "Lifetime"), flow.default_data_well.lifetime
    for place, definition in enumerate(survey.defs):
        yield ("NodeDefs", place, "Timeout"), definition.timeout
        yield ("NodeDefs", place, "Retry", "Delay"), definition.retry.delay
        yield ("NodeDefs", place, "Retry", "MaxDelay"), definition.retry.max_delay


@rule("FLOW_004", "FlowInvalidParameter")
def invalid_parameter(survey: Survey) -> Iterator[Fault]:
    """A parameter is declared twice, has no usable name, no known type, or a default of another type."""
    seen: set[str] = set()
    for place, parameter in enumerate(survey.flow.parameters):
        if not PARAMETER_NAME.fullmatch(parameter.name):
            yield in_flow("Parameters", place, "Name"), "a parameter's name has letters, digits and '_', no digit first"
        elif parameter.name in seen:
            yield in_flow("Parameters", place, "Name"), f"parameter {parameter.name} is declared twice; remove one"
        if parameter.type not in PARAMETER_TYPES:
            yield in_flow("Parameters", place, "Type"), f"the type is one of {', '.join(PARAMETER_TYPES)}"
        elif parameter.default is not None and not fits_type(parameter.default, parameter.type):
            yield in_flow("Parameters", place, "Default"), _misfit(parameter)
        seen.add(parameter.name)


def _misfit(parameter: FlowParameter) -> str:
    return f"the default {str(parameter.default)[:80]!r} of parameter {parameter.name} is no {parameter.type}"


def fits_type(value: JsonValue, kind: str) -> bool:
    """True when `value` is a `kind` (string, int, float, bool), as JSON or as the text of one.

    >>> fits_type("800", "int"), fits_type(800.0, "int"), fits_type("wide", "int"), fits_type(True, "float")
    (True, True, False, False)
    """
    match kind:
        case "string":
            return isinstance(value, str | int | float)
        case "bool":
            return isinstance(value, bool) or (isinstance(value, str) and value.lower() in ("true", "false"))
        case _:
            return _fits_number(value, whole=kind == "int")


def _fits_number(value: JsonValue, *, whole: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    try:
        number = float(value)
    except ValueError:
        return False
    # float() reads "1_000", blanks around and digits of any script; a program that gets the text would not.
    plain = not isinstance(value, str) or (value.isascii() and "_" not in value and value == value.strip())
    spelled_whole = not isinstance(value, str) or value.lstrip("+-").isdecimal()
    return plain and math.isfinite(number) and (not whole or (number.is_integer() and spelled_whole))


@rule("FLOW_005", "FlowTooLarge")
def too_large(survey: Survey) -> Iterator[Fault]:
    """The flow has more nodes than the server takes, or would, with what its nodes take from defs, be too long."""
    there, most = len(survey.flow.nodes), survey.max_nodes
    if there > most:
        yield in_flow("Nodes"), f"the flow has {there} nodes and the server takes {most}; split the flow"
    elif _weight(survey) > MAX_WEIGHT:
        yield in_flow("Nodes"), "commands, flags and Env of all nodes are too long together; split the flow"


def _weight(survey: Survey) -> int:
    """Characters that the nodes take from their defs, which one def may give to thousands of nodes."""
    weights = {id(definition): _weight_of(definition) for definition in survey.defs}
    return sum(weights.get(id(definition), 0) for _, _, definition in survey.nodes())


def _weight_of(definition: NodeDef) -> int:
    texts = [argument for command in definition.all_commands for argument in arguments(command)]
    texts += [name + value for name, value in definition.env.items()]
    texts += [flag.name + str(flag.default) for flag in definition.flags]
    return sum(map(len, texts)) + ENTRY_WEIGHT * len(texts)
