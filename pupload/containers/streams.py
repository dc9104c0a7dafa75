"""The two long answers of the engine: an exit that is waited for, and a container's output.

Each is read on a thread of its own; `close` from the event loop ends the read at once.
"""

import asyncio
import contextlib
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import requests
import urllib3

Sink = Callable[[str, bytes], None]
"""Takes the name of a stream, stdout or stderr, and bytes of it; called on a thread."""

_HEADER = struct.Struct(">BxxxL")
_STREAMS = {1: "stdout", 2: "stderr"}
_READ_BYTES = 64 * 1024
_BROKEN = (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError)


class StreamBroken(Exception):
    """The stream ended before its answer came, which says nothing about the container.

    `silent` says that we ended it, because nothing came for long.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        # The library wraps one error in another, of the kind that a reset has too.
        self.silent = any(isinstance(each, urllib3.exceptions.ReadTimeoutError) for each in (error, *error.args))


class _Stream:
    def __init__(self, response: requests.Response, threads: ThreadPoolExecutor) -> None:
        self._response = response
        self._threads = threads
        self._closed: Callable[[], None] = lambda: None
        self._is_read = False
        """A thread reads it, and closes the response when it is through; nobody else may then."""

    def on_close(self, tell: Callable[[], None]) -> None:
        """Have `tell` called once the stream is closed."""
        self._closed = tell

    def close(self) -> None:
        """End the stream; a thread that reads it wakes up."""
        # A stream that was read to its end has no connection to shut down any more.
        with contextlib.suppress(RuntimeError, ValueError, OSError):
            self._response.raw.shutdown()
        if not self._is_read:
            self._response.close()
        self._closed()


class Watch(_Stream):
    """A wait for the exit of a container."""

    async def answer(self) -> None:
        """Return when the engine says that the container has exited.

        Errors: StreamBroken when the stream ends, or is silent for long, without saying so.
        """
        self._is_read = True
        await asyncio.get_running_loop().run_in_executor(self._threads, self._read)

    def _read(self) -> None:
        try:
            self._response.json()
        except _BROKEN as error:
            raise StreamBroken(error) from error
        finally:
            self._response.close()


class Attached(_Stream):
    """A container's output on its way to a sink.

    Its end says nothing about the container: a connection that is cut ends it just so. `last` is when bytes came last.
    Units: seconds since 1970.
    """

    def __init__(self, response: requests.Response, sink: Sink, threads: ThreadPoolExecutor) -> None:
        super().__init__(response, threads)
        self._sink = sink
        self._is_read = True
        self.last = time.time()
        self._pumped = asyncio.get_running_loop().run_in_executor(threads, self._pump)

    async def drained(self, deadline_s: float) -> bool:
        """True once all output is with the sink; False when the deadline passes first, and the stream is closed."""
        done, _ = await asyncio.wait({self._pumped}, timeout=deadline_s)
        self.close()
        if not done:
            await asyncio.wait({self._pumped})
        return bool(done)

    async def ended(self) -> None:
        """Return once the stream has ended, whatever ended it."""
        await asyncio.wait({self._pumped})

    def _pump(self) -> None:
        # A cut connection is like an end; who cares asks the engine whether the container still runs.
        with contextlib.suppress(*_BROKEN), contextlib.closing(self._response):
            for stream, data in _frames(self._response):
                self.last = time.time()
                self._sink(stream, data)


def _frames(response: requests.Response) -> Iterator[tuple[str, bytes]]:
    """(stream, bytes) as they come, several for one frame of the engine when it is long.

    Source: https://docs.docker.com/engine/api/v1.41/#operation/ContainerAttach, Stream format
    """
    waiting, stream, left = b"", "stdout", 0
    while data := response.raw.read1(_READ_BYTES):
        waiting, at = waiting + data, 0
        # By place, not by cutting the front off: a program may write its output a byte a frame.
        while at < len(waiting):
            if left == 0:
                if len(waiting) - at < _HEADER.size:
                    break
                number, left = _HEADER.unpack_from(waiting, at)
                stream, at = _STREAMS.get(number, "stdout"), at + _HEADER.size
                continue
            piece = waiting[at : at + left]
            yield stream, piece
            at, left = at + len(piece), left - len(piece)
        waiting = waiting[at:]
