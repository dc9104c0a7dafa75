"""One event loop in a thread of its own, on which blocking callers have the async client work for them."""

import asyncio
import os
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, Generic, TypeVar

from pupload.client.errors import ServerUnreachable
from pupload.errors import Defect

T = TypeVar("T")

_END_S = 5.0
_LEFT_BEHIND: list["LoopThread"] = []
"""What a forked process has from its parent: letting go of it would disturb the parent's."""


class Portal:
    """The way to the loop. Its thread begins with the first call, and ends with `close`, with the last who holds this,
    or with the program.

    `at_end` is what the loop does last. A portal that is used again begins a new loop; so does one in a forked process.
    """

    def __init__(self, at_end: Callable[[], Awaitable[None]]) -> None:
        self._at_end = at_end
        self._lock = threading.Lock()
        self._thread: LoopThread | None = None

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` returns or raises. Interrupted (by Ctrl-C, say), it has been cancelled there when this raises.

        Errors: ServerUnreachable where the portal is closed meanwhile.
        """
        errand = Errand(work)
        try:
            # Under the lock, so that nothing is begun on a loop that is about to end.
            with self._lock:
                loop = self._running().loop
                loop.call_soon_threadsafe(errand.begin, loop)
        except BaseException:
            work.close()
            raise
        try:
            errand.done.wait()
        except BaseException:
            if not errand.done.is_set():
                loop.call_soon_threadsafe(errand.cancel)
                errand.done.wait(_END_S)
            raise
        return errand.result()

    def iterate(self, source: AsyncIterator[T]) -> Iterator[T]:
        """The items of `source`, each asked for when it is wanted; left early, `source` is closed."""
        with self._lock:
            thread = self._running()
        thread.sources.append(source)
        try:
            while True:
                try:
                    yield self.call(_next_of(source))
                except StopAsyncIteration:
                    return
        finally:
            # A loop that ends closes what is open on it.
            if self._thread is thread and thread.runs:
                thread.sources.remove(source)
                self.call(_closed(source))

    def close(self) -> None:
        """Returns when the thread has ended."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is not None:
                thread.stop()
        if thread is not None:
            thread.join()

    def _running(self) -> "LoopThread":
        if self._thread is not None and not self._thread.runs:
            _LEFT_BEHIND.append(self._thread)
            self._thread = None
        if self._thread is None:
            self._thread = LoopThread(self._at_end)
            # Also called when the program ends.
            weakref.finalize(self, self._thread.end)
        if threading.current_thread() is self._thread.thread:
            raise Defect("this is the client's own thread, which cannot wait for itself: use AsyncClient here")
        return self._thread


class LoopThread:
    """A loop that runs in a thread, until it is told to stop. `sources` are what is being iterated on it."""

    def __init__(self, at_end: Callable[[], Awaitable[None]]) -> None:
        self.loop = asyncio.new_event_loop()
        self.sources: list[AsyncIterator[Any]] = []
        self._pid, self._stopped = os.getpid(), False
        told = (self.loop, self.sources, at_end)
        self.thread = threading.Thread(target=_run, args=told, name="pupload-client", daemon=True)
        self.thread.start()

    @property
    def runs(self) -> bool:
        """False once it was told to stop, and in a process that was forked since: that has no such thread."""
        return self._pid == os.getpid() and not self._stopped

    def end(self) -> None:
        """Stop, and return when that is done."""
        self.stop()
        self.join()

    def stop(self) -> None:
        """Have the loop end. Right when repeated."""
        if self.runs:
            self._stopped = True
            self.loop.call_soon_threadsafe(self.loop.stop)

    def join(self) -> None:
        """Returns when the thread has ended."""
        # The garbage collector may call this anywhere, on the loop's own thread too.
        if self._pid == os.getpid() and self.thread is not threading.current_thread():
            self.thread.join(_END_S)


class Errand(Generic[T]):
    """Work on the loop that a thread waits for."""

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._work = work
        self._task: asyncio.Task[T] | None = None
        self.done = threading.Event()

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """On the loop: the work begins."""
        self._task = loop.create_task(self._work)
        self._task.add_done_callback(lambda _: self.done.set())

    def cancel(self) -> None:
        """On the loop: the work ends."""
        if self._task is not None:
            self._task.cancel()

    def result(self) -> T:
        """What came of the work. Errors: those of the work; ServerUnreachable where it was ended from outside."""
        assert self._task is not None
        if self._task.cancelled():
            raise ServerUnreachable("the client was closed before there was an answer")
        return self._task.result()


def _run(
    loop: asyncio.AbstractEventLoop, sources: list[AsyncIterator[Any]], at_end: Callable[[], Awaitable[None]]
) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        loop.run_until_complete(_end(sources, at_end))
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


async def _end(sources: list[AsyncIterator[Any]], at_end: Callable[[], Awaitable[None]]) -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    # From the outermost generator inwards: the loop by itself would close all at once, in no order.
    for source in sources:
        await _closed(source)
    await at_end()


async def _next_of(source: AsyncIterator[T]) -> T:
    return await anext(source)


async def _closed(source: AsyncIterator[Any]) -> None:
    """Close what is a generator; other iterators hold nothing."""
    close = getattr(source, "aclose", None)
    if close is not None:
        await close()
