"""Named SQL: every statement of the project stands in a `.sql` file here, described, and is called by its name."""

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


def _all_queries() -> Mapping[str, str]:
    found: dict[str, str] = {}
    for file in sorted(files("pupload.db").iterdir(), key=lambda each: each.name):
        if file.name.endswith(".sql"):
            named = named_queries(file.read_text())
            if twice := found.keys() & named.keys():
                raise ValueError(f"two statements are named {min(twice)}")
            found |= named
    return found


SQL = _all_queries()
