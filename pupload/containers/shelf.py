"""What a worker has pulled, on its disk: these images are its own to remove, and no others.

A pull is noted before it begins: one that was cut off by the worker's death is the worker's all the same.
"""

import asyncio
import logging
import os
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field, ValidationError

from pupload.document import Document

FILE = ".images.json"

log = logging.getLogger(__name__)


class _Pulled(Document):
    """Units: seconds since 1970."""

    names: list[str]
    used: float


class _Record(Document):
    """`begun` are names whose pull has not been seen to end; `pulled` is by the engine's id."""

    begun: list[str] = Field(default_factory=list)
    pulled: dict[str, _Pulled] = Field(default_factory=dict)


@dataclass(slots=True)
class Kept:
    """An image that the worker has pulled. Units: `used` in seconds since 1970."""

    id: str
    names: set[str] = field(default_factory=set)
    used: float = 0.0


class Shelf:
    """The record of one worker, in its work directory; without one nothing is recorded."""

    def __init__(self, folder: Path | None = None) -> None:
        self._path = folder / FILE if folder else None
        record = _read(self._path) if self._path else _Record()
        self.begun = set(record.begun)
        self._kept = {each: Kept(each, set(pulled.names), pulled.used) for each, pulled in record.pulled.items()}
        self._changed = False
        self._turn = asyncio.Lock()

    @property
    def oldest_first(self) -> list[Kept]:
        """Every image that was pulled here, in the order of their last uses."""
        return sorted(self._kept.values(), key=lambda kept: kept.used)

    async def begin(self, name: str) -> None:
        """A pull of `name` is about to begin; this is on the disk now."""
        self.begun.add(name)
        await self._write()

    async def end(self, name: str, image: str | None) -> None:
        """The pull is over, and has brought `image`, or nothing."""
        self.begun.discard(name)
        if image is not None:
            self._kept.setdefault(image, Kept(image)).names.add(name)
            self.use(image)
        await self._write()

    def use(self, image: str) -> None:
        """The image is used now; written down with the next `keep`."""
        if kept := self._kept.get(image):
            kept.used = time.time()
            self._changed = True

    async def drop(self, images: Collection[str]) -> None:
        """These are not the worker's any more."""
        for image in images:
            self._changed |= self._kept.pop(image, None) is not None
        await self.keep()

    async def keep(self) -> None:
        """All that is known is on the disk."""
        if self._changed:
            await self._write()

    async def _write(self) -> None:
        if self._path is None:
            return
        async with self._turn:
            self._changed = False
            pulled = {each.id: _Pulled(names=sorted(each.names), used=each.used) for each in self._kept.values()}
            text = _Record(begun=sorted(self.begun), pulled=pulled).model_dump_json(by_alias=True)
            await asyncio.to_thread(_replace, self._path, text)


def _replace(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    with fresh.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _read(path: Path) -> _Record:
    try:
        return _Record.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return _Record()
    except (ValidationError, OSError) as error:
        # What is not known to be ours stays for ever, which is the safe side.
        log.warning("the record of pulled images is not readable, images pulled before now stay: %s", error)
        return _Record()
