"""Waiting for what happens in another process or thread, which can give no signal."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

Found = TypeVar("Found")
_LONGEST_S = 15
_LONGEST_ASKED_S = 60


async def until(holds: Callable[[], bool]) -> None:
    """Returns when `holds()` does; a test that waits longer than any machine needs fails."""
    async with asyncio.timeout(_LONGEST_S):
        while not holds():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)


async def until_found(ask: Callable[[], Awaitable[Found | None]]) -> Found:
    """What `ask` gives once it is true; for what a server or a database says, of which no signal comes."""
    async with asyncio.timeout(_LONGEST_ASKED_S):
        while not (found := await ask()):  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.02)
    return found
