"""What the database calls out, for those who wait for it. Hints only: whoever waits also looks from time to time."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import asyncpg

from pupload.queue import CHANNEL as QUEUE_CHANNEL
from pupload.queue import CHORE_CHANNEL

QUEUE = "queue"
CHORES = f"{CHORE_CHANNEL}:"
_RUNS = "pupload_run"
_WORKERS = "pupload_worker"
_WEBHOOKS = "pupload_webhooks"
WEBHOOKS = f"{_WEBHOOKS}:"
_PROBE_S = 5.0
_RECONNECT_S = 1.0
_QUIET_POLL_S = 5.0
_BLIND_POLL_S = 0.25

_BROKEN = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

_LOG = logging.getLogger(__name__)


def run_topic(run_id: str) -> str:
    """Something was recorded for this run."""
    return f"{_RUNS}:{run_id}"


def worker_topic(worker_id: str) -> str:
    """There is news for this worker."""
    return f"{_WORKERS}:{worker_id}"


class Signals:
    """One LISTEN connection for all who wait in this process.

    `silent` is told when it has fallen silent: others will have too, and who waits on them notices much later.
    """

    def __init__(self, dsn: str, *, enabled: bool, silent: Callable[[], Awaitable[None]]) -> None:
        self._dsn = dsn
        self._silent = silent
        self._enabled = enabled
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._connected = False

    @contextmanager
    def listen(self, topic: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever the topic is called. Listen first, then look, then wait."""
        heard = asyncio.Event()
        self._waiting.setdefault(topic, set()).add(heard)
        try:
            yield heard
        finally:
            self._waiting[topic].discard(heard)
            if not self._waiting[topic]:
                del self._waiting[topic]

    async def wait(self, heard: asyncio.Event, timeout_s: float) -> None:
        """Return when `heard` was set, or when it is time to look all the same."""
        quiet_s = _QUIET_POLL_S if self._connected else _BLIND_POLL_S
        with suppress(TimeoutError):
            async with asyncio.timeout(min(timeout_s, quiet_s)):
                await heard.wait()
        heard.clear()

    def call(self, topic: str) -> None:
        """Wake who listens to the topic in this process."""
        for heard in self._waiting.get(topic, ()):
            heard.set()

    async def run(self) -> None:
        """Keep the LISTEN connection, for ever. A dead peer is noticed by a probe: the driver alone would not."""
        while self._enabled:
            try:
                await self._listen()
            except _BROKEN as error:
                _LOG.warning("notifications interrupted, polling meanwhile: %s", str(error) or "no answer")
                if isinstance(error, TimeoutError):
                    await self._silent()
            self._connected = False
            await asyncio.sleep(_RECONNECT_S)

    async def _listen(self) -> None:
        connection = await asyncpg.connect(self._dsn, timeout=5, server_settings={"application_name": "pupload-listen"})
        ended = asyncio.Event()
        connection.add_termination_listener(lambda _: ended.set())
        try:
            for channel in (QUEUE_CHANNEL, CHORE_CHANNEL, _RUNS, _WORKERS, _WEBHOOKS):
                await connection.add_listener(channel, self._heard)
            self._connected = True
            self._call_all()
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_PROBE_S):
                        await ended.wait()
                await connection.execute("SELECT 1", timeout=_PROBE_S)
        finally:
            self._connected = False
            with suppress(*_BROKEN):
                await connection.close(timeout=1)

    def _heard(self, _connection: object, _pid: int, channel: str, payload: object) -> None:
        if channel != QUEUE_CHANNEL:
            self.call(f"{channel}:{payload}")
        elif '"insert"' in str(payload):
            self.call(QUEUE)

    def _call_all(self) -> None:
        for topic in list(self._waiting):
            self.call(topic)
