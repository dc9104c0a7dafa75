"""Bytes of unknown length on their way to a store: in a file without a name, gone with whoever holds it."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import IO

from pupload.errors import TooLarge, Unavailable
from pupload.flow.digest import Digest
from pupload.units import format_size

_PIECE_BYTES = 1024 * 1024
KEPT_FREE = 0.05
"""Of the disk: others need it, the database among them, and how much will come nobody has said."""
_FULL = "the server's disk has no room for what comes without a Content-Length; send one, or come again"


@dataclass(slots=True)
class Spool:
    """What has come so far, and all that is known of it."""

    _file: IO[bytes]
    digest: Digest = field(default_factory=Digest)

    async def fill(self, pieces: AsyncIterator[bytes], limit_bytes: int) -> None:
        """Take all of it.

        Errors: TooLarge; Unavailable where the disk has no room; what `pieces` raises.
        """
        async for piece in pieces:
            await asyncio.to_thread(self._take, piece)
            if self.digest.size_bytes > limit_bytes:
                raise TooLarge(f"the file is larger than {format_size(limit_bytes)}")

    def _take(self, piece: bytes) -> None:
        disk = os.fstatvfs(self._file.fileno())
        if disk.f_bavail * disk.f_frsize < KEPT_FREE * disk.f_blocks * disk.f_frsize:
            raise Unavailable(_FULL, code="NO_DISK_SPACE")
        try:
            self._file.write(piece)
        except OSError as error:
            raise Unavailable(_FULL, code="NO_DISK_SPACE") from error
        self.digest.take(piece)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The bytes, from the beginning."""
        await asyncio.to_thread(self._file.seek, 0)
        while piece := await asyncio.to_thread(self._file.read, _PIECE_BYTES):
            yield piece


@asynccontextmanager
async def a_spool() -> AsyncIterator[Spool]:
    """An empty spool, as long as the block."""
    file = await asyncio.to_thread(tempfile.TemporaryFile)
    try:
        yield Spool(file)
    finally:
        await asyncio.to_thread(file.close)
