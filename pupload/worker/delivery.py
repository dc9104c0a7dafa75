"""Step 9 of an attempt: its outputs checked, hashed, and in the store.

An engine tells of an exit some 50 ms after the last process is gone. Where the kernel tells it at once, outputs are
stored meanwhile. What was stored ahead counts once the program is known to have done well, and if nothing has changed;
whatever was wrong with it is looked at again then.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass

from pupload.errors import PuploadError
from pupload.failpoints import reach
from pupload.protocol import OutputFound, OutputSpec, Snapshot
from pupload.worker.outputs import file_name, opened
from pupload.worker.snapshots import of_outputs
from pupload.worker.staging import Stage, deliver
from pupload.worker.workdir import WorkDir

_LOG = logging.getLogger(__name__)
_Looks = list[tuple[int, ...] | None]


@dataclass(frozen=True, slots=True)
class Delivered:
    """What the store has now, and how the texts among it begin."""

    found: list[OutputFound]
    snapshots: list[Snapshot]


class Delivery:
    """The outputs of one attempt on their way into the store."""

    def __init__(self, stage: Stage, place: WorkDir, specs: Sequence[OutputSpec], snapshot_bytes: int) -> None:
        self._stage, self._place, self._specs, self._snapshot_bytes = stage, place, list(specs), snapshot_bytes
        self._ahead: asyncio.Task[Delivered | None] | None = None
        self._before: _Looks | None = None

    def begin(self, empty: Coroutine[None, None, None]) -> None:
        """Store what is there as soon as `empty` returns."""
        self._ahead = asyncio.create_task(self._store_ahead(empty))

    async def outcome(self) -> Delivered:
        """What is in the store, now that the program has done well.

        Errors: NodeFailure; LostLease.
        """
        if self._ahead is not None and self._before is not None:
            ahead = await self._ahead
            if ahead is not None and self._looks() == self._before:
                return ahead
        return await self._store()

    async def end(self) -> None:
        """Store no more."""
        if self._ahead:
            self._ahead.cancel()
            await asyncio.wait({self._ahead})

    async def _store_ahead(self, empty: Coroutine[None, None, None]) -> Delivered | None:
        await empty
        self._before = self._looks()
        try:
            return await self._store()
        except (PuploadError, OSError) as error:
            _LOG.debug("nothing stored ahead for %s: %s", self._stage.ref, error)
            return None

    async def _store(self) -> Delivered:
        with contextlib.ExitStack() as stack:
            outputs = await asyncio.to_thread(stack.enter_context, opened(self._place, self._specs))
            await reach("outputs.checked")
            limit, snapshots = self._snapshot_bytes, list[Snapshot]()
            if limit:
                snapshots = await asyncio.to_thread(of_outputs, outputs, limit)
            return Delivered(await deliver(self._stage, outputs), snapshots)

    def _looks(self) -> _Looks:
        """What would tell that somebody has written since."""
        return [_look(self._place.outputs / file_name(spec)) for spec in self._specs]


def _look(path: os.PathLike[str]) -> tuple[int, ...] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
