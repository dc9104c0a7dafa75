"""Images: is one here, and if not, can it be pulled.

Single flight for each image (old engines deadlock on two pulls of one), a deadline, a pace for each registry, and a
memory of what failed that grows longer with each failure.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import docker

from pupload.containers.docker import Engine, Refused
from pupload.containers.names import Registries, is_exact, is_own_id, read_name
from pupload.containers.pace import Paces
from pupload.containers.pulling import Fault, Pull, fault_of
from pupload.containers.shelf import Shelf
from pupload.errors import EngineUnavailable, PuploadError

FRESH_S = 60.0
PROGRESS_S = 10.0
MOST_TOLD = 32
_FAILED_S = {Fault.NAME: 15.0, Fault.RULE: 15.0, Fault.IMAGE: 5.0, Fault.AWAY: 2.0}
_LONGEST_FAILED_S = 120.0
_MOST_KEPT = 1000
"""Names come from flows, so what is remembered of them is bounded."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Image:
    """An image on the engine. `id` is its own, `digest` its registry's where it has one.

    `exact` names its content: `repository@digest`, or the engine's own id. `volumes` are the places where it declares
    some.
    """

    id: str
    digest: str
    exact: str
    volumes: tuple[str, ...] = ()


class NoImage(PuploadError):
    """The image is not on the engine and cannot be pulled."""

    code = "NO_IMAGE"

    def __init__(self, message: str, fault: Fault) -> None:
        super().__init__(message)
        self.fault = fault

    @property
    def final(self) -> bool:
        """True when another try would be answered likewise."""
        return self.fault in {Fault.NAME, Fault.RULE}


@dataclass(frozen=True, slots=True)
class Supply:
    """How images may be had. `logins` are by registry: what the Docker configuration need not know.

    Units: `pull_s` seconds for one pull.
    """

    pull_s: float
    pulls_per_minute: int = 60
    registries: Registries = field(default_factory=lambda: Registries(()))
    logins: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(slots=True)
class _Flight:
    """A look or pull that everybody shares who wants the image."""

    going: asyncio.Task[Image]
    said: str = ""
    listeners: list[Tell] = field(default_factory=list)

    def tell(self, text: str) -> None:
        self.said = text
        for listener in self.listeners:
            listener(text)

    @contextmanager
    def heard_by(self, listener: Tell) -> Iterator[None]:
        self.listeners.append(listener)
        if self.said:
            listener(self.said)
        try:
            yield
        finally:
            self.listeners.remove(listener)


@dataclass(frozen=True, slots=True)
class _Failure:
    error: NoImage
    until: float
    wait_s: float


class Images:
    """The images of one engine. `shelf` records what is pulled."""

    def __init__(self, engine: Engine, supply: Supply, shelf: Shelf | None = None) -> None:
        self._engine, self._supply = engine, supply
        self.shelf = shelf or Shelf()
        self._paces = Paces(supply.pulls_per_minute)
        self._known: dict[str, tuple[float, Image]] = {}
        self._failed: dict[str, _Failure] = {}
        self._flights: dict[str, _Flight] = {}
        self._holders: dict[str, str] = {}

    async def require(self, name: str, tell: Tell = lambda _: None) -> Image:
        """The image of that name, pulled when it is not here; `tell` hears of a pull.

        Errors: NoImage; EngineUnavailable.
        """
        known = self._known.get(name)
        if known and time.monotonic() < known[0]:
            return known[1]
        flight = self._flights.get(name)
        if flight is None:
            flight = self._flights[name] = _Flight(asyncio.create_task(self._fly(name)))
            # Nobody may be left to hear of a failure; the next who asks will.
            flight.going.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        with flight.heard_by(tell):
            # One that waits may be cancelled; the flight goes on for the others.
            return await asyncio.shield(flight.going)

    def hold(self, holder: str, image: Image) -> None:
        """`holder` uses the image until it lets go: it is not removed meanwhile."""
        self._holders[holder] = image.id
        self.shelf.use(image.id)

    def let_go(self, holder: str) -> None:
        """`holder` uses no image any more."""
        self._holders.pop(holder, None)

    def is_held(self, image: str) -> bool:
        """True when somebody uses the image of this id, or has it under way."""
        return image in self._holders.values()

    def is_coming(self, name: str) -> bool:
        """True while it is being found out whether an image of that name is to be had."""
        return name in self._flights

    def means(self) -> dict[str, str]:
        """What names mean that were looked up a short while ago: the exact image by each, the last ones."""
        now = time.monotonic()
        fresh = [(name, image) for name, (until, image) in self._known.items() if now < until and not is_exact(name)]
        return {name: image.exact for name, image in fresh[-MOST_TOLD:]}

    def forget(self, image: str) -> None:
        """Look again at the next `require` of any of its names; the engine has just said that it is not there."""
        for name in [name for name, (_, known) in self._known.items() if known.id == image]:
            del self._known[name]

    async def close(self) -> None:
        """End the pulls in flight."""
        flights = [flight.going for flight in self._flights.values()]
        for going in flights:
            going.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    async def _fly(self, name: str) -> Image:
        try:
            image = await self._present(name) or await self._pulled(name)
            self._know(name, image)
            # What a name means is asked for next, and needs no look then.
            self._know(image.exact, image)
            return image
        finally:
            self._flights.pop(name, None)

    def _know(self, name: str, image: Image) -> None:
        self._known.pop(name, None)
        self._known[name] = (time.monotonic() + FRESH_S, image)
        if len(self._known) > _MOST_KEPT:
            del self._known[next(iter(self._known))]

    async def _present(self, name: str) -> Image | None:
        try:
            found = await self._engine.call("inspect the image", partial(inspected, name))
        except Refused as refused:
            if refused.status == 404:
                return None
            raise NoImage(f"image {name} is not usable: {refused}", Fault.NAME) from refused
        return _image(name, found)

    async def _pulled(self, name: str) -> Image:
        if is_own_id(name):
            # No registry knows an engine's own id; a pull would ask for a repository named sha256.
            raise NoImage(f"image {name} is not on this engine, and its id alone cannot be pulled", Fault.NAME)
        if not self._supply.registries.may_pull(name):
            text = f"image {name} is not on this engine, and this worker may not pull it"
            raise NoImage(text, Fault.RULE)
        failed = self._failed.get(name)
        if failed and time.monotonic() < failed.until:
            raise failed.error
        try:
            image = await self._pull(name)
        except NoImage as error:
            self._remember(name, error)
            raise
        self._failed.pop(name, None)
        return image

    def _remember(self, name: str, error: NoImage) -> None:
        before = self._failed.pop(name, None)
        wait_s = min(_LONGEST_FAILED_S, 2 * before.wait_s) if before else _FAILED_S[error.fault]
        self._failed[name] = _Failure(error, time.monotonic() + wait_s, wait_s)
        if len(self._failed) > _MOST_KEPT:
            del self._failed[next(iter(self._failed))]

    async def _pull(self, name: str) -> Image:
        await self.shelf.begin(name)
        # One that is cut off here may still come; whoever looks at the record sees to that.
        said = await self._asked(name)
        image = None if said else await self._present(name)
        await self.shelf.end(name, image.id if image else None)
        if image is None:
            said = said or "the pull ended without it"
            raise NoImage(_text(name, said), fault_of(said))
        return image

    async def _asked(self, name: str) -> str:
        """What the engine says went wrong with a pull; "" when nothing did."""
        place = read_name(name)
        registry, flight = place.registry if place else "", self._flights[name]
        async with self._paces.turn(registry, self._supply.pull_s) as admitted:
            if not admitted:
                raise NoImage(_text(name, f"too many pulls from {registry} are waiting"), Fault.AWAY)
            pull = Pull(name, self._supply.logins.get(registry))
            flight.tell(f"image {name} is not on this engine; pulling it from {registry}")
            teller = asyncio.create_task(_tell_on(flight, pull))
            try:
                return await pull.run(self._engine, self._supply.pull_s)
            except TimeoutError as error:
                text = f"the pull did not end in {self._supply.pull_s:g} s ({pull.progress or 'nothing came'})"
                raise NoImage(_text(name, text), Fault.IMAGE) from error
            except EngineUnavailable as error:
                await self._engine.ping()
                raise NoImage(_text(name, f"the pull did not end: {error}"), Fault.IMAGE) from error
            finally:
                teller.cancel()


async def _tell_on(flight: _Flight, pull: Pull) -> None:
    while True:
        await asyncio.sleep(PROGRESS_S)
        if pull.progress:
            flight.tell(f"pulling image {pull.name}: {pull.progress}")


async def exact_name(engine: Engine, name: str, deadline_s: float) -> str:
    """What `name` means now: `repository@digest` where the engine or a registry tells, else the engine's own id.

    Errors: Refused and EngineUnavailable when neither has it, or takes longer than `deadline_s` to say.
    """
    try:
        found = await engine.call("inspect the image", partial(inspected, name), deadline_s)
    except Refused as refused:
        if refused.status != 404:
            raise
        digest = await engine.call("ask the registry", lambda client: _published(client, name), deadline_s)
        return f"{_repository(name)}@{digest}"
    return _exact(name, found)


def _exact(name: str, found: Mapping[str, Any]) -> str:
    if is_exact(name):
        return name
    digests = [str(each) for each in found.get("RepoDigests") or ()]
    asked = read_name(name)
    # The engine writes names in the short form, whatever was asked for.
    own = [each for each in digests if asked and (place := read_name(each)) and place.place == asked.place]
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


def inspected(name: str, client: docker.APIClient) -> Mapping[str, Any]:
    """What the engine says of the image, in its own words."""
    found: Mapping[str, Any] = client.inspect_image(name)  # type: ignore[no-untyped-call]
    return found


def _text(name: str, why: str) -> str:
    return f"image {name} is not on this engine and cannot be pulled: {why}"


def _image(name: str, found: Mapping[str, Any]) -> Image:
    exact = _exact(name, found)
    volumes = (found.get("Config") or {}).get("Volumes") or ()
    return Image(str(found["Id"]), exact.rsplit("@", 1)[-1], exact, tuple(map(str, volumes)))
