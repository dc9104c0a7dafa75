"""A small system that may be broken at any of its failpoints, and somebody who keeps its processes up meanwhile.

What dies is started again, what is frozen is thawed once its leases are over; before either, nothing is armed any more.
"""

import asyncio
import itertools
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import docker

from pupload.failpoints import VARIABLE
from pupload.stores.base import StoreAddress
from pupload.stores.s3 import S3Store
from tests.support.checker import violations_of
from tests.support.facts import Surveyed
from tests.support.fleet import Fleet, Part, a_fleet
from tests.support.history import History
from tests.support.visitor import Visitor

LEASE_S = 2.5
FROZEN_S = 3.5
SETTLE_S = 45.0
_TEND_S = 0.05
_SETTINGS = {
    "PUPLOAD_RECONCILE_S": "0.3",
    "PUPLOAD_BEAT_S": "0.4",
    "PUPLOAD_FENCE_S": "1.5",
    "PUPLOAD_LEASE_S": str(LEASE_S),
    "PUPLOAD_WEBHOOK_DELAY_S": "0.2",
    "PUPLOAD_URL_ALLOW": '["127.0.0.2"]',
    "PUPLOAD_DATABASE_POOL": "6",
    "PUPLOAD_CPU": "1",
    "PUPLOAD_CPU_OVERCOMMIT": "1",
    "PUPLOAD_MEMORY": "1gb",
    "PUPLOAD_DISK": "100gb",
    "PUPLOAD_JANITOR_S": "0.5",
    "PUPLOAD_GRACE_S": "0.5",
    "PUPLOAD_LET_GO_S": "2",
    "PUPLOAD_TRANSFER_TIMEOUT_S": "4",
    "PUPLOAD_PIN_IMAGES": "false",
}
_AT_WORK = re.compile(r" listening on http| serves Capacity\(")
_numbers = itertools.count(1)

_TIME_PASSES = """
UPDATE webhooks SET next_at = now() WHERE state = 'pending';
UPDATE upload_sessions SET touched_at = touched_at - interval '2 minutes' WHERE state = 'completing';
UPDATE runs SET finished_at = finished_at - interval '3 minutes' WHERE finished_at IS NOT NULL AND swept_at IS NULL;
UPDATE intakes SET created_at = created_at - interval '1 day', doomed_at = doomed_at - interval '1 day';
"""
"""What waits for a claim or a grace that is minutes long has waited."""


@dataclass(slots=True)
class Lane:
    """A controller `one` with a worker `left`, over a database and a bucket of their own."""

    fleet: Fleet
    dsn: str
    wish: Path
    memory: dict[str, str] = field(default_factory=dict)
    """What tests of one lane keep for one another, as that a flow is published."""
    _armed: tuple[str, int] = ("", 0)
    _over: threading.Event = field(default_factory=threading.Event)
    _frozen: dict[str, float] = field(default_factory=dict)
    _kept: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        """Where the controller listens."""
        return self.fleet.urls["one"]

    def arm(self, point: str, action: str) -> None:
        """The place strikes when it is reached next."""
        self._armed = (point, self.struck(point))
        fresh = self.wish.with_suffix(".new")
        fresh.write_text(f"{point}:{action}")
        fresh.rename(self.wish)

    def disarm(self) -> None:
        """Nothing strikes any more."""
        self.wish.unlink(missing_ok=True)

    def struck(self, point: str) -> int:
        """How often the place has struck so far."""
        return len(re.findall(rf"failpoint {re.escape(point)}: ", self.fleet.log))

    def _disarm_if_struck(self) -> None:
        point, before = self._armed
        if self.struck(point) > before:
            self.disarm()

    def restart(self, name: str) -> None:
        """As an operator would whose patience is over; returns when the process is at work again."""
        part = self.fleet.parts[name]
        with self._kept:
            self.disarm()
            part.kill()
            before = len(_AT_WORK.findall(part.log))
            part.start()
        with Visitor(self.url) as visitor:
            visitor.eventually(lambda: len(_AT_WORK.findall(part.log)) > before)

    def keep_up(self) -> None:
        """Until the lane is closed: what has died is started, what is frozen is thawed in time."""
        while not self._over.wait(_TEND_S):
            with self._kept:
                for name, part in self.fleet.parts.items():
                    self._tend(name, part)

    def _tend(self, name: str, part: Part) -> None:
        if part.process is None:
            return
        if part.process.poll() is not None:
            self._disarm_if_struck()
            part.start()
        elif not _is_frozen(part.process.pid):
            self._frozen.pop(name, None)
        elif time.monotonic() - self._frozen.setdefault(name, time.monotonic()) > FROZEN_S:
            self._disarm_if_struck()
            part.signal(signal.SIGCONT)

    def close(self) -> None:
        """Nobody keeps it up any more."""
        self.disarm()
        self._over.set()

    def let_time_pass(self) -> None:
        """What waits for something that is minutes away need not."""
        asyncio.run(_execute(self.dsn, _TIME_PASSES))

    def violations(self, history: History) -> list[str]:
        """What does not hold, once all has had its time."""
        deadline = time.monotonic() + SETTLE_S
        while True:
            self.let_time_pass()
            found = asyncio.run(self._violations(history))
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(0.2)

    async def _violations(self, history: History) -> list[str]:
        store, engine = S3Store(self.fleet.store), _Engine(version="auto")
        place = Surveyed(
            dsn=self.dsn,
            stores={"default": store},
            workers=[self.fleet.mark("left")],
            engines=[engine],
            work_dirs=[self.fleet.place / "left" / "work"],
            logs=[part.log_path for part in self.fleet.parts.values()],
            secrets=[self.fleet.store.secret_key, self.fleet.parts["left"].environment["PUPLOAD_WORKER_TOKEN"]],
            lease_s=LEASE_S,
        )
        try:
            return await violations_of(place, history)
        finally:
            engine.close()
            await store.close()


class _Engine(docker.APIClient):
    """Looks for no proxy: pytest changes the environment meanwhile, on another thread than a lane's."""

    trust_env = property(lambda _: False, lambda _, __: None)


def _is_frozen(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


async def _execute(dsn: str, script: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(script)
    finally:
        await connection.close()


def _new_database(server: str) -> str:
    name = f"lane_{next(_numbers)}"
    asyncio.run(_execute(server, f"CREATE DATABASE {name}"))
    return urlunsplit(urlsplit(server)._replace(path=f"/{name}"))


@contextmanager
def a_lane(place: Path, server: str, bucket: StoreAddress) -> Iterator[Lane]:
    """A lane that runs for the block, on a new database of the server."""
    dsn, wish = _new_database(server), place / "failpoints"
    settings = _SETTINGS | {VARIABLE: f"@{wish}"}
    with ExitStack() as stack:
        fleet = stack.enter_context(a_fleet(place, dsn, bucket, bucket.endpoint, settings))
        lane = Lane(fleet, dsn, wish)
        fleet.add_controller("one")
        with Visitor(lane.url) as visitor:
            visitor.eventually(lambda: _is_ready(visitor))
            fleet.add_worker("left", "one")
            visitor.await_workers(1)
        keeper = threading.Thread(target=lane.keep_up, daemon=True)
        keeper.start()
        stack.callback(keeper.join)
        stack.callback(lane.close)
        yield lane


def _is_ready(visitor: Visitor) -> bool:
    try:
        return visitor.http.get(f"{visitor.url}/readyz", timeout=5).ok
    except OSError:
        return False
