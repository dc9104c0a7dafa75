"""SIGINT and SIGTERM for programs that run until told to stop: the first asks, the second insists."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def told_to_stop() -> Iterator[asyncio.Event]:
    """An event that the first signal sets; the second cancels the running coroutine, so that it only lets go."""
    loop, main = asyncio.get_running_loop(), asyncio.current_task()
    assert main is not None
    stop = asyncio.Event()

    def heard() -> None:
        if stop.is_set():
            main.cancel()
        stop.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, heard)
    try:
        yield stop
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
