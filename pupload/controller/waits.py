"""Claims that are held until there is work, and how a worker gets one of its own back before."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class Wait:
    """A claim that is held. `heard` wakes it; once it is `recalled`, it is to be answered as it is."""

    heard: asyncio.Event
    recalled: bool = False


class Waits:
    """All of them, by the instance of the worker that asked."""

    def __init__(self) -> None:
        self._held: defaultdict[str, set[Wait]] = defaultdict(set)

    def __len__(self) -> int:
        return sum(len(held) for held in self._held.values())

    @contextmanager
    def holding(self, instance: str, heard: asyncio.Event) -> Iterator[Wait]:
        """The block holds a claim of that instance."""
        wait = Wait(heard)
        self._held[instance].add(wait)
        try:
            yield wait
        finally:
            self._held[instance].discard(wait)
            if not self._held[instance]:
                del self._held[instance]

    def recall(self, instance: str) -> None:
        """Have all claims answered that are held for that instance."""
        for wait in self._held.get(instance, ()):
            wait.recalled = True
            wait.heard.set()
