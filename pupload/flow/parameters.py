"""The values of a flow's parameters, and their places in flags. PURE."""

import re
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from pupload.document import fold
from pupload.errors import CallerError, InvalidRequest
from pupload.flow.given import flag_text
from pupload.flow.model import FlowParameter
from pupload.flow.names import PARAMETER_REFERENCE
from pupload.flow.request import RunRequest
from pupload.flow.rules.flow import fits_type


def bind_parameters(declared: Sequence[FlowParameter], given: Mapping[str, JsonValue]) -> dict[str, str]:
    """The value of every declared parameter as text: the given one, else the default; absent when it has neither.

    Errors: InvalidRequest listing every parameter that is unknown, missing or of another type.
    """
    problems = {name: f"there is no parameter {name!r}" for name in given.keys() - {p.name for p in declared}}
    values: dict[str, str] = {}
    for parameter in declared:
        value = given.get(parameter.name, parameter.default)
        if value is None and parameter.required:
            problems[parameter.name] = f"parameter {parameter.name} is required"
        elif value is not None and not fits_type(value, parameter.type):
            problems[parameter.name] = f"parameter {parameter.name} wants a {parameter.type}"
        elif isinstance(value, str | int | float):
            values[parameter.name] = typed_text(value, parameter.type)
    if problems:
        details = [{"Path": f"$.Parameters.{name}", "Message": problems[name]} for name in sorted(problems)]
        raise InvalidRequest("; ".join(sorted(problems.values())), details=details)
    return values


def refuse_reserved(declared: Sequence[FlowParameter], given: Mapping[str, JsonValue]) -> None:
    """Refuses a member of the request among the parameters: it was meant to stand beside them.

    A flow may declare a parameter of such a name all the same; then it is that parameter.
    Errors: CallerError.
    """
    reserved = RunRequest.members()
    for name in given.keys() - {parameter.name for parameter in declared}:
        if fold(name) in reserved:
            raise CallerError(
                f"{reserved[fold(name)]} is no parameter but a member of the request; write it beside Parameters",
                code="PARAMETER_NAME_RESERVED",
            )


def typed_text(value: str | float, kind: str) -> str:
    """`value` as a program reads a `kind`: TRUE is true."""
    text = flag_text(value)
    return text.lower() if kind == "bool" else text


def filled_length(text: str, values: Mapping[str, str]) -> int:
    """Characters that `fill` would give, found without giving them."""
    return len(text) + sum(len(values.get(name, "")) for name in PARAMETER_REFERENCE.findall(text))


def fill(text: str, values: Mapping[str, str]) -> str | None:
    """`text` with `${PARAM.name}` replaced; None when it is one parameter alone and that has no value.

    >>> fill("${PARAM.width}px", {"width": "800"})
    '800px'
    """
    alone = PARAMETER_REFERENCE.fullmatch(text)
    if alone and alone[1] not in values:
        return None

    def replaced(found: re.Match[str]) -> str:
        return values.get(found[1], "")

    return PARAMETER_REFERENCE.sub(replaced, text)
