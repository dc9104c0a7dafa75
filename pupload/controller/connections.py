"""The connections of clients: so many and no more, and none to a client that lets us wait for ever.

The library answers requests and bounds what it holds of each; what it lacks is a look at the clock. A client must send
the head of a request in time, then its body, and read its answer, at some rate. What waits for us is never cut off.
"""

import asyncio
import logging
import resource
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from pupload.config import ControllerConfig

_LOG = logging.getLogger(__name__)
_SPARE_FILES = 200
"""What else this process keeps open: database, stores, its own files."""
_LEAST = 50
_LOOKS = 10
"""So often each connection is looked at while its client's patience lasts."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Patience:
    """How long we go on waiting for a client. Time takes from it, bytes give back, never beyond the beginning.

    >>> patience = _Patience(30.0)
    >>> [patience.ends(20.0, came_bytes=came, least_rate=100.0) for came in (0, 1500, 0)]
    [False, False, True]
    """

    def __init__(self, whole_s: float) -> None:
        self._whole_s = self._left_s = whole_s

    def ends(self, passed_s: float, *, came_bytes: int = 0, least_rate: float = 0.0) -> bool:
        """True when the client has let us wait for too long."""
        given_s = came_bytes / least_rate if least_rate else self._whole_s * bool(came_bytes)
        self._left_s = min(self._left_s - passed_s + given_s, self._whole_s)
        return self._left_s < 0


class Connection(asyncio.Protocol):
    """One connection: the library's own protocol, and what we wait for."""

    def __init__(self, inner: asyncio.Protocol, connections: "Connections") -> None:
        self._inner, self._connections = inner, connections
        self._transport: asyncio.Transport | None = None
        self._request: web.Request | None = None
        self._head: _Patience | None = connections.patience()
        self._body = self._answer = connections.patience()
        self._paused = False
        self._came_bytes = self._left_bytes = 0

    @property
    def is_idle(self) -> bool:
        """True while no request is under way on it."""
        return self._request is None and not self._paused

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is one of ours from here on, unless there are too many."""
        assert isinstance(transport, asyncio.Transport)
        if not self._connections.add(transport, self):
            transport.abort()
            return
        self._transport = transport
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""
        if self._transport is not None:
            self._connections.drop(self._transport)
            self._transport = None
            self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        self._came_bytes += len(data)
        if self._request is None and self._head is None:
            self._head = self._connections.patience()
        if self._transport is not None:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """The client sends no more."""
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        """The client does not read as fast as we write."""
        self._paused, self._answer = True, self._connections.patience()
        self._left_bytes = self.unsent_bytes
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """The client has read almost all that was written."""
        self._paused = False
        self._inner.resume_writing()

    def begin(self, request: web.Request) -> None:
        """The head of a request is here."""
        self._request, self._head, self._body, self._came_bytes = request, None, self._connections.patience(), 0

    def end(self) -> None:
        """The request is answered, but for what of the answer is still on its way."""
        self._request = None

    def look(self, passed_s: float, least_rate: float) -> None:
        """End the connection if its client has let us wait for too long."""
        why = self._slow_at(passed_s, least_rate)
        if why and self._transport is not None:
            _LOG.info("a connection is cut off: its client was too slow %s", why)
            self._transport.abort()

    def _slow_at(self, passed_s: float, least_rate: float) -> str:
        came_bytes, self._came_bytes = self._came_bytes, 0
        if self._head is not None and self._head.ends(passed_s):
            return "to ask"
        if self._is_awaited() and self._body.ends(passed_s, came_bytes=came_bytes, least_rate=least_rate):
            return "to send a body"
        if self._paused:
            left_bytes = self.unsent_bytes
            read_bytes, self._left_bytes = max(self._left_bytes - left_bytes, 0), left_bytes
            if self._answer.ends(passed_s, came_bytes=read_bytes, least_rate=least_rate):
                return "to read its answer"
        return ""

    def _is_awaited(self) -> bool:
        """True while it is the client that a body waits for, not we: while we have no room, we do not read."""
        return (
            self._request is not None
            and not self._request.content.is_eof()
            and self._transport is not None
            and self._transport.is_reading()
        )

    @property
    def unsent_bytes(self) -> int:
        """What waits in memory for the client to read it."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0


class Connections:
    """All connections of one controller."""

    def __init__(self, config: ControllerConfig) -> None:
        self._slow_s, self._least_rate = config.slow_s, config.slow_bytes_per_s
        self._most = _most(config.max_connections)
        self._open: dict[asyncio.BaseTransport, Connection] = {}

    def __len__(self) -> int:
        return len(self._open)

    @property
    def unsent_bytes(self) -> int:
        """What waits in memory for clients to read it."""
        return sum(each.unsent_bytes for each in self._open.values())

    def patience(self) -> _Patience:
        """A fresh one."""
        return _Patience(self._slow_s)

    def add(self, transport: asyncio.Transport, connection: Connection) -> bool:
        """True when there is room for one more: where there is none, whoever idles for longest makes room."""
        if len(self._open) >= self._most:
            idle = next((each for each, known in self._open.items() if known.is_idle), None)
            if idle is None:
                return False
            del self._open[idle]
            idle.close()
        self._open[transport] = connection
        return True

    def drop(self, transport: asyncio.BaseTransport) -> None:
        """It has ended."""
        self._open.pop(transport, None)

    @contextmanager
    def serving(self, request: web.Request) -> Iterator[None]:
        """The block answers this request."""
        connection = self._open.get(request.transport) if request.transport else None
        if connection is None:
            yield
            return
        connection.begin(request)
        try:
            yield
        finally:
            connection.end()
            if request.transport in self._open:
                # To the end of those that could make room.
                self._open[request.transport] = self._open.pop(request.transport)

    async def watch(self) -> None:
        """Look at all of them, for ever."""
        period_s = self._slow_s / _LOOKS
        while True:
            await asyncio.sleep(period_s)
            for connection in list(self._open.values()):
                # Not by the clock: time in which we stood still is nobody else's fault.
                connection.look(period_s, self._least_rate)


CONNECTIONS = web.AppKey("connections", Connections)


@web.middleware
async def watched(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Notes what the connection is waiting for."""
    with request.app[CONNECTIONS].serving(request):
        return await handler(request)


def _most(wished: int) -> int:
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY or allowed - _SPARE_FILES >= wished:
        return wished
    most = max(allowed - _SPARE_FILES, _LEAST)
    _LOG.warning("at most %s connections at once, not %s: a process here may open %s files", most, wished, allowed)
    return most


class ServerLog(logging.LoggerAdapter[logging.Logger]):
    """The library's log, in which a client's fault is a line: anybody can make one, as often as they like."""

    def exception(self, msg: object, *args: object, exc_info: object = True, **kwargs: Any) -> None:
        """Log a fault of ours with its trace, and a client's without."""
        if isinstance(exc_info, HttpProcessingError | web.RequestPayloadError):
            self.warning("a request is refused, it is no HTTP: %.200s", " ".join(str(exc_info).split()))
        else:
            super().exception(msg, *args, exc_info=exc_info, **kwargs)  # type: ignore[arg-type]


class Site(web.BaseSite):
    """Where a controller listens, with its connections looked after."""

    def __init__(self, runner: web.BaseRunner, host: str, port: int, connections: Connections) -> None:
        super().__init__(runner)
        self._host, self._port, self._connections = host, port, connections

    @property
    def name(self) -> str:
        """Where it listens."""
        return f"http://{self._host}:{self._port}"

    async def start(self) -> None:
        """Listen.

        Errors: OSError.
        """
        await super().start()
        made = self._runner.server
        assert made is not None
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Connection(made(), self._connections), self._host, self._port, backlog=self._backlog
        )
