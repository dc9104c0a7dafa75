"""Keys that a blocking source tells, as an async iterator: one thread, ended with the iterator."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Protocol

from pupload.errors import PuploadError


class Source(Protocol):
    """Where hints come from: MinIO's notifications, or a folder."""

    def written(self) -> Iterator[str]:
        """Keys as they are written, for ever; runs in a thread of its own.

        Errors: any of ours, when the source breaks.
        """
        ...

    def end(self) -> None:
        """Makes `written` return soon; called once, from another thread."""
        ...


async def hints(name: str, source: Source) -> AsyncGenerator[str, None]:
    """What `source` tells, until it breaks or nobody listens any more."""
    found: asyncio.Queue[str | PuploadError] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def tell(what: str | PuploadError) -> None:
        with contextlib.suppress(RuntimeError):  # the loop may be closed before the thread learns of the end
            loop.call_soon_threadsafe(found.put_nowait, what)

    threading.Thread(target=_listen, args=(source, tell), name=f"watch-{name}", daemon=True).start()
    try:
        while True:
            what = await found.get()
            if isinstance(what, PuploadError):
                raise what
            yield what
    finally:
        source.end()


def _listen(source: Source, tell: Callable[[str | PuploadError], None]) -> None:
    try:
        for key in source.written():
            tell(key)
    except PuploadError as error:
        tell(error)
