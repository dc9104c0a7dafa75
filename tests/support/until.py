"""Waiting for what happens in another process or thread, which can give no signal."""

import asyncio
from collections.abc import Callable

_LONGEST_S = 15


async def until(holds: Callable[[], bool]) -> None:
    """Returns when `holds()` does; a test that waits longer than any machine needs fails."""
    async with asyncio.timeout(_LONGEST_S):
        while not holds():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)
