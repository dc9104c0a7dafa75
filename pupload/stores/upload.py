"""One upload from a stream onto a presigned URL: all of it, or nothing."""

import re
from collections.abc import AsyncIterator

import aiohttp
from yarl import URL

from pupload.errors import Malformed
from pupload.stores.base import Guard, SignedRequest
from pupload.stores.guarding import guarded_sockets

_CODE = re.compile(rb"<Code>(\w+)</Code>")
_LIMITS = aiohttp.ClientTimeout(total=None, sock_connect=3, sock_read=60)


class WholeBody:
    """The chunks of a body that must be exactly as long as announced.

    A chunk is passed on only when the next one is known, so a body that is too long never looks complete to the
    server. What the source raises is kept in `fault`, as the HTTP client would bury it.
    """

    def __init__(self, chunks: AsyncIterator[bytes], size_bytes: int) -> None:
        self._chunks = chunks
        self._size_bytes = size_bytes
        self.fault: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._exact():
                yield chunk
        except Exception as error:
            self.fault = error
            raise

    async def _exact(self) -> AsyncIterator[bytes]:
        held, seen = b"", 0
        async for chunk in self._chunks:
            if held:
                yield held
            held = chunk
            seen += len(chunk)
            if seen > self._size_bytes:
                raise Malformed(f"the body is longer than the {self._size_bytes} bytes that were announced")
        if seen < self._size_bytes:
            raise Malformed(f"the body ended after {seen} of {self._size_bytes} bytes")
        if held:
            yield held


class Uploads:
    """The connections that uploads to one store go through, opened with the first of them."""

    def __init__(self, guard: Guard | None = None) -> None:
        self._guard = guard
        self._session: aiohttp.ClientSession | None = None

    async def send(self, request: SignedRequest, body: WholeBody) -> tuple[int, str]:
        """Status and error code of the server's answer.

        Errors: aiohttp.ClientError and TimeoutError where the server does not answer; the body's own fault first.
        """
        url = URL(request.url, encoded=True)
        if self._session is None:
            sockets = guarded_sockets(url.raw_host or "", self._guard) if self._guard else None
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(socket_factory=sockets), timeout=_LIMITS, auto_decompress=False
            )
        try:
            async with self._session.put(
                url, data=aiter(body), headers=request.headers, allow_redirects=False
            ) as response:
                return response.status, _code_in(await response.content.read(4096))
        except (aiohttp.ClientError, TimeoutError):
            if body.fault is not None:
                raise body.fault from None
            raise

    async def close(self) -> None:
        """Closes all connections."""
        if self._session is not None:
            await self._session.close()


def _code_in(answer: bytes) -> str:
    found = _CODE.search(answer)
    return found.group(1).decode() if found else ""
