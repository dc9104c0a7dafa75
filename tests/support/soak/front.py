"""A proxy that passes connections on to whoever takes them, and spoils them as it is told.

It has a thread and an event loop of its own, so that whoever blocks does not hold it up.
"""

import asyncio
import contextlib
import itertools
import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

_ANSWER = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_METHODS = (b"GET ", b"PUT ", b"POST ", b"HEAD ", b"DELETE ")
_CONNECT_S = 5.0
_PIECE = 65536

Address = tuple[str, int]


@dataclass(slots=True)
class Front:
    """Listens at `address`; each connection goes to the next of `behind` that takes it."""

    address: Address
    behind: Sequence[Address]
    failing: float = 0.0
    """The share of requests that are answered with 503 and never passed on."""
    delay_s: float = 0.0
    """How late every piece of an answer is."""
    cutting: bool = False
    """Connections are cut after a random number of bytes."""
    _chance: random.Random = field(default_factory=lambda: random.Random(7))
    _turns: Iterator[int] = field(default_factory=itertools.count)

    @property
    def url(self) -> str:
        """Where it listens."""
        return "http://{}:{}".format(*self.address)

    def mend(self) -> None:
        """Everything passes as it is."""
        self.failing, self.delay_s, self.cutting = 0.0, 0.0, False

    async def serve(self, ready: threading.Event, over: asyncio.Event) -> None:
        """Pass on until it is over."""
        server = await asyncio.start_server(self._serve, *self.address)
        ready.set()
        await over.wait()
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back: asyncio.StreamWriter | None = None
        # Streams of Python 3.11 make noise about a connection whose task was cancelled, as ours are in the end.
        with contextlib.suppress(OSError, TimeoutError, asyncio.CancelledError):
            there, back = await self._connected()
            await asyncio.gather(self._ask(reader, back, writer), self._answer(there, writer))
        for each in (writer, back):
            if each is not None:
                each.transport.abort() if self.cutting else each.close()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        turn = next(self._turns)
        for place in range(len(self.behind)):
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_CONNECT_S):
                    return await asyncio.open_connection(*self.behind[(turn + place) % len(self.behind)])
        raise ConnectionRefusedError

    async def _ask(
        self, client: asyncio.StreamReader, server: asyncio.StreamWriter, answers: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await client.read(_PIECE):
                if self.failing and data.startswith(_METHODS) and self._chance.random() < self.failing:
                    answers.write(_ANSWER)
                    await answers.drain()
                    answers.close()
                    break
                server.write(self._kept(data, answers))
                await server.drain()
        server.close()

    async def _answer(self, server: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await server.read(_PIECE):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                client.write(self._kept(data, client))
                await client.drain()
        client.close()

    def _kept(self, data: bytes, client: asyncio.StreamWriter) -> bytes:
        """What passes of a piece; where something does not, neither does anything after it."""
        if not self.cutting or self._chance.random() > 0.3:
            return data
        client.transport.abort()
        return data[: self._chance.randrange(len(data))]


@contextlib.contextmanager
def a_front(address: Address, behind: Sequence[Address]) -> Iterator[Front]:
    """A front that passes as long as the block."""
    front, ready = Front(address, behind), threading.Event()
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    def serve() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(front.serve(ready, over))
        for left in asyncio.all_tasks(loop):
            left.cancel()
        loop.run_until_complete(asyncio.sleep(0.1))
        loop.close()

    thread = threading.Thread(target=serve, name="front", daemon=True)
    thread.start()
    if not ready.wait(30):
        raise RuntimeError(f"nothing listens at {address}")
    try:
        yield front
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(30)
