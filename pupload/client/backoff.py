"""How long to wait before a call is made again."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Sleep = Callable[[float], Awaitable[None]]
"""Waits so many seconds."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential, with full jitter. Units: seconds; `tries` counts the first call too."""

    tries: int = 5
    first_s: float = 0.2
    longest_s: float = 5.0
    sleep: Sleep = asyncio.sleep
    jitter: Callable[[], float] = random.random

    async def wait(self, failures: int, at_least_s: float = 0.0) -> None:
        """Wait after the `failures`th failure in a row, and not less than what the server asked for."""
        ceiling_s = min(self.first_s * 2.0 ** min(failures - 1, 30), self.longest_s)
        await self.sleep(max(ceiling_s * self.jitter(), at_least_s))
