"""Requests to stores on threads of their own, any of which can be cut from outside.

Bytes only go between a socket and a file here. A thread that waits for both takes less processor time than an event
loop, which must hand each piece to a thread for the file. What a thread cannot is to be cancelled; so its socket is
shut.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import urllib3
from urllib3.connection import HTTPConnection

from pupload.stores.base import Guard
from pupload.stores.pools import plain_pools

CONNECT_S = 10.0
IDLE_S = 30.0
_MOST_THREADS = 1024
"""Some wait for strangers' stores: there must be others besides."""
_KEPT = 64
_RESET = struct.pack("ii", 1, 0)

T = TypeVar("T")

_thread = threading.local()


class Cut(Exception):
    """Nobody waits for this any more."""


class Line:
    """The connection of one request, which any thread may cut."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._is_connecting = self._is_cut = False

    @contextlib.contextmanager
    def connecting(self) -> Iterator[None]:
        """The block waits for a name or for a peer, which nobody can cut short.

        Errors: Cut.
        """
        with self._lock:
            self._require_whole()
            self._is_connecting = True
        try:
            yield
        finally:
            with self._lock:
                self._is_connecting = False

    def hold(self, used: socket.socket) -> None:
        """The request uses this one.

        Errors: Cut.
        """
        with self._lock:
            self._require_whole()
            self._socket = used

    def _require_whole(self) -> None:
        if self._is_cut:
            raise Cut

    def let_go(self) -> None:
        """The request is over, and the connection may be another's."""
        with self._lock:
            self._socket = None

    def cut(self) -> bool:
        """End the request; False where it still connects, after which it will do nothing."""
        with self._lock:
            self._is_cut = True
            if self._socket is not None:
                # It may have been closed just now.
                with contextlib.suppress(OSError):
                    # By a reset once it is closed: a store that could send no more would not hear of a plain end.
                    self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    self._socket.shutdown(socket.SHUT_RDWR)
            return not self._is_connecting


class _Held(HTTPConnection):
    """A connection whose thread has a line to hold it."""

    def connect(self) -> None:
        with _thread.line.connecting():
            super().connect()
        self._hold()

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            self._hold()
        super().request(*args, **kwargs)

    def _hold(self) -> None:
        # To send a piece may take longer than to connect.
        self.timeout = IDLE_S
        self.sock.settimeout(IDLE_S)
        _thread.line.hold(self.sock)


def connections(guard: Guard | None = None) -> urllib3.PoolManager:
    """Connections to stores, kept; where there is a `guard`, only to where it lets them go."""
    timeout = urllib3.Timeout(connect=CONNECT_S, read=IDLE_S)
    made = urllib3.PoolManager(maxsize=_KEPT, timeout=timeout, retries=False)
    made.pool_classes_by_scheme = plain_pools(guard, _Held)
    return made


class Threads:
    """Threads for requests that block."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="transfer")

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns, on a thread. Where this is cancelled its connection is cut, and it ends before this.

        Only one that still connects is left behind: it has opened no file, and will not.
        """
        line = Line()

        def on_line() -> T:
            _thread.line = line
            try:
                return work()
            finally:
                line.let_go()

        job = self._threads.submit(on_line)
        ended = asyncio.wrap_future(job)
        try:
            return await asyncio.shield(ended)
        except asyncio.CancelledError:
            if not job.cancel() and line.cut():
                await asyncio.wait({ended})
            raise
        finally:
            # What it says that was cut is of no interest.
            ended.cancel()

    def close(self) -> None:
        """Let the threads go, each when its work is done."""
        self._threads.shutdown(wait=False, cancel_futures=True)
