"""Rules about flows that a flow names: those that its nodes call, and those that judge its runs. PURE."""

from collections.abc import Collection, Iterator

from pupload.flow import mime
from pupload.flow.callee import FLOWS, Callee, eval_reference, names_a_flow
from pupload.flow.model import EvalInput, FlowEval
from pupload.flow.names import EDGE_NAME
from pupload.flow.nodedef import ANY_TYPE, NodeDef, PortDef
from pupload.flow.paths import in_defs, in_flow
from pupload.flow.rules.rule import Fault, quoted, rule, shown
from pupload.flow.survey import Survey

_ENDED = ("COMPLETE", "ERROR", "STOPPED")
_ROLES = ("input", "output", "external")


@rule("FLOW_006", "FlowRecursion")
def recursion(survey: Survey) -> Iterator[Fault]:
    """A flow calls itself, directly or through others, or the calls go too deep."""
    for path, reference in _references(survey):
        callee = survey.callees.get(reference)
        if callee is not None and callee.recursion:
            yield path, callee.recursion


@rule("FLOW_007", "FlowNotCallable")
def not_callable(survey: Survey) -> Iterator[Fault]:
    """A flow that is named is not there, or has errors of its own."""
    for path, reference in _references(survey):
        callee = survey.callees.get(reference)
        if callee is None:
            yield path, f"there is no flow {quoted(reference)} here; a server that keeps it can check this flow"
        elif callee.problem:
            yield path, callee.problem


def _references(survey: Survey) -> Iterator[tuple[str, str]]:
    for place, node in enumerate(survey.flow.nodes):
        if names_a_flow(node.uses):
            yield in_flow("Nodes", place, "Uses"), node.uses
    for place, each in enumerate(survey.flow.evals):
        yield in_flow("Evals", place, "Flow"), eval_reference(each.flow)


@rule("NODE_014", "NodeNoContainer")
def no_container(survey: Survey) -> Iterator[Fault]:
    """A node that calls a flow has a member that only a container has a use for."""
    for place, node in enumerate(survey.flow.nodes):
        if names_a_flow(node.uses):
            for member, given in (("Tier", node.tier), ("Env", node.env)):
                if given:
                    message = f"node {node.id} calls a flow, whose nodes have their own {member}; remove this one"
                    yield in_flow("Nodes", place, member), message


@rule("DEF_006", "DefReservedPublisher")
def reserved_publisher(survey: Survey) -> Iterator[Fault]:
    """A def has the publisher that stands for flows."""
    for place, definition in enumerate(survey.defs):
        if definition.publisher == FLOWS:
            yield in_defs(place, "Publisher"), f"the publisher {FLOWS} stands for flows; give the def another one"


@rule("EVAL_001", "EvalInvalidName")
def eval_invalid_name(survey: Survey) -> Iterator[Fault]:
    """An evaluation has no usable name, or that of another one."""
    seen: set[str] = set()
    for place, each in enumerate(survey.flow.evals):
        if not EDGE_NAME.fullmatch(each.name):
            yield in_flow("Evals", place, "Name"), "an evaluation's name has letters, digits, '_', '-' and '.'"
        elif each.name in seen:
            yield in_flow("Evals", place, "Name"), f"another evaluation is called {quoted(each.name)}; rename one"
        seen.add(each.name)


@rule("EVAL_002", "EvalInvalidInput")
def eval_invalid_input(survey: Survey) -> Iterator[Fault]:
    """An evaluation does not get what its flow needs, or gets what it does not take."""
    for place, each, definition, _ in _evals(survey):
        ports = {port.name: port for port in definition.inputs}
        for edge, given in each.inputs.items():
            if problem := _input_problem(survey, edge, given, ports.get(edge)):
                yield in_flow("Evals", place, "Inputs", edge), problem
        for name, port in ports.items():
            if port.required and name not in each.inputs:
                message = f"input {name} of flow {definition.name} is required; say where it comes from"
                yield in_flow("Evals", place, "Inputs"), message


def _input_problem(survey: Survey, name: str, given: EvalInput, port: PortDef | None) -> str:
    if port is None:
        return f"the evaluating flow has no input {quoted(name)}; remove it"
    if given.from_ and given.from_ not in _ROLES:
        return f"From is one of {', '.join(_ROLES)}"
    if given.from_ == "external" or not (given.from_ or given.edge):
        return "" if given.value is not None and not given.edge else "an external input has a Value and no Edge"
    if given.value is not None:
        return "an input from this flow has an Edge and no Value"
    if given.edge not in _edges(survey, given.from_):
        return f"this flow has no {given.from_ or 'edge'} {quoted(given.edge)}"
    if not mime.overlap(port.type, _types(survey, given.edge)):
        return f"edge {given.edge} never has a type that input {name} takes ({', '.join(port.type)})"
    return ""


def _edges(survey: Survey, role: str) -> Collection[str]:
    match role:
        case "output":
            return survey.producers
        case "input":
            return survey.consumers.keys() - survey.producers.keys()
        case _:
            return survey.consumers.keys() | survey.producers.keys()


def _types(survey: Survey, edge: str) -> tuple[str, ...]:
    ports = survey.producers.get(edge) or survey.consumers.get(edge) or ()
    return ports[0].types if ports else (ANY_TYPE,)


@rule("EVAL_003", "EvalNoVerdict")
def eval_no_verdict(survey: Survey) -> Iterator[Fault]:
    """The evaluating flow does not end in one edge, so nobody knows which one is its verdict."""
    for place, _, definition, callee in _evals(survey):
        if len(callee.finals) != 1:
            ends = shown(list(callee.finals), 5) or "none"
            message = f"flow {definition.name} must write exactly one edge that it does not read; it has {ends}"
            yield in_flow("Evals", place, "Flow"), message


@rule("EVAL_004", "EvalInvalidOn")
def eval_invalid_on(survey: Survey) -> Iterator[Fault]:
    """An evaluation waits for a status that no run ends with."""
    for place, each in enumerate(survey.flow.evals):
        if not each.on or any(status.upper() not in _ENDED for status in each.on):
            yield in_flow("Evals", place, "On"), f"a run ends as one of {', '.join(_ENDED)}"


def _evals(survey: Survey) -> Iterator[tuple[int, FlowEval, NodeDef, Callee]]:
    """Evaluations whose flow is there."""
    for place, each in enumerate(survey.flow.evals):
        callee = survey.callees.get(eval_reference(each.flow))
        if callee is not None and callee.definition is not None:
            yield place, each, callee.definition, callee
