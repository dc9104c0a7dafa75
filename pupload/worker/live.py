"""The log of a running attempt on its way to those who watch it."""

import asyncio
import contextlib
import logging
import sys

from pupload.containers.logs import Log, LogLine
from pupload.errors import ControllerUnavailable, LostLease, PuploadError
from pupload.protocol import AttemptRef, Line, Lines
from pupload.worker.control import Control, pauses
from pupload.worker.hold import Hold

BATCH_S = 0.1
BATCH_LINES = 200
BATCH_BYTES = 512 * 1024
LAST_POST_S = 2.0

log = logging.getLogger(__name__)


def as_line(line: LogLine) -> Line:
    """The line as it goes over the wire."""
    return Line(at=line.at, stream=line.stream, text=line.text)


class LiveLog:
    """Posts lines in small batches while the attempt runs; what is left when it ends goes with its finish."""

    def __init__(self, control: Control, ref: AttemptRef, hold: Hold) -> None:
        self._control = control
        self._ref = ref
        self._hold = hold
        self._news = asyncio.Event()
        self._posting = asyncio.Lock()
        self._unsent: list[LogLine] = []
        self._posted = 0
        self._unsure = False
        """A post of the unsent lines was begun, and nobody knows whether it arrived."""
        self._loop = asyncio.get_running_loop()
        self._posts: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Say from any thread that the log has something new."""
        # The loop is gone when the worker ends while the engine's thread still reads.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._news.set)

    def start(self, notes: Log) -> None:
        """Begin to post what `notes` takes in."""
        self._posts = asyncio.create_task(self._post_all(notes))

    async def stop(self) -> None:
        """End the posts; one under way may finish."""
        if self._posts is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_POST_S), self._posting:
                pass
        self._posts.cancel()
        await asyncio.wait({self._posts})

    def unsent(self, notes: Log) -> tuple[list[LogLine], int | None]:
        """Every line that was not posted for certain; and the number of the first, where some may have been."""
        lines, _ = notes.take(sys.maxsize, sys.maxsize)
        left, self._unsent = self._unsent + lines + notes.tail(), []
        return left, self._posted if self._unsure else None

    async def _post_all(self, notes: Log) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            await asyncio.sleep(BATCH_S)
            try:
                await self._post_waiting(notes)
            except LostLease:
                self._hold.lose()
                return
            except PuploadError:
                # The lines stay, and come with the finish.
                log.exception("the controller refuses log lines of %s", self._ref.run_id)
                return

    async def _post_waiting(self, notes: Log) -> None:
        while True:
            self._unsent, progress = notes.take(BATCH_LINES, BATCH_BYTES)
            if not self._unsent and progress is None:
                return
            told = [as_line(line) for line in self._unsent]
            lines = Lines(ref=self._ref, first=self._posted, lines=told, progress=progress)
            async for _ in pauses():
                try:
                    async with self._posting:
                        self._unsure = True
                        await self._control.lines(lines)
                        self._posted, self._unsent, self._unsure = self._posted + len(told), [], False
                    break
                except ControllerUnavailable:
                    continue
