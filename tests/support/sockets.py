"""A client that speaks to a server byte by byte, as no library would."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from yarl import URL

_LONGEST_S = 60.0


@dataclass(slots=True)
class Line:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, text: str | bytes) -> bool:
        """True when it was sent, False when the server has hung up."""
        try:
            self.writer.write(text.encode() if isinstance(text, str) else text)
            await self.writer.drain()
        except ConnectionError:
            return False
        return not self.writer.is_closing()

    async def until_closed(self) -> bytes:
        """All that comes before the server hangs up."""
        heard = b""
        with suppress(ConnectionError):
            async with asyncio.timeout(_LONGEST_S):
                while piece := await self.reader.read(65536):
                    heard += piece
        return heard

    async def status(self) -> int:
        """The status of the next answer, whose head is read."""
        async with asyncio.timeout(_LONGEST_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
        found = re.match(rb"HTTP/1\.1 (\d{3})", head)
        assert found, head
        return int(found[1])


@asynccontextmanager
async def a_line(url: str, limit: int = 65536) -> AsyncIterator[Line]:
    """A connection to the server."""
    where = URL(url)
    reader, writer = await asyncio.open_connection(where.host, where.port, limit=limit)
    try:
        yield Line(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
