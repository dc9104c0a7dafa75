"""HTTP to one controller: retries where repeating is safe, and every failure as one of our own errors."""

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import aiohttp
from yarl import URL

from pupload.client.backoff import Backoff
from pupload.client.errors import ApiError, ServerUnreachable, api_error

CONNECT_S = 5.0
CALL_S = 60.0
"""Longest silence of a server within a call."""
_AGAIN = frozenset({429, 502, 503, 504})

T = TypeVar("T")


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
    """A session with one controller; `close` it."""

    def __init__(self, base_url: str, token: str | None = None, backoff: Backoff | None = None) -> None:
        self.base_url = base_url.rstrip("/")
        self.backoff = backoff or Backoff()
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session: aiohttp.ClientSession | None = None

    def session(self) -> aiohttp.ClientSession:
        """The session, opened when first needed: it belongs to the event loop that runs then."""
        if self._session is None:
            self._session = aiohttp.ClientSession()
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
        return await self.repeated(lambda: self._read_json(call), repeatable=call.repeatable)

    async def repeated(self, once: Callable[[], Awaitable[T]], *, repeatable: bool = True) -> T:
        """What `once` gives, tried again as the back-off allows while that is safe and can help."""
        failures = 0
        while True:
            try:
                return await once()
            except (ServerUnreachable, ApiError) as error:
                failures += 1
                if failures >= self.backoff.tries or not (repeatable and may_pass(error)):
                    raise
                await self.backoff.wait(failures, error.retry_after_s if isinstance(error, ApiError) else 0.0)

    async def _read_json(self, call: Call) -> Any:
        async with self.answer(call) as response:
            body = await response.read()
        return json.loads(body) if body else None

    @asynccontextmanager
    async def answer(self, call: Call) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer, its status below 400, its body still to come. One try, no redirect followed.

        Errors: ApiError by status; ServerUnreachable also when the body breaks off while the caller reads it.
        """
        body = None if call.body is None else json.dumps(call.body).encode()
        kind = {} if body is None else {"Content-Type": "application/json"}
        url = URL(self.base_url + call.path, encoded=True)
        with unreachable_named(self.base_url):
            async with self.session().request(
                call.method,
                url.update_query(call.query) if call.query else url,
                data=body,
                headers={**self._headers, **kind, **call.headers},
                timeout=timeout_of(call.silence_s),
                allow_redirects=False,
            ) as response:
                await refuse(response)
                yield response


def timeout_of(silence_s: float) -> aiohttp.ClientTimeout:
    """No limit to the whole: files are large and streams endless. A silent peer is given up."""
    return aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=silence_s)


def may_pass(error: ServerUnreachable | ApiError) -> bool:
    """True when the same call may go through later."""
    return isinstance(error, ServerUnreachable) or error.status in _AGAIN


@contextmanager
def unreachable_named(address: str) -> Iterator[None]:
    """Turns a failure of the connection into ServerUnreachable, naming `address` and no more of any URL.

    Other OSErrors are those of files, and pass.
    """
    try:
        yield
    except (TimeoutError, aiohttp.ClientError, ConnectionError) as error:
        raise ServerUnreachable(f"{address} does not answer: {_cause(error)}") from error


def _cause(error: Exception) -> str:
    """The failure in words; never the library's own text, which may hold a signed URL."""
    match error:
        case aiohttp.ClientConnectorError():
            return _system_words(error.os_error, "no connection")
        case TimeoutError():
            return "no answer in time"
        case OSError():
            return _system_words(error, "the connection broke")
        case _:
            return "the connection broke"


def _system_words(error: OSError, otherwise: str) -> str:
    # asyncio puts words of its own where the system's should be.
    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else otherwise


async def refuse(response: aiohttp.ClientResponse) -> None:
    """Raise the ApiError that the answer means, if it means one."""
    if response.status < 400:
        return
    text = (await response.content.read(1 << 20)).decode("utf-8", "replace")
    try:
        body: object = json.loads(text)
    except ValueError:
        body = None
    error = api_error(response.status, body, text, response.headers.get("X-Request-ID", ""))
    error.retry_after_s = _seconds(response.headers.get("Retry-After", ""))
    raise error


def _seconds(retry_after: str) -> float:
    return min(float(retry_after), 60.0) if retry_after.isdigit() else 0.0
