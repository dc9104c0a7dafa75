"""HTTP to one controller: retries where repeating is safe, and every failure as one of our own errors."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from yarl import URL

from pupload.client.backoff import Backoff
from pupload.client.errors import ApiError, ServerUnreachable, api_error
from pupload.log import redact

CONNECT_S = 5.0
CALL_S = 60.0
"""Longest silence of a server in a call."""
_AGAIN = frozenset({429, 502, 503, 504})
_REQUEST_ID = "X-Request-ID"


@dataclass(frozen=True, slots=True)
class Call:
    """One request to the controller. `repeatable`: making it twice does no more than making it once."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    silence_s: float = CALL_S


class Transport:
    """A session with one controller. Open it with `async with`, or close it."""

    def __init__(self, base_url: str, token: str | None = None, backoff: Backoff | None = None) -> None:
        self.base_url = base_url.rstrip("/")
        self.backoff = backoff or Backoff()
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session: aiohttp.ClientSession | None = None

    def session(self) -> aiohttp.ClientSession:
        """The session, opened when first needed: it belongs to the event loop that runs then."""
        if self._session is None:
            # A run of many files downloads a few at once; the environment's proxies are for the outside.
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=20), auto_decompress=False)
        return self._session

    async def close(self) -> None:
        """Let go of all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def json(self, call: Call) -> Any:
        """The JSON of the answer, None for an empty one.

        Errors: ApiError by status; ServerUnreachable.
        """
        return await self.repeated(call, self._read_json)

    async def repeated(self, call: Call, once: Any) -> Any:
        """What `once(call)` gives, tried again as the back-off allows while that is safe and can help."""
        failures = 0
        while True:
            try:
                return await once(call)
            except (ServerUnreachable, ApiError) as error:
                failures += 1
                if failures >= self.backoff.tries or not worth_repeating(call, error):
                    raise
                await self.backoff.wait(failures, getattr(error, "retry_after_s", 0.0))

    async def _read_json(self, call: Call) -> Any:
        async with self.answer(call) as response:
            body = await response.read()
        return json.loads(body) if body else None

    @asynccontextmanager
    async def answer(self, call: Call) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer, its status below 400, its body still to come. One try.

        Errors: ApiError by status; ServerUnreachable also when the body breaks off while the caller reads it.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=call.silence_s)
        body = None if call.body is None else json.dumps(call.body).encode()
        headers = {**self._headers, **call.headers} | ({"Content-Type": "application/json"} if body else {})
        with translated(self.base_url):
            async with self.session().request(
                call.method,
                URL(self.base_url + call.path, encoded=True).update_query(call.query),
                data=body,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                if response.status >= 400:
                    raise await refusal(response)
                yield response
