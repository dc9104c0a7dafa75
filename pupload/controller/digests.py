"""Exact images: what a reference means today, so that a published version means it for ever."""

import asyncio
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pupload.config import ControllerConfig
from pupload.errors import PuploadError
from pupload.flow.nodedef import NodeDef

if TYPE_CHECKING:
    from pupload.containers.docker import Engine

_OWN_ID = re.compile(r"sha256:[0-9a-f]{64}")
_LONGEST_S = 5.0
"""The engine, and a registry through it, may take so long for an answer."""


@dataclass(frozen=True, slots=True)
class FoundImages:
    """The exact image of each reference that has one, and why it is not known for each that has none."""

    images: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)

    @property
    def warnings(self) -> list[str]:
        """What a published version says of those that are not known."""
        return [_warning(reference, why) for reference, why in self.unknown.items()]


class Digests:
    """Asks the Docker engine beside the controller what references mean."""

    def __init__(self, config: ControllerConfig) -> None:
        self._enabled, self._host = config.pin_images, config.docker_host

    async def find(self, references: Collection[str], *, always: bool = False) -> FoundImages:
        """What each reference means now, `always` also where the settings ask for no exact images.

        Nothing here fails: what cannot be found out is unknown.
        """
        # What names its content already needs no engine.
        open_ones = [each for each in references if "@" not in each and not _OWN_ID.fullmatch(each)]
        if not (self._enabled or always) or not open_ones:
            return FoundImages()
        try:
            async with asyncio.timeout(_LONGEST_S):
                engine = await self._connect()
        except TimeoutError:
            return FoundImages(unknown=dict.fromkeys(open_ones, f"no answer in {_LONGEST_S:g} s"))
        except PuploadError as error:
            return FoundImages(unknown=dict.fromkeys(open_ones, str(error)))
        try:
            answers = await asyncio.gather(*(_exact(engine, each) for each in open_ones))
        finally:
            await engine.close()
        found = dict(zip(open_ones, answers, strict=True))
        return FoundImages(
            {name: image for name, image in found.items() if isinstance(image, str)},
            {name: str(image) for name, image in found.items() if not isinstance(image, str)},
        )

    async def _connect(self) -> "Engine":
        # Only here: a controller that publishes nothing need not know Docker.
        from pupload.containers.docker import Engine

        return await Engine.connect(self._host, containers=1)


async def _exact(engine: "Engine", reference: str) -> str | PuploadError:
    from pupload.containers.images import exact_name

    try:
        return await exact_name(engine, reference, _LONGEST_S)
    except PuploadError as error:
        return error


def _warning(reference: str, why: str) -> str:
    return f"image {reference} is run as its tag will stand then, its exact image is not known: {why}"


def exact(defs: Sequence[NodeDef], images: Mapping[str, str]) -> list[NodeDef]:
    """`defs` with the exact image in place of each reference that `images` knows."""
    return [each.model_copy(update={"image": images.get(each.image, each.image)}) for each in defs]
