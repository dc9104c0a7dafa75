"""Named SQL: every statement of the project stands in `queries.sql`, described, and is called by its name."""

import re
from collections.abc import Mapping
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def named_queries(text: str) -> Mapping[str, str]:
    """The statements in `text` by name; a statement runs from its `-- name:` line to the next one.

    >>> named_queries("-- name: one\\nSELECT 1;\\n-- name: two\\nSELECT 2;")["two"]
    'SELECT 2'
    """
    _, *parts = _NAME.split(text)
    return {name: body.strip().rstrip(";") for name, body in zip(parts[::2], parts[1::2], strict=True)}


SQL = named_queries((files("pupload.db") / "queries.sql").read_text())
