"""A session as a client asks for it, and its variables as a node's program finds them. PURE."""

import json
import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Field, JsonValue
from pydantic_core import PydanticCustomError

from pupload.flow.given import Given

MAX_VARIABLES = 100
MAX_VARIABLES_BYTES = 64 * 1024
"""All names and values together, as a program's environment holds them."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_PREFIX = "SESSION_"


def session_env(variables: Mapping[str, JsonValue]) -> dict[str, str]:
    """The variables as environment: `SESSION_<NAME>`, a text as it is, anything else as JSON.

    >>> session_env({"user": "Ada", "Limits": {"pages": 3}})
    {'SESSION_USER': 'Ada', 'SESSION_LIMITS': '{"pages": 3}'}
    """
    return {
        f"{_PREFIX}{name.upper()}": value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in variables.items()
    }


def _variables(given: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if bad := [name for name in given if not _NAME.fullmatch(name)]:
        raise PydanticCustomError(
            "name", "{name} is no variable: write letters, digits and _, at most 64", {"name": repr(bad[0][:80])}
        )
    env = session_env(given)
    if len(env) < len(given):
        raise PydanticCustomError("name", "two variables have one name; upper and lower case are the same here")
    if any("\0" in value for value in env.values()):
        raise PydanticCustomError("nul", "a variable cannot hold NUL")
    if sum(len(name) + len(value.encode("utf-8", "replace")) for name, value in env.items()) > MAX_VARIABLES_BYTES:
        raise PydanticCustomError("size", "the variables have more than 64 KB; put large values into a file")
    return given


class SessionRequest(Given):
    """A session to be made. `variables` are read by every node of its runs."""

    variables: Annotated[dict[str, JsonValue], AfterValidator(_variables)] = Field(
        default_factory=dict, max_length=MAX_VARIABLES
    )
