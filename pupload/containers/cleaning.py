"""Room on the engine's disk: of the images that this worker has pulled, those go first that were used last long ago.

Nothing is removed by force, nothing that somebody else has given a name, and nothing by a prune.
"""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import docker

from pupload.containers.docker import Engine, Refused
from pupload.containers.images import Images, inspected
from pupload.containers.names import read_name
from pupload.containers.shelf import Kept
from pupload.failpoints import reach

_REMOVAL_S = 120.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Marks:
    """Above `high` images are removed until `low` is reached. Units: percent of the disk in use."""

    high: float
    low: float


class Cleaning:
    """Keeps the engine's disk between two marks; without marks it only sees to the record of what was pulled.

    `in_use` tells how much of the disk is.
    """

    def __init__(self, engine: Engine, images: Images, marks: Marks | None, in_use: Callable[[], float]) -> None:
        self._engine, self._images, self._marks, self._in_use = engine, images, marks, in_use

    async def look(self) -> int:
        """How many images were removed.

        Errors: EngineUnavailable; OSError when the record cannot be written.
        """
        await self._settle()
        removed = 0
        if self._marks is not None and self._in_use() > self._marks.high:
            for kept in self._images.shelf.oldest_first:
                removed += await self._removed(kept)
                if self._in_use() <= self._marks.low:
                    break
        await self._images.shelf.keep()
        return removed

    async def _settle(self) -> None:
        """A pull whose end this worker has not seen brought its image, or did not."""
        shelf = self._images.shelf
        for name in [name for name in shelf.begun if not self._images.is_coming(name)]:
            found = await self._found(name)
            await shelf.end(name, str(found["Id"]) if found else None)

    async def _removed(self, kept: Kept) -> bool:
        if self._images.is_held(kept.id):
            return False
        found = await self._found(kept.id)
        if found is None or _is_somebody_s(found, kept):
            await self._images.shelf.drop([kept.id])
            return False
        self._images.forget(kept.id)
        await reach("image.removing")
        gone = await self._let_go(found, kept)
        if gone:
            log.info("image %s is removed: the engine's disk was too full", ", ".join(sorted(kept.names)))
            await self._images.shelf.drop([kept.id])
        return gone

    async def _let_go(self, found: Mapping[str, Any], kept: Kept) -> bool:
        """True when the engine has the image no more."""
        try:
            # By its names first: an image of several names is not removed by its id.
            for name in [*(found.get("RepoTags") or ()), kept.id]:
                await self._engine.call("remove the image", partial(_remove, name), _REMOVAL_S)
        except Refused as refused:
            if refused.status != 404:
                # A container uses it, which another worker's may be.
                log.info("image %s stays: %s", ", ".join(sorted(kept.names)), refused)
                return False
        finally:
            self._images.forget(kept.id)
        return True

    async def _found(self, name: str) -> Mapping[str, Any] | None:
        try:
            return await self._engine.call("inspect the image", partial(inspected, name))
        except Refused as refused:
            if refused.status == 404:
                return None
            raise


def _is_somebody_s(found: Mapping[str, Any], kept: Kept) -> bool:
    """True when the image has a name that was not pulled here."""
    ours = {_tagged(name) for name in kept.names}
    return any(_tagged(str(name)) not in ours for name in found.get("RepoTags") or ())


def _remove(name: str, client: docker.APIClient) -> None:
    client.remove_image(name)


def _tagged(reference: str) -> str:
    name = read_name(reference)
    return f"{name.place}:{name.tag or ('' if name.digest else 'latest')}" if name else reference


def in_use_of(folder: str) -> float:
    """Percent of the disk under `folder` that is in use, as `df` says it."""
    disk = os.statvfs(folder)
    used = disk.f_blocks - disk.f_bfree
    return 100.0 * used / max(1, used + disk.f_bavail)
