"""Bytes of unknown length on their way to a store: in a file without a name, gone with whoever holds it."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import IO

from pupload.errors import TooLarge
from pupload.flow.digest import Digest
from pupload.units import format_size

_PIECE_BYTES = 1024 * 1024


@dataclass(slots=True)
class Spool:
    """What has come so far, and all that is known of it."""

    _file: IO[bytes]
    digest: Digest = field(default_factory=Digest)

    async def fill(self, pieces: AsyncIterator[bytes], limit_bytes: int) -> None:
        """Take all of it.

        Errors: TooLarge; what `pieces` raises.
        """
        async for piece in pieces:
            await asyncio.to_thread(self._take, piece)
            if self.digest.size_bytes > limit_bytes:
                raise TooLarge(f"the file is larger than {format_size(limit_bytes)}")

    def _take(self, piece: bytes) -> None:
        self._file.write(piece)
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
