"""Documents from bytes: parsed, of bounded size, every problem of shape at once. PURE but for `load_file`."""

import json
import math
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from pupload.document import fold
from pupload.errors import InvalidRequest, Malformed
from pupload.flow.given import Given
from pupload.flow.model import Flow
from pupload.flow.nodedef import NodeDef
from pupload.flow.paths import json_path
from pupload.flow.request import RunRequest

MAX_DEPTH = 32
MAX_ELEMENTS = 100_000
"""Longest list or object; larger than any flow that is allowed, and small enough to name its problems."""
MAX_CHARACTERS = 65_536
"""Longest text; a program's argument can hardly be longer."""
MAX_VALUE = 64 * 1024**2
"""Longest value of an input, which becomes a file. The limit of the whole body is less, unless it was raised."""
MAX_PROBLEMS = 200
"""Problems named in one answer."""

_NO_YAML = (yaml.YAMLError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError)
"""What the library raises: a value that is not of the kind that its tag says, as `!!int x`, ends it inside."""
_VALUES = {"inputs", "input", "body", "message", "inputoverrides"}
_PLAIN_MESSAGES = {
    "model_type": "write an object, { }",
    "dict_type": "write an object, { }",
    "list_type": "write a list, [ ]",
    "string_type": "write a text",
    "bool_type": "write true or false",
    "bool_parsing": "write true or false",
    "int_type": "write a whole number",
    "int_parsing": "write a whole number",
    "missing": "is required",
}

Steps = tuple[str | int, ...]


class FlowDocuments(Given):
    """A flow with the node definitions it uses: the body of every route that takes a flow."""

    flow: Flow
    node_defs: list[NodeDef] = Field(default_factory=list)


class PostedRun(RunRequest):
    """A flow that is not kept, and how it is to be run."""

    flow: Flow
    node_defs: list[NodeDef] = Field(default_factory=list)


R = TypeVar("R", bound=Given)


def read_json(body: bytes) -> object:
    """The JSON value in `body`. Errors: Malformed for anything that is not one JSON value in UTF-8."""
    try:
        value: object = json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, json.JSONDecodeError) else "it is nested too deeply or not UTF-8"
        raise Malformed(f"the body is not JSON: {reason}") from error
    return value


def load_documents(body: object, *, lenient: bool) -> tuple[Flow, list[NodeDef], list[str]]:
    """The flow and the node definitions of `body`, `{Flow, NodeDefs}`.

    Shape: third are the unknown members that were ignored; empty unless `lenient`, which also wants both members.
    Errors: InvalidRequest with all problems as details `{Path, Message}`, whatever `body` is.
    """
    require_sane(body)
    if lenient:
        _require_both(body)
    ignored: list[str] = []
    try:
        read = FlowDocuments.model_validate(body, context={"unknown": ignored} if lenient else None)
    except ValidationError as error:
        raise _refusal([_problem(e) for e in error.errors(include_url=False, include_input=False)]) from error
    return read.flow, read.node_defs, ignored


def load_request(body: object, kind: type[R]) -> R:
    """The request to run a flow, as a document of `kind`.

    Errors: InvalidRequest with all problems as details `{Path, Message}`, whatever `body` is.
    """
    parts = body if isinstance(body, dict) else {}
    values = {name: value for name, value in parts.items() if fold(str(name)) in _VALUES}
    require_sane(values, most_characters=MAX_VALUE)
    require_sane({name: value for name, value in parts.items() if name not in values})
    return _document(body, kind)


def load_definition(body: object, kind: type[R]) -> R:
    """A node definition by itself, as a document of `kind`. Errors: as `load_request`."""
    require_sane(body)
    return _document(body, kind)


def _document(body: object, kind: type[R]) -> R:
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise _refusal([_problem(e) for e in error.errors(include_url=False, include_input=False)]) from error


def _require_both(body: object) -> None:
    given = {fold(str(name)) for name in body} if isinstance(body, dict) else set()
    absent = [name for name in ("Flow", "NodeDefs") if fold(name) not in given]
    if absent:
        raise _refusal([{"Path": f"$.{name}", "Message": "is required"} for name in absent])


def _refusal(problems: list[dict[str, str]]) -> InvalidRequest:
    first = f"{problems[0]['Path']}: {problems[0]['Message']}"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return InvalidRequest(f"the document has the wrong shape: {first}{more}", details=problems[:MAX_PROBLEMS])


def _problem(error: ErrorDetails) -> dict[str, str]:
    message = _PLAIN_MESSAGES.get(error["type"], error["msg"])
    return {"Path": json_path(error["loc"]), "Message": message}


def require_sane(body: object, most_characters: int = MAX_CHARACTERS) -> None:
    """Refuse what no document needs and what breaks those that store it: depth, sheer length, NUL, NaN."""
    waiting: list[tuple[Steps, object]] = [((), body)]
    problems: list[dict[str, str]] = []
    while waiting and len(problems) < MAX_PROBLEMS:
        path, value = waiting.pop()
        fault = _fault(path, value, most_characters)
        if fault:
            problems.append({"Path": json_path(path), "Message": fault})
        elif isinstance(value, dict):
            waiting.extend(((*path, str(name)), part) for name, part in value.items())
            waiting.extend((path, name) for name in value)
        elif isinstance(value, list):
            waiting.extend(((*path, place), part) for place, part in enumerate(value))
    if problems:
        raise _refusal(problems)


def _fault(path: Steps, value: object, most_characters: int) -> str:
    match value:
        case dict() | list() if len(path) > MAX_DEPTH:
            return f"nested deeper than {MAX_DEPTH}"
        case dict() | list() if len(value) > MAX_ELEMENTS:
            return f"more than {MAX_ELEMENTS} elements"
        case str():
            return _text_fault(value, most_characters)
        case float() if not math.isfinite(value):
            return "not a finite number"
        case int() if abs(value) >= 2**63:
            return "a whole number must fit 64 bits"
        case _:
            return ""


def _text_fault(text: str, most_characters: int) -> str:
    if len(text) > most_characters:
        return f"a text has at most {most_characters} characters"
    if "\0" in text:
        return "a text must not hold the character NUL"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "a text must not hold half of a surrogate pair"
    return ""


class _PlainLoader(yaml.SafeLoader):
    """Safe YAML without anchors and aliases: a few bytes of those can stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.MarkedYAMLError(problem="anchors and aliases are not allowed", problem_mark=event.start_mark)
        return super().compose_node(parent, index)


def load_file(path: Path) -> tuple[Flow, list[NodeDef], list[str]]:
    """The flow and node definitions in a JSON or YAML file of `{Flow, NodeDefs}`.

    Errors: Malformed when the file cannot be read or is neither; InvalidRequest as `load_documents`.
    """
    return load_documents(read_file(path), lenient=False)


def read_file(path: Path) -> object:
    """The value in a JSON or YAML file. Errors: Malformed naming the file."""
    try:
        body = path.read_bytes()
    except OSError as error:
        raise Malformed(f"{path} cannot be read: {error.strerror}") from error
    return read_json(body) if path.suffix.lower() == ".json" else read_yaml(body)


def read_yaml(body: bytes) -> object:
    """The value in `body`, safe YAML without anchors and aliases. Errors: Malformed."""
    try:
        value: object = yaml.load(body, Loader=_PlainLoader)  # noqa: S506 - the loader is a stricter SafeLoader
    except _NO_YAML as error:
        reason = str(error) or "it is nested too deeply"
        raise Malformed(f"the file is not plain YAML: {reason}") from error
    return value
