"""A client that follows a run's events live, and says what it has seen."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from tests.support.controller import ControllerUnderTest

_PATIENCE_S = 30


class Follower:
    """Everything that one connection brought so far."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self._news = asyncio.Condition()

    @property
    def seqs(self) -> list[int]:
        """The numbers of the events, in the order in which they came."""
        return [event["Seq"] for event in self.events]

    @property
    def types(self) -> list[str]:
        """Their types."""
        return [event["Type"] for event in self.events]

    async def until(self, kind: str) -> None:
        """Returns when an event of this type has come."""
        async with asyncio.timeout(_PATIENCE_S), self._news:
            await self._news.wait_for(lambda: kind in self.types)

    async def read(self, controller: ControllerUnderTest, run_id: str) -> None:
        """Read until the server closes."""
        async with controller.http.get(f"{controller.url}/api/v1/runs/{run_id}/events") as response:
            assert response.status == 200, await response.text()
            async for line in response.content:
                if line.startswith(b"data: "):
                    async with self._news:
                        self.events.append(json.loads(line[6:]))
                        self._news.notify_all()


@asynccontextmanager
async def a_follower(controller: ControllerUnderTest, run_id: str) -> AsyncIterator[Follower]:
    """One who follows the run; at the end of the block the server has closed by itself, after the last event."""
    follower = Follower()
    reading = asyncio.create_task(follower.read(controller, run_id))
    try:
        yield follower
        async with asyncio.timeout(_PATIENCE_S):
            await reading
    finally:
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
    assert follower.seqs == list(range(1, len(follower.seqs) + 1)), "each event once, in order, from the first"
    assert follower.types[-1] in {"run_completed", "run_failed", "run_cancelled"}
