"""Object keys from templates. PURE.

Source: contract.md 2.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pupload.errors import InvalidRequest

UNIQUE = frozenset({"RUN_ID", "UUID"})
"""A key with one of these is never that of another run."""
DIGITS = frozenset({"ATTEMPT", "YEAR", "MONTH", "DAY"})
"""Digits only, which are not known before a run begins."""
STATIC = frozenset({"FLOW_NAME", "EDGE"})
"""Beside parameters, the only variables whose value is known before a run begins."""
VARIABLES = UNIQUE | STATIC | {"NODE_ID", "ATTEMPT", "TIMESTAMP", "DATE", "YEAR", "MONTH", "DAY", "SESSION_ID"}
"""What a template may name beside `PARAM.name`."""

MAX_KEY_BYTES = 1024
MAX_SEGMENT_BYTES = 255
"""Longer parts between slashes cannot be files, and folders hold the objects of the embedded store."""

DEFAULT_KEY = "${RUN_ID}/${EDGE}/${ATTEMPT}"
NO_NODE = "upload"
"""`NODE_ID` of an object that no node makes."""
NO_SESSION = "none"

_RUN = re.compile(r"run_[0-9a-f]+", re.IGNORECASE)
"""What may be a run's id, or may become one with a digit or two more."""
_NAME = r"PARAM\.[A-Za-z_][A-Za-z0-9_-]*|[A-Za-z_][A-Za-z0-9_]*"
_BARE_NAME = r"PARAM\.[A-Za-z_][A-Za-z0-9_]*|[A-Za-z_][A-Za-z0-9_]*"
_TOKEN = re.compile(rf"\$(?:(?P<dollar>\$)|\{{(?P<braced>{_NAME})\}}|(?P<bare>{_BARE_NAME})|(?P<bad>))")


@dataclass(frozen=True, slots=True)
class Template:
    """A key template, taken apart: the variables it names, and what is wrong with it ("" for nothing)."""

    variables: frozenset[str]
    problem: str = ""


def render_key(template: str, values: Mapping[str, str]) -> str:
    """`template` with its variables replaced, safe to use as an object's key.

    Errors: InvalidRequest for an unknown variable or an unsafe key: a value may be as hostile as a template.

    >>> render_key("photos/${RUN_ID}-$EDGE.jpg", {"RUN_ID": "run_1", "EDGE": "out"})
    'photos/run_1-out.jpg'
    """

    def replaced(token: re.Match[str]) -> str:
        if token["dollar"]:
            return "$"
        name = token["braced"] or token["bare"] or ""
        if name not in values:
            raise InvalidRequest(
                f"the key template {template!r} names {name or 'an unfinished variable'}, which has no value"
            )
        return values[name]

    key = _TOKEN.sub(replaced, template)
    problem = key_problem(key) or _others_problem(key, values.get("RUN_ID", ""))
    if problem:
        raise InvalidRequest(f"the key {key[:200]!r} of template {template[:200]!r} is not allowed: {problem}")
    return key


def default_key(values: Mapping[str, str], extension: str = "") -> str:
    """The key of an object whose well has none; `extension` has its dot, or is ""."""
    return render_key(DEFAULT_KEY, values) + extension


def key_values(
    *,
    run_id: str,
    flow_name: str,
    edge: str,
    at: datetime,
    uuid: str,
    node_id: str = "",
    attempt: int = 0,
    session_id: str = "",
    parameters: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The value of every template variable. `at` is UTC; `attempt` is 0 and `node_id` "" for what no node makes."""
    return {
        "RUN_ID": run_id,
        "FLOW_NAME": flow_name,
        "EDGE": edge,
        "NODE_ID": node_id or NO_NODE,
        "ATTEMPT": str(attempt),
        "TIMESTAMP": at.strftime("%Y%m%dT%H%M%SZ"),
        "DATE": at.strftime("%Y-%m-%d"),
        "YEAR": at.strftime("%Y"),
        "MONTH": at.strftime("%m"),
        "DAY": at.strftime("%d"),
        "UUID": uuid,
        "SESSION_ID": session_id or NO_SESSION,
    } | {f"PARAM.{name}": value for name, value in (parameters or {}).items()}


def key_problem(key: str) -> str:
    """What makes `key` unsafe, as a user reads it; "" when it is safe."""
    if not key or len(key.encode()) > MAX_KEY_BYTES:
        return f"a key has 1 to {MAX_KEY_BYTES} bytes"
    if any(not character.isprintable() for character in key):
        return "it has a control character"
    return next((problem for part in key.split("/") if (problem := _segment_problem(part))), "")


def _others_problem(key: str, run_id: str) -> str:
    """What makes `key` another run's: a run keeps its objects under its own id, and nobody else may name them."""
    first = key.partition("/")[0]
    if first != run_id and _RUN.fullmatch(first):
        return "a key that begins with the id of a run is that run's own; begin it otherwise, or with ${RUN_ID}"
    return ""


def _segment_problem(segment: str) -> str:
    if not segment:
        return "it begins or ends with a slash, or has two in a row"
    if segment in (".", ".."):
        return f"{segment!r} would leave its place"
    if segment.startswith("."):
        return "a part that begins with a dot is the server's own"
    if len(segment.encode()) > MAX_SEGMENT_BYTES:
        return f"a part between slashes has at most {MAX_SEGMENT_BYTES} bytes"
    return ""


def read_template(template: str) -> Template:
    """`template` taken apart; its problem when no values can make it a safe key."""
    variables: set[str] = set()
    unfinished = False
    for token in _TOKEN.finditer(template):
        name = token["braced"] or token["bare"]
        unfinished |= name is None and not token["dollar"]
        variables |= {name} if name else set()
    if unfinished:
        return Template(frozenset(variables), "a dollar begins ${NAME}, $NAME or, for itself, is written $$")
    # Every variable stands for one harmless character here, so only the written parts are judged.
    written = _TOKEN.sub(lambda token: "0" if (token["braced"] or token["bare"]) in DIGITS else "x", template)
    return Template(frozenset(variables), key_problem(written) or _others_problem(written, ""))
