"""What a key may be used for. Every route asks for exactly one of these, where it is declared."""

from collections.abc import Iterable
from enum import StrEnum

from pupload.errors import InvalidRequest


class KeyScope(StrEnum):
    """One thing that a key may be used for."""

    RUN_READ = "run:read"
    """Look at runs with all that belongs to them, at sessions, flows and node definitions."""
    RUN_CREATE = "run:create"
    """Make runs and sessions, feed, answer, cancel and remove them: to run programs, inside the sandbox."""
    FLOW_WRITE = "flow:write"
    """Change flows and node definitions, publish and promote."""
    FILES = "files"
    """Keep, list, read and remove files."""
    ADMIN = "admin"
    """All of it, on the things of every account, and on the server."""


EVERY_SCOPE = frozenset(KeyScope)
USUAL_SCOPES = EVERY_SCOPE - {KeyScope.ADMIN}
"""What a key may be used for unless it is told."""


def read_scopes(names: Iterable[str]) -> frozenset[KeyScope]:
    """The scopes of these names; the usual ones where there are none.

    Errors: InvalidRequest.
    """
    given = frozenset(names)
    if unknown := given - {scope.value for scope in KeyScope}:
        raise InvalidRequest(f"there is no scope {min(unknown)!r}; there are {', '.join(KeyScope)}")
    return frozenset(map(KeyScope, given)) or USUAL_SCOPES


def opened_by(names: Iterable[str]) -> frozenset[KeyScope]:
    """What a key with the scopes of these names opens. A name of a later version opens nothing here."""
    given = set(names)
    return EVERY_SCOPE if KeyScope.ADMIN in given else frozenset(scope for scope in KeyScope if scope in given)
