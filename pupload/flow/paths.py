"""Where something stands in a document. PURE."""

from collections.abc import Iterable


def json_path(steps: Iterable[str | int]) -> str:
    """The JSON path of members and places.

    >>> json_path(("Flow", "Nodes", 3, "Uses"))
    '$.Flow.Nodes[3].Uses'
    """
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)


def in_flow(*steps: str | int) -> str:
    """The JSON path of a part of the flow."""
    return json_path(("Flow", *steps))


def in_defs(*steps: str | int) -> str:
    """The JSON path of a part of the node definitions."""
    return json_path(("NodeDefs", *steps))
