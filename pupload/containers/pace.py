"""How often, and how many at once, each registry is asked: names come from flows, and so would a flood."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

AT_ONCE = 3
BURST = 10
_MOST_KEPT = 1000


@dataclass(slots=True)
class _Pace:
    """One registry. `next` is when its turns, evenly spread, would have come to the one after the last."""

    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    next: float = 0.0


class Paces:
    """Turns at registries: `BURST` at once, then `per_minute`."""

    def __init__(self, per_minute: int) -> None:
        self._apart_s = 60.0 / per_minute
        self._paces: dict[str, _Pace] = {}

    @contextlib.asynccontextmanager
    async def turn(self, registry: str, patience_s: float) -> AsyncIterator[bool]:
        """One's turn; False for one who would wait longer than that."""
        now = time.monotonic()
        pace = self._pace(registry, now)
        wait_s = pace.next - now - BURST * self._apart_s
        if wait_s > patience_s:
            yield False
            return
        pace.next = max(pace.next, now) + self._apart_s
        try:
            async with asyncio.timeout(patience_s):
                await asyncio.sleep(max(0.0, wait_s))
                await pace.places.acquire()
        except TimeoutError:
            yield False
            return
        try:
            yield True
        finally:
            pace.places.release()

    def _pace(self, registry: str, now: float) -> _Pace:
        if len(self._paces) >= _MOST_KEPT:
            self._paces = {name: pace for name, pace in self._paces.items() if pace.next > now or pace.places.locked()}
        return self._paces.setdefault(registry, _Pace())
