"""Images: is one here, and if not, can it be pulled.

Single flight for each image (old engines deadlock on two pulls of one), a deadline, and a memory of what failed.
"""

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import docker

from pupload.containers.docker import Engine, Refused
from pupload.errors import EngineUnavailable, PuploadError

FRESH_S = 60.0
FAILED_S = 30.0
_OWN_ID = re.compile(r"sha256:[0-9a-f]{64}")
_REFUSALS = (
    "not found", "manifest unknown", "access denied", "unauthorized", "authentication required", "does not exist",
    "invalid reference", "forbidden", "no matching manifest",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Image:
    """An image on the engine. `id` is its own, `digest` its registry's where it has one."""

    id: str
    digest: str


class NoImage(PuploadError):
    """The image is not on the engine and cannot be pulled. `final` when the registry has refused it."""

    code = "NO_IMAGE"

    def __init__(self, message: str, *, final: bool) -> None:
        super().__init__(message)
        self.final = final


class Images:
    """The images of one engine."""

    def __init__(self, engine: Engine, pull_s: float) -> None:
        self._engine = engine
        self._pull_s = pull_s
        self._known: dict[str, tuple[float, Image]] = {}
        self._failed: dict[str, tuple[float, NoImage]] = {}
        self._flights: dict[str, asyncio.Task[Image]] = {}

    async def require(self, name: str) -> Image:
        """The image of that name, pulled when it is not here.

        Errors: NoImage; EngineUnavailable.
        """
        known = self._known.get(name)
        if known and time.monotonic() < known[0]:
            return known[1]
        flight = self._flights.get(name)
        if flight is None:
            flight = self._flights[name] = asyncio.create_task(self._fly(name))
            # Nobody may be left to hear of a failure; the next who asks will.
            flight.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        # One that waits may be cancelled; the flight goes on for the others.
        return await asyncio.shield(flight)

    def forget(self, name: str) -> None:
        """Look again at the next `require`; the engine has just said that the image is not there."""
        self._known.pop(name, None)

    async def close(self) -> None:
        """End the pulls in flight."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    async def _fly(self, name: str) -> Image:
        try:
            image = await self._present(name) or await self._pulled(name)
            self._known[name] = (time.monotonic() + FRESH_S, image)
            return image
        finally:
            self._flights.pop(name, None)

    async def _present(self, name: str) -> Image | None:
        try:
            found = await self._engine.call("inspect the image", lambda client: _inspect(client, name))
        except Refused as refused:
            if refused.status == 404:
                return None
            raise NoImage(f"image {name} is not usable: {refused}", final=True) from refused
        return _image(found)

    async def _pulled(self, name: str) -> Image:
        if _OWN_ID.fullmatch(name):
            # No registry knows an engine's own id; a pull would ask for a repository named sha256.
            raise NoImage(f"image {name} is not on this engine, and its id alone cannot be pulled", final=True)
        failed = self._failed.get(name)
        if failed and time.monotonic() < failed[0]:
            raise failed[1]
        try:
            image = await self._pull(name)
        except NoImage as error:
            self._failed[name] = (time.monotonic() + FAILED_S, error)
            raise
        self._failed.pop(name, None)
        return image

    async def _pull(self, name: str) -> Image:
        try:
            said = await self._engine.call("pull", lambda client: _pull(client, name), self._pull_s)
        except Refused as refused:
            said = str(refused)
        except EngineUnavailable as error:
            await self._engine.ping()
            raise NoImage(_text(name, f"the pull did not end: {error}"), final=False) from error
        image = None if said else await self._present(name)
        if image is None:
            said = said or "the pull ended without it"
            raise NoImage(_text(name, said), final=any(word in said.lower() for word in _REFUSALS))
        return image


async def exact_name(engine: Engine, name: str, deadline_s: float) -> str:
    """What `name` means now: `repository@digest` where the engine or a registry tells, else the engine's own id.

    Errors: Refused and EngineUnavailable when neither has it, or takes longer than `deadline_s` to say.
    """
    try:
        found = await engine.call("inspect the image", lambda client: _inspect(client, name), deadline_s)
    except Refused as refused:
        if refused.status != 404:
            raise
        digest = await engine.call("ask the registry", lambda client: _published(client, name), deadline_s)
        return f"{_repository(name)}@{digest}"
    digests = [str(each) for each in found.get("RepoDigests") or ()]
    own = [each for each in digests if each.startswith(f"{_repository(name)}@")]
    return next(iter(own or digests), str(found["Id"]))


def _repository(name: str) -> str:
    """`name` without its tag.

    >>> _repository("localhost:5000/a:1"), _repository("localhost:5000/a")
    ('localhost:5000/a', 'localhost:5000/a')
    """
    place, slash, last = name.rpartition("/")
    return place + slash + last.partition(":")[0]


def _published(client: docker.APIClient, name: str) -> str:
    found: Mapping[str, Any] = client.inspect_distribution(name)  # type: ignore[no-untyped-call]
    return str(found["Descriptor"]["digest"])


def _inspect(client: docker.APIClient, name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = client.inspect_image(name)  # type: ignore[no-untyped-call]
    return found


def _pull(client: docker.APIClient, name: str) -> str:
    """What the engine says went wrong; "" when nothing did."""
    tagged = "@" in name or ":" in name.rsplit("/", 1)[-1]
    rows = client.pull(name if tagged else f"{name}:latest", stream=True, decode=True)
    return next((str(row["error"]) for row in rows if "error" in row), "")


def _text(name: str, why: str) -> str:
    return f"image {name} is not on this engine and cannot be pulled: {why}"


def _image(found: Mapping[str, Any]) -> Image:
    digests = found.get("RepoDigests") or [found["Id"]]
    return Image(str(found["Id"]), str(digests[0]).rsplit("@", 1)[-1])
