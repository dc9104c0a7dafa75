"""Client tools: what a request offers to its nodes, and whether what a node asks for is on offer. PURE.

Schemas and arguments come from strangers, so their check is bounded: by an engine whose patterns are linear, which
fetches nothing, and by refusing schemas that unfold to something large.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

from pydantic import BeforeValidator, Field, JsonValue, TypeAdapter, ValidationError

from pupload.errors import CallerError, InvalidRequest, PuploadError
from pupload.flow.given import Given
from pupload.flow.load import MAX_DEPTH, read_json, require_sane
from pupload.flow.paths import json_path
from pupload.flow.plan import Plan, ToolChoice, ToolOffer
from pupload.flow.request import MAX_TOOLS, RunRequest

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator

MAX_CALLS = 64
"""Calls in one round."""
MAX_UNFOLDED = 20_000
"""Parts of all schemas of an offer, with references written out: each may be looked at for each part of arguments."""
MAX_UNFOLDED_DEPTH = 200
"""Parts within parts, with references written out: far beyond any use, and well within what can be followed."""
MAX_EFFORT = 200_000_000
"""Parts of the schema times characters of the arguments, of all calls of a round. The check is one call into the
engine, and nothing else of this process runs meanwhile: this many take a few seconds."""
_TOO_DEEP = "with its references written out it is nested too deeply"
_PATTERN_PARTS = 100
"""What a pattern counts for, as it takes so much longer to read than any other part."""
_PATTERN_BYTES = 2 * 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_REBASING = frozenset({"$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor"})


class _Function(Given):
    name: str
    description: str = ""
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    strict: bool = False


class _Tool(Given):
    type: Literal["function"] = "function"
    function: _Function


class _Named(Given):
    name: str


class _NamedChoice(Given):
    type: Literal["function"] = "function"
    function: _Named


def _object(arguments: object) -> object:
    """The arguments, also where they come as text, as models write them."""
    return read_json(arguments.encode()) if isinstance(arguments, str) else arguments


class ToolCall(Given):
    """One thing that a node asks of the client. `arguments` may be written as an object or as its JSON text."""

    id: str = Field(min_length=1, max_length=128)
    name: str = Field(min_length=1, max_length=128)
    arguments: Annotated[dict[str, JsonValue], BeforeValidator(_object)] = Field(default_factory=dict)


class ToolResult(Given):
    """What the client says to one call. `content` is text or any JSON value."""

    EMPTY_IS_A_VALUE: ClassVar[frozenset[str]] = frozenset({"Content"})

    tool_call_id: str = Field(min_length=1, max_length=128)
    content: JsonValue = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a node's question, or its silence, is an error. `code` becomes the run's error code."""

    code: str
    message: str


def equipped(plan: Plan, request: RunRequest) -> Plan:
    """The plan with what the request offers to its nodes.

    Errors: InvalidRequest for tools of a wrong shape; CallerError when no node could ask for them.
    """
    offer = read_offer(request.tools, request.tool_choice)
    asks = any(node.ask_exit_code is not None for node in plan.nodes.values())
    if (offer.functions or offer.choice is not ToolChoice.AUTO) and not asks:
        text = "no node of this flow takes tools; set AllowTools in the NodeDef of the one that does, or send none"
        raise CallerError(text, code="TOOLS_NOT_ENABLED")
    if offer == plan.tools and request.trace == plan.trace:
        return plan
    return replace(plan, tools=offer, trace=request.trace)


def read_offer(tools: Sequence[JsonValue], choice: JsonValue) -> ToolOffer:
    """The offer that a request makes, `tools` being OpenAI functions.

    Errors: InvalidRequest naming the tool.
    """
    if len(tools) > MAX_TOOLS:
        raise _wrong("Tools", f"at most {MAX_TOOLS} tools, not {len(tools)}")
    functions: dict[str, Mapping[str, JsonValue]] = {}
    room = MAX_UNFOLDED
    for place, tool in enumerate(tools):
        function, room = _read_tool(f"Tools[{place}]", tool, room)
        if function.name in functions:
            raise _wrong(f"Tools[{place}]", f"there are two tools named {function.name!r}")
        functions[function.name] = {
            "name": function.name,
            "description": function.description,
            "parameters": function.parameters,
        }
    return _with_choice(functions, choice)


def _read_tool(path: str, tool: JsonValue, room: int) -> tuple[_Function, int]:
    """The function, and how many parts those after it may have."""
    try:
        function = _Tool.model_validate(tool).function
    except ValidationError as error:
        first = error.errors()[0]
        raise _wrong(path + json_path(first["loc"])[1:], first["msg"]) from error
    if not _NAME.fullmatch(function.name):
        raise _wrong(path, f"{function.name!r} is no name: 1 to 64 letters, digits, '_' and '-'")
    if problem := schema_problem(function.parameters, room):
        raise _wrong(path, f"the parameters of {function.name!r} are no schema: {problem}")
    return function, room - _parts(function.parameters)


def _with_choice(functions: Mapping[str, Mapping[str, JsonValue]], choice: JsonValue) -> ToolOffer:
    if choice is None:
        return ToolOffer(functions)
    if isinstance(choice, str):
        if choice not in set(ToolChoice):
            raise _wrong("ToolChoice", f"{choice!r}: write auto, none, required, or the function to use")
        if choice == ToolChoice.REQUIRED and not functions:
            raise _wrong("ToolChoice", "required, but there are no Tools")
        return ToolOffer(functions, ToolChoice(choice))
    try:
        only = _NamedChoice.model_validate(choice).function.name
    except ValidationError as error:
        text = 'write auto, none, required or {"type": "function", "function": {"name": …}}'
        raise _wrong("ToolChoice", text) from error
    if only not in functions:
        raise _wrong("ToolChoice", f"there is no tool {only!r} among Tools")
    return ToolOffer(functions, ToolChoice.AUTO, only)


def _wrong(path: str, text: str) -> InvalidRequest:
    return InvalidRequest(f"{path}: {text}", code="INVALID_TOOLS", details=[{"Path": f"$.{path}", "Message": text}])


def schema_problem(schema: Mapping[str, JsonValue], room: int = MAX_UNFOLDED) -> str:
    """Why `schema` cannot be checked against, or has more parts than there is `room` for; "" when it can."""
    # Loaded only where there are tools.
    from jsonschema_rs import ValidationError as Invalid

    try:
        if _parts(schema) > room:
            return "with its references written out, and with the other tools, it is too large"
        _validator(schema)
    except Invalid as error:
        return str(error.message)[:300]
    except (_TooMuch, ValueError) as error:
        return str(error)[:300]
    except RecursionError:
        return _TOO_DEEP
    return ""


class _TooMuch(Exception):
    """A schema that may take for ever."""


def _parts(schema: Mapping[str, JsonValue]) -> int:
    """Errors: _TooMuch; RecursionError."""
    return _unfolded(schema, schema, {}, ()).size


class _Extent(NamedTuple):
    """How many parts there are with all references written out, and how deeply they are nested."""

    size: int
    depth: int


def _unfolded(part: object, root: object, known: dict[str, _Extent], way: tuple[str, ...]) -> _Extent:
    """The extent of `part`.

    Errors: _TooMuch.
    """
    size, within = 1, list[_Extent]()
    if isinstance(part, Mapping):
        if rebasing := _REBASING & part.keys():
            raise _TooMuch(f"{min(rebasing)} is not taken here; refer to parts by #/$defs/…")
        reference = part.get("$ref")
        if isinstance(reference, str):
            within.append(_unfolded_reference(reference, root, known, way))
        # Definitions too: a property may be named $defs, and then what is in it is looked at.
        within.extend(_unfolded(each, root, known, way) for each in part.values())
        size += _PATTERN_PARTS * _patterns(part)
    elif isinstance(part, list):
        within.extend(_unfolded(each, root, known, way) for each in part)
    extent = _Extent(size + sum(each.size for each in within), 1 + max((each.depth for each in within), default=0))
    if extent.size > MAX_UNFOLDED:
        raise _TooMuch("with its references written out it is too large")
    if extent.depth > MAX_UNFOLDED_DEPTH:
        raise _TooMuch(_TOO_DEEP)
    return extent


def _patterns(part: Mapping[str, object]) -> int:
    by_name = part.get("patternProperties")
    return ("pattern" in part) + (len(by_name) if isinstance(by_name, Mapping) else 0)


def _unfolded_reference(reference: str, root: object, known: dict[str, _Extent], way: tuple[str, ...]) -> _Extent:
    if len(way) > MAX_DEPTH:
        raise _TooMuch("its references lead too far")
    if reference in way:
        raise _TooMuch(f"{reference} refers to itself, which is not taken here")
    if reference not in known:
        known[reference] = _unfolded(_target(reference, root), root, known, (*way, reference))
    return known[reference]


def _target(reference: str, root: object) -> object:
    if not reference.startswith("#/") or "%" in reference:
        raise _TooMuch(f"{reference!r} does not refer to a part of this schema, as #/$defs/name does")
    found: object = root
    for step in reference[2:].split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, Mapping) or name not in found:
            raise _TooMuch(f"there is nothing at {reference!r}")
        found = found[name]
    return found


def _fetch_nothing(uri: str) -> None:
    raise ValueError(f"{uri} is not fetched")


def _validator(schema: Mapping[str, JsonValue]) -> "Draft202012Validator":
    from jsonschema_rs import Draft202012Validator, RegexOptions

    return Draft202012Validator(
        dict(schema), retriever=_fetch_nothing, pattern_options=RegexOptions(size_limit=_PATTERN_BYTES)
    )


def weigh_calls(offer: ToolOffer, text: str) -> tuple[ToolCall, ...] | Refusal:
    """The calls in `text`, the file that a node wrote; or what is wrong with them."""
    read = _read_calls(text)
    if isinstance(read, Refusal):
        return read
    if offer.choice is ToolChoice.NONE:
        return Refusal("TOOL_CHOICE_VIOLATED", "the node asked for tools, but the request says ToolChoice none")
    ids = [call.id for call in read]
    if twice := [each for each in ids if ids.count(each) > 1]:
        return Refusal("TOOL_CALLS_INVALID", f"two tool calls have the id {twice[0]!r}")
    misnamed = next((refusal for call in read if (refusal := _misnamed(offer, call))), None)
    return misnamed or _misfit(offer, read) or read


def _read_calls(text: str) -> tuple[ToolCall, ...] | Refusal:
    try:
        value = read_json(text.encode())
        require_sane(value)
        calls = TypeAdapter(list[ToolCall]).validate_python(value)
        # What was written as text is only a value since it was read.
        require_sane([call.arguments for call in calls])
    except ValidationError as error:
        first = error.errors()[0]
        return _invalid(f"{json_path(first['loc'])}: {first['msg']}")
    except PuploadError as error:
        return _invalid(str(error))
    if not 1 <= len(calls) <= MAX_CALLS:
        return _invalid(f"it holds {len(calls)} calls; write 1 to {MAX_CALLS}")
    return tuple(calls)


def _invalid(why: str) -> Refusal:
    return Refusal("TOOL_CALLS_INVALID", f"/pup/tool_calls.json is no list of {{id, name, arguments}}: {why}")


def _misnamed(offer: ToolOffer, call: ToolCall) -> Refusal | None:
    if call.name not in offer.functions:
        known = ", ".join(sorted(offer.functions)) or "none"
        return Refusal("TOOL_NAME_INVALID", f"the node asked for a tool {call.name!r}; the request offers: {known}")
    if offer.only is not None and call.name != offer.only:
        text = f"the node asked for a tool {call.name!r}, but ToolChoice names {offer.only!r} alone"
        return Refusal("TOOL_NAME_INVALID", text)
    return None


def _misfit(offer: ToolOffer, calls: Sequence[ToolCall]) -> Refusal | None:
    """Why the arguments of one of the calls, whose names are good, do not fit."""
    schemas = {call.name: _parameters(offer, call.name) for call in calls}
    parts = {name: _parts(schema) for name, schema in schemas.items()}
    if sum(parts[call.name] * len(json.dumps(call.arguments)) for call in calls) > MAX_EFFORT:
        text = "the arguments of the tool calls are too large to be checked against the parameters of their tools"
        return Refusal("TOOL_ARGUMENTS_INVALID", text)
    validators = {name: _validator(schema) for name, schema in schemas.items()}
    for call in calls:
        if problem := _mismatch(validators[call.name], call.arguments):
            text = f"the arguments of tool call {call.id!r} do not fit the parameters of {call.name!r}: {problem}"
            return Refusal("TOOL_ARGUMENTS_INVALID", text)
    return None


def _parameters(offer: ToolOffer, name: str) -> Mapping[str, JsonValue]:
    parameters = offer.functions[name]["parameters"]
    return parameters if isinstance(parameters, dict) else {}


def _mismatch(validator: "Draft202012Validator", arguments: Mapping[str, JsonValue]) -> str:
    from jsonschema_rs import ValidationError as Invalid

    try:
        validator.validate(dict(arguments))
    except Invalid as error:
        return f"{json_path(tuple(error.instance_path))}: {error.message}"[:300]
    return ""


def file_for_node(offer: ToolOffer) -> str:
    """The JSON that a node reads as `/pup/tools.json`: {Tools, ToolChoice} as a request would write them."""
    tools = [{"type": "function", "function": function} for function in offer.functions.values()]
    choice: object = offer.choice.value
    if offer.only is not None:
        choice = {"type": "function", "function": {"name": offer.only}}
    return json.dumps({"Tools": tools, "ToolChoice": choice})
