"""Rules about single nodes: their names, def, ports, flags, tier and command. PURE."""

from collections import Counter
from collections.abc import Iterator, Mapping

from pupload.flow.argv import option_problem
from pupload.flow.callee import FLOWS, names_a_flow
from pupload.flow.given import flag_text
from pupload.flow.model import FlowFlag, FlowNode, FlowParameter
from pupload.flow.names import NODE_ID, PARAMETER_REFERENCE, PORT_NAME, env_name
from pupload.flow.nodedef import FlagDef, FlagType, NodeDef
from pupload.flow.paths import in_defs, in_flow
from pupload.flow.rules.flow import fits_type
from pupload.flow.rules.rule import Fault, quoted, rule, shown
from pupload.flow.survey import Survey, arguments, chosen_command

_PARAMETERS_THAT_FIT = {
    FlagType.STRING: ("string", "int", "float", "bool"),
    FlagType.INT: ("int",),
    FlagType.FLOAT: ("int", "float"),
    FlagType.BOOL: ("bool",),
}


@rule("NODE_001", "NodeDefNotFound")
def def_not_found(survey: Survey) -> Iterator[Fault]:
    """No def is what `Uses` names."""
    known = shown(sorted({definition.reference for definition in survey.defs}), 5) or "none"
    for place, (node, definition) in enumerate(zip(survey.flow.nodes, survey.defs_of_nodes, strict=True)):
        if definition is None and not names_a_flow(node.uses):
            yield in_flow("Nodes", place, "Uses"), f"there is no node def {quoted(node.uses)}; there is {known}"


@rule("NODE_002", "NodeMissingInput")
def missing_input(survey: Survey) -> Iterator[Fault]:
    """A required input of the def is not bound."""
    for place, node, definition in survey.nodes():
        bound = {binding.name for binding in node.inputs}
        for port in survey.required[id(definition)].inputs:
            if port not in bound:
                message = f"input {port} of {node.uses} is required; bind it to an edge"
                yield in_flow("Nodes", place, "Inputs"), message


@rule("NODE_003", "NodeMissingOutput")
def missing_output(survey: Survey) -> Iterator[Fault]:
    """A required output of the def is not bound."""
    for place, node, definition in survey.nodes():
        bound = {binding.name for binding in node.outputs}
        for port in survey.required[id(definition)].outputs:
            if port not in bound:
                message = f"output {port} of {node.uses} is required; bind it to an edge"
                yield in_flow("Nodes", place, "Outputs"), message


@rule("NODE_004", "NodeInvalidTier")
def invalid_tier(survey: Survey) -> Iterator[Fault]:
    """A node or def asks for a tier that the server does not have."""
    asked: list[tuple[str, str | None]] = [
        (in_flow("Nodes", place, "Tier"), node.tier) for place, node in enumerate(survey.flow.nodes) if node.tier
    ]
    asked += [(in_defs(place, "Tier"), definition.tier) for place, definition in enumerate(survey.defs)]
    for path, tier in asked:
        if tier and tier not in survey.tiers:
            yield path, f"there is no tier {quoted(tier)}; there are {shown(list(survey.tiers), 8)}"


@rule("NODE_005", "NodeMissingFlag")
def missing_flag(survey: Survey) -> Iterator[Fault]:
    """A required flag has neither a value nor a default."""
    for place, node, definition in survey.nodes():
        given = {flag.name for flag in node.flags if flag.value is not None}
        for flag in survey.required[id(definition)].flags:
            if flag not in given:
                message = f"flag {flag} of {node.uses} is required; give it a value"
                yield in_flow("Nodes", place, "Flags"), message


@rule("NODE_006", "NodeUnknownFlag")
def unknown_flag(survey: Survey) -> Iterator[Fault]:
    """A flag that the def, which declares its flags, does not have; or no usable name for one."""
    for place, node, definition in survey.nodes():
        known = {flag.name: None for flag in definition.flags}
        for nth, flag in enumerate(node.flags):
            if (known or definition.publisher == FLOWS) and flag.name not in known:
                path = in_flow("Nodes", place, "Flags", nth, "Name")
                there = shown(list(known)) or "none"
                yield path, f"{node.uses} has no flag {quoted(flag.name)}; it has {there}"
            elif not PORT_NAME.fullmatch(flag.name):
                path = in_flow("Nodes", place, "Flags", nth, "Name")
                yield path, f"{quoted(flag.name)} is no name for a flag; use letters, digits, '_', '-' and '.'"


@rule("NODE_007", "NodeDuplicateID")
def duplicate_id(survey: Survey) -> Iterator[Fault]:
    """Two nodes have one ID."""
    seen: set[str] = set()
    for place, node in enumerate(survey.flow.nodes):
        if node.id and node.id in seen:
            yield in_flow("Nodes", place, "ID"), f"another node has the ID {quoted(node.id)}; rename one"
        seen.add(node.id)


@rule("NODE_008", "NodeMissingID")
def missing_id(survey: Survey) -> Iterator[Fault]:
    """A node has no ID."""
    for place, node in enumerate(survey.flow.nodes):
        if not node.id:
            yield in_flow("Nodes", place, "ID"), "give the node an ID of its own"


@rule("NODE_009", "NodeUnknownPort")
def unknown_port(survey: Survey) -> Iterator[Fault]:
    """A bound name that the def does not declare, or that cannot be a file's name."""
    for port in (port for ports in survey.ports for port in ports):
        definition = survey.defs_of_nodes[port.node]
        if not port.known and definition:
            declared = definition.inputs if port.side == "Inputs" else definition.outputs
            names = shown([p.name for p in declared])
            yield f"{port.path}.Name", f"{definition.reference} has no port {quoted(port.name)} here; it has {names}"
        elif port.known and not PORT_NAME.fullmatch(port.name):
            yield (
                f"{port.path}.Name",
                f"{quoted(port.name)} is no name for a port; use letters, digits, '_', '-' and '.'",
            )


@rule("NODE_010", "NodeUnknownCommand")
def unknown_command(survey: Survey) -> Iterator[Fault]:
    """A command that the def does not have."""
    for place, node, definition in survey.nodes():
        if node.command and chosen_command(node, definition) is None:
            known = shown([c.name for c in definition.all_commands]) or "none, so leave Command out"
            yield (
                in_flow("Nodes", place, "Command"),
                f"{node.uses} has no command {quoted(node.command)}; it has {known}",
            )


@rule("NODE_011", "NodeInvalidFlagValue")
def invalid_flag_value(survey: Survey) -> Iterator[Fault]:
    """A value, or a default, that does not fit its flag; or one that the command would take for an option."""
    parameters = {parameter.name: parameter for parameter in survey.flow.parameters}
    for place, node, definition in survey.nodes():
        declared = {flag.name: flag for flag in definition.flags}
        for nth, flag in enumerate(node.flags):
            problem = _value_problem(flag, declared.get(flag.name), parameters)
            if problem:
                yield in_flow("Nodes", place, "Flags", nth, "Value"), problem
        problem = _option_problem(node, definition)
        if problem:
            yield in_flow("Nodes", place, "Flags"), problem
    for place, definition in enumerate(survey.defs):
        for nth, flag_def in enumerate(definition.flags):
            if flag_def.default is not None and not fits_type(flag_def.default, flag_def.type):
                message = f"the default of flag {flag_def.name} is no {flag_def.type}"
                yield in_defs(place, "Flags", nth, "Default"), message


def _value_problem(flag: FlowFlag, declared: FlagDef | None, parameters: Mapping[str, FlowParameter]) -> str:
    text = "" if flag.value is None else flag_text(flag.value)
    named = PARAMETER_REFERENCE.findall(text)
    unknown = [name for name in named if name not in parameters]
    kind = declared.type if declared else FlagType.STRING
    if unknown:
        return f"the value of flag {flag.name} names parameter {unknown[0]}, which the flow does not declare"
    if flag.value is None or kind is FlagType.STRING:
        return ""
    if not named:
        return "" if fits_type(flag.value, kind) else f"{quoted(text)} is no {kind}, as flag {flag.name} wants"
    alone = PARAMETER_REFERENCE.fullmatch(text)
    if alone and parameters[alone[1]].type in _PARAMETERS_THAT_FIT[kind]:
        return ""
    return f"flag {flag.name} is a {kind}: give a value, or one parameter of that type and nothing beside it"


def _option_problem(node: FlowNode, definition: NodeDef) -> str:
    command = chosen_command(node, definition)
    if command is None or not node.flags:
        return ""
    ports = [binding.name for binding in (*node.inputs, *node.outputs)]
    flags = {flag.name: flag_text(flag.value) for flag in node.flags if flag.value is not None}
    return option_problem(arguments(command), ports, flags)


@rule("NODE_012", "NodeInvalidID")
def invalid_id(survey: Survey) -> Iterator[Fault]:
    """A node's ID has characters that names of containers and keys of objects cannot have."""
    for place, node in enumerate(survey.flow.nodes):
        if node.id and not NODE_ID.fullmatch(node.id):
            hint = "an ID has letters, digits, '_', '.' and '-', at most 63, and begins with a letter or digit"
            yield in_flow("Nodes", place, "ID"), f"{quoted(node.id)} cannot be an ID; {hint}"


@rule("NODE_013", "NodeDuplicateName")
def duplicate_name(survey: Survey) -> Iterator[Fault]:
    """A node binds a port, or sets a flag, twice; names that make one environment variable count as one."""
    for place, node in enumerate(survey.flow.nodes):
        for side, names in (
            ("Inputs", [binding.name for binding in node.inputs]),
            ("Outputs", [binding.name for binding in node.outputs]),
            ("Flags", [flag.name for flag in node.flags]),
        ):
            counts = Counter(env_name(name) for name in names if name)
            twice = list(dict.fromkeys(quoted(name) for name in names if counts[env_name(name)] > 1))
            if twice:
                yield in_flow("Nodes", place, side), f"{shown(twice)} is named more than once; name each once"
