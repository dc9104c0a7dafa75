"""Requests to URLs that users gave. Where they lead is checked at the connection itself, whatever a name resolved to
before; redirects are followed by hand, and each is checked as the first URL was.

No text that leaves here holds a query: it may be what a presigned URL is secret by.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial

import aiohttp
from yarl import URL

from pupload.errors import InvalidRequest, TooLarge
from pupload.units import format_size
from pupload.web.addresses import Allowed
from pupload.web.resolver import Resolver
from pupload.web.urls import check_address, check_url, refused, shown

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HEADERS = {"User-Agent": "Pupload", "Accept": "*/*", "Accept-Encoding": "identity"}
_PIECE_BYTES = 256 * 1024

NOTHING_BESIDES = Allowed()


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a stranger's server may take. Units: seconds, bytes a second.

    `total_s` is for a whole file, `post_s` for a whole answer to a post. `least_rate` must be reached on the average,
    once `grace_s` are over.
    """

    total_s: float = 300.0
    post_s: float = 20.0
    connect_s: float = 10.0
    idle_s: float = 20.0
    least_rate: float = 4096.0
    grace_s: float = 15.0
    hops: int = 5


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer whose body is still to be read. `content_type` is what the server says, "" for nothing."""

    content_type: str
    pieces: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Posted:
    """What a receiver answered; its body is of no interest."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Web:
    """The internet as far as users may send us there."""

    allowed: Allowed = NOTHING_BESIDES
    patience: Patience = Patience()

    def check(self, text: str) -> None:
        """Return when the URL may be asked for, as far as it can be told without asking.

        Errors: InvalidRequest `URI_NOT_ALLOWED`.
        """
        check_url(text, self.allowed)

    @asynccontextmanager
    async def fetch(self, text: str, limit_bytes: int) -> AsyncIterator[Fetched]:
        """The file at the URL, after at most a few redirects.

        Errors, here and from the pieces: InvalidRequest `URI_NOT_ALLOWED` before a byte is sent to where it must
        not go, `URI_NOT_FETCHED` for any other failure; TooLarge `URI_TOO_LARGE`.
        """
        url = check_url(text, self.allowed)
        with _translated(url):
            async with asyncio.timeout(self.patience.total_s):
                for _ in range(self.patience.hops):
                    async with self._session(url) as session, session.get(url, allow_redirects=False) as response:
                        if response.status not in _REDIRECTS:
                            yield _fetched(url, response, limit_bytes, self.patience)
                            return
                        url = self._next(url, response)
        raise _failed(url, f"it redirects more than {self.patience.hops} times")

    async def post(self, text: str, body: bytes, headers: Mapping[str, str]) -> Posted:
        """What the receiver at the URL answered; a redirect is an answer like any other.

        Errors: InvalidRequest `URI_NOT_ALLOWED`, `URI_NOT_FETCHED`.
        """
        url = check_url(text, self.allowed)
        with _translated(url):
            async with (
                asyncio.timeout(self.patience.post_s),
                self._session(url) as session,
                session.post(url, data=body, headers=headers, allow_redirects=False) as response,
            ):
                return Posted(response.status, dict(response.headers))

    def _next(self, url: URL, response: aiohttp.ClientResponse) -> URL:
        location = response.headers.get("Location", "")
        try:
            there = str(url.join(URL(location, encoded=True)))
        except (ValueError, IndexError) as error:
            raise refused(f"{shown(url)} redirects to what is no URL") from error
        return check_url(there, self.allowed)

    def _session(self, url: URL) -> aiohttp.ClientSession:
        """A session for one request: a connection that is kept would be kept with what it was checked for."""
        return aiohttp.ClientSession(
            connector=_checked_connector(url.raw_host or "", partial(check_address, allowed=self.allowed)),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self.patience.connect_s, sock_read=self.patience.idle_s
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            auto_decompress=False,
            trust_env=False,
        )


def _checked_connector(host: str, check: Callable[[str, str, int], None]) -> aiohttp.TCPConnector:
    """Connections to this host, each only to an address that `check` lets pass; none is kept."""

    def connect_checked(address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, place = address
        check(host, str(place[0]), int(place[1]))
        return socket.socket(family, kind, protocol)

    return aiohttp.TCPConnector(
        socket_factory=connect_checked,
        resolver=Resolver(),
        use_dns_cache=False,
        # Without happy eyeballs an address that is refused ends the request, whatever else the name has.
        happy_eyeballs_delay=None,
        force_close=True,
    )


def _fetched(url: URL, response: aiohttp.ClientResponse, limit_bytes: int, patience: Patience) -> Fetched:
    if response.status != 200:
        raise _failed(url, f"its server answered {response.status}")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise _failed(url, "its server sends it compressed only; give a URL of the file as it is")
    if (response.content_length or 0) > limit_bytes:
        raise _too_large(url, limit_bytes)
    told = response.content_type if "Content-Type" in response.headers else ""
    return Fetched(told, _pieces(url, response, limit_bytes, patience))


async def _pieces(
    url: URL, response: aiohttp.ClientResponse, limit_bytes: int, patience: Patience
) -> AsyncIterator[bytes]:
    clock = asyncio.get_running_loop().time
    began, size = clock(), 0
    with _translated(url):
        async for piece in response.content.iter_chunked(_PIECE_BYTES):
            size += len(piece)
            if size > limit_bytes:
                raise _too_large(url, limit_bytes)
            passed = clock() - began
            if passed > patience.grace_s and size / passed < patience.least_rate:
                raise _failed(url, f"its server sends less than {format_size(int(patience.least_rate))} a second")
            yield piece


def _too_large(url: URL, limit_bytes: int) -> TooLarge:
    return TooLarge(f"{shown(url)} has more than {format_size(limit_bytes)}", code="URI_TOO_LARGE")


def _failed(url: URL, why: str) -> InvalidRequest:
    return InvalidRequest(f"{shown(url)} could not be fetched: {why}", code="URI_NOT_FETCHED")


@contextmanager
def _translated(url: URL) -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientError, TimeoutError) as error:
        raise _failed(url, _reason(error)) from error


def _reason(error: aiohttp.ClientError | TimeoutError) -> str:
    """Why, in words that hold nothing of the URL."""
    match error:
        case aiohttp.ClientConnectorDNSError():
            return "there is no such host"
        case aiohttp.ClientSSLError():
            return "its certificate is not good, or it speaks no TLS"
        case aiohttp.ClientConnectorError():
            return f"its server cannot be reached: {error.strerror or 'no connection'}"
        case TimeoutError():
            return "it takes too long"
        case aiohttp.ClientPayloadError() | aiohttp.ServerDisconnectedError():
            return "its server broke off"
        case _:
            return f"its server does not speak HTTP as it should ({type(error).__name__})"
