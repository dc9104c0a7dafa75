"""The worker's grip on one attempt: told from outside to let go, asked from inside whether to go on."""

import asyncio
from collections.abc import Coroutine
from enum import StrEnum
from typing import Any, TypeVar

from pupload.flow.plan import Reason
from pupload.worker.failure import Stopped

T = TypeVar("T")


class Letting(StrEnum):
    """Why an attempt is let go."""

    STOPPED = "stopped"
    LOST = "lost"
    RELEASED = "released"


class Hold:
    """Whether an attempt may go on. The first word counts, but losing the lease overrides all."""

    def __init__(self) -> None:
        self._told = asyncio.Event()
        self.why: Letting | None = None
        self.reason = Reason.CANCELLED

    def stop(self, reason: Reason) -> None:
        """End the attempt by the controller's order, and report it."""
        self._tell(Letting.STOPPED, reason)

    def release(self) -> None:
        """Give the attempt back untried: this worker ends."""
        self._tell(Letting.RELEASED)

    def lose(self) -> None:
        """The attempt is somebody else's now: end it and report nothing."""
        self.why = Letting.LOST
        self._told.set()

    def _tell(self, why: Letting, reason: Reason = Reason.CANCELLED) -> None:
        if self.why is None:
            self.why, self.reason = why, reason
            self._told.set()

    async def told(self) -> None:
        """Return once the attempt is to end."""
        await self._told.wait()

    async def unless_told(self, step: Coroutine[Any, Any, T] | asyncio.Future[T]) -> T:
        """The result of `step`, which is cancelled when the attempt is to end.

        Errors: Stopped in that case; what `step` raises.
        """
        work = asyncio.ensure_future(step)
        told = asyncio.ensure_future(self._told.wait())
        try:
            await asyncio.wait({work, told}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            raise Stopped
        finally:
            told.cancel()
            if not work.done():
                work.cancel()
                await asyncio.wait({work})

    async def unless_stuck(self, steps: Coroutine[Any, Any, T], patience_s: float) -> T:
        """The result of `steps`, some of which must not be cut short; they are, `patience_s` after the word to end.

        Errors: Stopped in that case; what `steps` raise.
        """
        work = asyncio.ensure_future(steps)
        impatient = asyncio.ensure_future(self._told_since(patience_s))
        try:
            await asyncio.wait({work, impatient}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            raise Stopped
        finally:
            impatient.cancel()
            if not work.done():
                work.cancel()
                await asyncio.wait({work})

    async def _told_since(self, seconds: float) -> None:
        await self._told.wait()
        await asyncio.sleep(seconds)
