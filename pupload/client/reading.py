"""Paths of the interface, and the documents in its answers. PURE."""

from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import quote

from pydantic import BaseModel

from pupload.document import Document

B = TypeVar("B", bound=BaseModel)
D = TypeVar("D", bound=Document)


def path_of(*parts: str) -> str:
    """The path below `/api/v1` of these parts.

    >>> path_of("runs", "a/b", "events")
    '/api/v1/runs/a%2Fb/events'
    """
    return "/".join(("/api/v1", *(quote(part, safe="@") for part in parts)))


def query_of(**given: str | int | None) -> dict[str, str]:
    """What was given, as a query.

    >>> query_of(limit=5, cursor=None, flow="")
    {'limit': '5'}
    """
    return {name: str(value) for name, value in given.items() if value not in {None, ""}}


def read(kind: type[B], value: object) -> B:
    """The document in an answer. Members that a newer server adds are ignored."""
    return kind.model_validate(value, context={"unknown": []})


def rows(kind: type[D], answer: Mapping[str, object], member: str) -> list[D]:
    """The documents in a list in an answer."""
    found = answer.get(member)
    return [read(kind, row) for row in found] if isinstance(found, list) else []
