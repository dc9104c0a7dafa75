"""One event loop in a thread of its own, on which blocking callers have the async client work for them."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

_END_S = 5.0


class Portal:
    """The way to the loop. Its thread begins with the first call, and ends with `close` or with the program."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` returns or raises. Interrupted (by Ctrl-C, say), it is cancelled there before this returns."""
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._running())
        try:
            return future.result()
        except BaseException:
            if not future.done():
                future.cancel()
            raise

    def iterate(self, source: AsyncIterator[T]) -> Iterator[T]:
        """The items of `source`, each asked for when it is wanted; left early, `source` is closed."""
        try:
            while True:
                try:
                    yield self.call(_next_of(source))
                except StopAsyncIteration:
                    return
        finally:
            self.call(_closed(source))

    def close(self) -> None:
        """Returns when the thread has ended. A portal that is used again begins a new one."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is not None and thread is not None and self._pid == os.getpid():
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_END_S)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            # A forked child has the loop but not the thread that runs it.
            if self._loop is None or self._pid != os.getpid():
                self._loop, self._pid = asyncio.new_event_loop(), os.getpid()
                self._thread = threading.Thread(target=_run, args=(self._loop,), name="pupload-client", daemon=True)
                self._thread.start()
            return self._loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        for left in asyncio.all_tasks(loop):
            left.cancel()
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


async def _next_of(source: AsyncIterator[T]) -> T:
    return await anext(source)


async def _closed(source: AsyncIterator[Any]) -> None:
    """Close what is a generator; other iterators hold nothing."""
    close = getattr(source, "aclose", None)
    if close is not None:
        await close()
