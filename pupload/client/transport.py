"""HTTP to one controller: retries where repeating is safe, and every failure as one of our own errors."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import aiohttp
from yarl import URL

from pupload.client.backoff import Backoff
from pupload.client.errors import ApiError, CallTimeout, ServerUnreachable, api_error

CONNECT_S = 5.0
CALL_S = 60.0
"""Longest time for a call with all its tries, unless told."""
_FAULTS = 500
_NOTHING_DONE = 429
_LEFT_BEHIND: list[aiohttp.ClientSession] = []
"""Sessions that a forked process has from its parent: letting go of them would disturb the parent's."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes to send, read anew for each try."""

    size_bytes: int
    pieces: Callable[[], AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True)
class Call:
    """One request to the controller. `repeatable`: making it twice does no more than making it once.

    `body` is JSON, unless it is Content. With `silence_s` the server may take as long as it likes, but not be silent
    for longer; without, the whole call has the transport's time.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    silence_s: float | None = None


class Transport:
    """A session with one controller; `close` it."""

    def __init__(
        self, base_url: str, token: str | None = None, backoff: Backoff | None = None, timeout_s: float = CALL_S
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.backoff = backoff or Backoff()
        self.timeout_s = timeout_s
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session: aiohttp.ClientSession | None = None
        self._pid = 0

    def session(self) -> aiohttp.ClientSession:
        """The session, opened when first needed: it belongs to the event loop that runs then."""
        if self._session is not None and self._pid != os.getpid():
            _LEFT_BEHIND.append(self._session)
            self._session = None
        if self._session is None:
            self._session, self._pid = aiohttp.ClientSession(), os.getpid()
        return self._session

    async def close(self) -> None:
        """Let go of all connections."""
        session, self._session = self._session, None
        if session is not None and self._pid == os.getpid():
            await session.close()

    async def json(self, call: Call) -> Any:
        """The JSON of the answer, None for an empty one.

        Errors: ApiError by status; ServerUnreachable; CallTimeout.
        """
        async with within(self.timeout_s if call.silence_s is None else None, f"{self.base_url} did not answer"):
            return await self.repeated(lambda: self._read_json(call), repeatable=call.repeatable)

    async def repeated(self, once: Callable[[], Awaitable[T]], *, repeatable: bool = True) -> T:
        """What `once` gives, tried again as the back-off allows while that is safe and can help."""
        failures = 0
        while True:
            try:
                return await once()
            except (ServerUnreachable, ApiError) as error:
                failures += 1
                if failures >= self.backoff.tries or not (_not_begun(error) or (repeatable and may_pass(error))):
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
        body, kind = _sent(call.body)
        url = URL(self.base_url + call.path, encoded=True)
        with unreachable_named(self.base_url):
            async with self.session().request(
                call.method,
                url.update_query(call.query) if call.query else url,
                data=body,
                headers={**self._headers, **kind, **call.headers},
                timeout=timeout_of(self.timeout_s if call.silence_s is None else call.silence_s),
                allow_redirects=False,
            ) as response:
                await refuse(response)
                yield response


def _sent(body: object) -> tuple[bytes | AsyncIterator[bytes] | None, dict[str, str]]:
    """What goes over the wire, and the headers that tell of it."""
    match body:
        case None:
            return None, {}
        case Content():
            length = {"Content-Length": str(body.size_bytes), "Content-Type": "application/octet-stream"}
            return body.pieces(), length
        case _:
            return json.dumps(body).encode(), {"Content-Type": "application/json"}


@asynccontextmanager
async def within(limit_s: float | None, otherwise: str, run_id: str = "") -> AsyncIterator[None]:
    """The block, for so long at most; None is for ever.

    Errors: CallTimeout saying `otherwise`, about that run.
    """
    limit = asyncio.timeout(limit_s)
    try:
        async with limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise CallTimeout(f"{otherwise} within {limit_s:g} s", run_id) from error


def timeout_of(silence_s: float) -> aiohttp.ClientTimeout:
    """No limit to the whole: files are large and streams endless. A silent peer is given up."""
    return aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=silence_s)


def may_pass(error: ServerUnreachable | ApiError) -> bool:
    """True when the same call may go through later."""
    return isinstance(error, ServerUnreachable) or error.status == _NOTHING_DONE or error.status >= _FAULTS


def _not_begun(error: ServerUnreachable | ApiError) -> bool:
    """True when the server did nothing, so that any call may be made again."""
    return isinstance(error, ApiError) and error.status == _NOTHING_DONE


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
