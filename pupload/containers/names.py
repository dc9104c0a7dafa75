"""Names of images as Docker reads them, and the list of registries that images may come from.

The rules by which a short name gets its registry are Docker's own, applied by its SDK.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

from docker.auth import INDEX_NAME, resolve_repository_name
from docker.errors import DockerException
from docker.utils import parse_repository_tag

LOCAL = "local"
"""Stands in a list of registries for what is on the engine already, whatever brought it there."""

_OWN_ID = re.compile(r"sha256:[0-9a-f]{64}")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_OFFICIAL = "library/"


@dataclass(frozen=True, slots=True)
class ImageName:
    """A name in parts, as an engine completes it. `placed`: it was written with its registry."""

    registry: str
    repository: str
    tag: str
    digest: str
    placed: bool

    @property
    def place(self) -> str:
        """Registry and repository."""
        return f"{self.registry}/{self.repository}"


def read_name(reference: str) -> ImageName | None:
    """The name in parts; None for what no engine takes as one, an engine's own id among it.

    >>> read_name("python").place, read_name("localhost:5000/a/b:1").place, read_name("Index.Docker.io/x").place
    ('docker.io/library/python', 'localhost:5000/a/b', 'docker.io/library/x')
    """
    if is_own_id(reference):
        return None
    rest, _, digest = reference.partition("@")
    written, tag = parse_repository_tag(rest)
    first, slash, path = written.partition("/")
    try:
        # A registry is a host, and hosts have no case. Where the first part is none, capitals are no name.
        registry, repository = resolve_repository_name(first.lower() + slash + path if slash else written)
    except DockerException:
        return None
    placed = bool(slash) and repository == path
    if (not placed and first != first.lower()) or not _REPOSITORY.fullmatch(repository):
        return None
    if registry == INDEX_NAME and "/" not in repository:
        repository = _OFFICIAL + repository
    return ImageName(registry, repository, tag or "", digest, placed)


def is_own_id(reference: str) -> bool:
    """True for an engine's own id, which means something on that engine alone."""
    return _OWN_ID.fullmatch(reference) is not None


def is_exact(reference: str) -> bool:
    """True for a name of content: by digest, or an engine's own id."""
    return "@" in reference or is_own_id(reference)


class Registries:
    """The registries that images may come from, each with the beginning of a path or without; none is all of them."""

    def __init__(self, allowed: Collection[str]) -> None:
        self._local = LOCAL in allowed
        self._places = [_place(each) for each in allowed if each != LOCAL]
        self._open = not allowed
        self._told = ", ".join(allowed)

    def refusal(self, reference: str) -> str:
        """Why no node may use the image; "" when one may."""
        if self.may_pull(reference) or (self._local and self._may_be_local(reference)):
            return ""
        name = read_name(reference)
        origin = f"comes from {name.place}" if name else "names no registry"
        return f"image {reference} {origin}, and images may only come from {self._told}"

    def may_pull(self, reference: str) -> bool:
        """True when a registry may be asked for the image."""
        name = read_name(reference)
        return self._open or (name is not None and any(_within(name.place, place) for place in self._places))

    def _may_be_local(self, reference: str) -> bool:
        name = read_name(reference)
        return is_own_id(reference) if name is None else not name.placed


def _place(entry: str) -> str:
    host, slash, path = entry.rstrip("/").partition("/")
    host = host.lower()
    return (INDEX_NAME if host == f"index.{INDEX_NAME}" else host) + slash + path


def _within(place: str, allowed: str) -> bool:
    return place == allowed or place.startswith(allowed + "/")
