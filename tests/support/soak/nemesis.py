"""What strikes a system by a schedule, and mends what it has broken."""

import asyncio
import contextlib
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import asyncpg

from tests.support.soak.ground import DRAIN_S, Ground
from tests.support.soak.schedule import Strike, Struck

Fault = Callable[[Ground, Strike], AbstractContextManager[None]]


@dataclass(slots=True)
class Nemesis:
    """Strikes on threads of its own, one a strike."""

    ground: Ground
    strikes: Sequence[Strike]
    say: Callable[[str], None]
    done: list[Struck] = field(default_factory=list)
    _interrupted: threading.Event = field(default_factory=threading.Event)

    def rage(self) -> None:
        """Returns when all strikes were made, and mended; mends at once when it is interrupted."""
        began, at_work = time.monotonic(), list[threading.Thread]()
        try:
            for strike in self.strikes:
                time.sleep(max(0.0, began + strike.at_s - time.monotonic()))
                at_work.append(threading.Thread(target=self._strike, args=[strike], name=strike.kind, daemon=True))
                at_work[-1].start()
            for thread in at_work:
                thread.join()
        finally:
            self._interrupted.set()
            for thread in at_work:
                thread.join()

    def _strike(self, strike: Strike) -> None:
        began, fault = time.time(), ""
        self.say(f"{strike.at_s:6.1f} s  {strike.kind}: {strike.target} {strike.how} for {strike.lasts_s} s")
        try:
            with FAULTS[strike.kind](self.ground, strike):
                self._interrupted.wait(strike.lasts_s)
        except (OSError, AssertionError, subprocess.SubprocessError, asyncpg.PostgresError, TimeoutError) as error:
            fault = repr(error)
        self.done.append(Struck(strike, began, time.time(), fault))


def _worker(strike: Strike) -> str:
    """The worker whose engine or link is struck."""
    return strike.target.partition("'")[0]


@contextlib.contextmanager
def _killed(ground: Ground, strike: Strike) -> Iterator[None]:
    with ground.struck(strike.target):
        ground.part(strike.target).kill()
        yield


@contextlib.contextmanager
def _all_killed(ground: Ground, _: Strike) -> Iterator[None]:
    with ground.struck(*ground.controllers):
        for name in ground.controllers:
            ground.part(name).kill()
        yield


@contextlib.contextmanager
def _frozen(ground: Ground, strike: Strike) -> Iterator[None]:
    with ground.struck(strike.target):
        ground.part(strike.target).signal(signal.SIGSTOP)
        yield


@contextlib.contextmanager
def _drained(ground: Ground, strike: Strike) -> Iterator[None]:
    with ground.struck(strike.target):
        drain(ground, strike.target)
        yield


def drain(ground: Ground, name: str) -> None:
    """Ask the process to end, and wait until it has.

    Errors: TimeoutError when it does not, after it was killed; AssertionError when it did not end well.
    """
    part = ground.part(name)
    assert part.process is not None
    part.signal(signal.SIGTERM)
    try:
        code = part.process.wait(DRAIN_S)
    except subprocess.TimeoutExpired:
        part.kill()
        raise TimeoutError(f"{name} did not end within {DRAIN_S:.0f} s of SIGTERM") from None
    assert code == 0, f"{name} was asked to end, and did with {code}"


@contextlib.contextmanager
def _failpoint(ground: Ground, strike: Strike) -> Iterator[None]:
    """What it kills is started, what it stops is thawed; what it hangs an operator restarts."""
    wish = ground.wish(strike.target)
    with ground.struck(strike.target):
        fresh = wish.with_suffix(".new")
        fresh.write_text(strike.how)
        fresh.rename(wish)
        yield
        wish.unlink(missing_ok=True)
        if ":hang" in strike.how:
            ground.part(strike.target).kill()


@contextlib.contextmanager
def _deaf(ground: Ground, strike: Strike) -> Iterator[None]:
    part = ground.part(strike.target)
    environment = part.environment
    try:
        with ground.struck(strike.target):
            part.kill()
            part.environment = {**environment, "PUPLOAD_NOTIFICATIONS": "false"}
        yield
    finally:
        part.environment = environment
        with ground.struck(strike.target):
            part.kill()


@contextlib.contextmanager
def _engine_killed(ground: Ground, strike: Strike) -> Iterator[None]:
    engine = ground.engines[_worker(strike)]
    engine.kill()
    try:
        yield
    finally:
        engine.start()


@contextlib.contextmanager
def _engine_stopped(ground: Ground, strike: Strike) -> Iterator[None]:
    engine = ground.engines[_worker(strike)]
    engine.signal(signal.SIGTERM)
    try:
        engine.wait()
        yield
    finally:
        engine.start()


@contextlib.contextmanager
def _engine_frozen(ground: Ground, strike: Strike) -> Iterator[None]:
    engine = ground.engines[_worker(strike)]
    engine.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        engine.signal(signal.SIGCONT)


def _cut(controllers: bool, store: bool) -> Fault:
    @contextlib.contextmanager
    def cut(ground: Ground, strike: Strike) -> Iterator[None]:
        link = ground.links[_worker(strike)]
        ports = ground.controller_ports if controllers else []
        try:
            link.cut([*ports, *([ground.store_front.address[1]] if store else [])], strike.how)
            yield
        finally:
            link.mend()

    return cut


@contextlib.contextmanager
def _lossy(ground: Ground, strike: Strike) -> Iterator[None]:
    link = ground.links[_worker(strike)]
    try:
        link.lose(strike.how)
        yield
    finally:
        link.mend()


@contextlib.contextmanager
def _slow(ground: Ground, strike: Strike) -> Iterator[None]:
    link = ground.links[_worker(strike)]
    try:
        link.slow(strike.how)
        yield
    finally:
        link.mend()


@contextlib.contextmanager
def _database_crashed(ground: Ground, _: Strike) -> Iterator[None]:
    asyncio.run(ground.postgres.restart("immediate"))
    yield


@contextlib.contextmanager
def _database_restarted(ground: Ground, _: Strike) -> Iterator[None]:
    asyncio.run(ground.postgres.restart("fast"))
    yield


@contextlib.contextmanager
def _sessions_ended(ground: Ground, _: Strike) -> Iterator[None]:
    asyncio.run(ground.postgres.end_sessions())
    yield


@contextlib.contextmanager
def _rows_locked(ground: Ground, strike: Strike) -> Iterator[None]:
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(ground.dsn))
        try:
            runner.run(connection.execute(f"BEGIN; LOCK TABLE {strike.how} IN EXCLUSIVE MODE"))
            yield
        finally:
            connection.terminate()


@contextlib.contextmanager
def _store_spoiled(ground: Ground, strike: Strike) -> Iterator[None]:
    front = ground.store_front
    match strike.kind:
        case "store failing":
            front.failing = float(strike.how)
        case "store slow":
            front.delay_s = 0.5
        case _:
            front.cutting = True
    try:
        yield
    finally:
        front.mend()


@contextlib.contextmanager
def _store_killed(ground: Ground, _: Strike) -> Iterator[None]:
    ground.store.kill()
    try:
        yield
    finally:
        ground.store.start()


FAULTS: dict[str, Fault] = {
    "worker killed": _killed,
    "worker frozen within its lease": _frozen,
    "worker frozen beyond its lease": _frozen,
    "worker drained": _drained,
    "failpoint of a worker": _failpoint,
    "engine killed": _engine_killed,
    "engine stopped": _engine_stopped,
    "engine frozen": _engine_frozen,
    "worker cut from its controllers": _cut(controllers=True, store=False),
    "worker cut from the store": _cut(controllers=False, store=True),
    "worker cut from all": _cut(controllers=True, store=True),
    "packets lost": _lossy,
    "slow link": _slow,
    "controller killed": _killed,
    "controller frozen": _frozen,
    "controller drained": _drained,
    "controller without notifications": _deaf,
    "failpoint of a controller": _failpoint,
    "all controllers killed": _all_killed,
    "database crashed": _database_crashed,
    "database restarted": _database_restarted,
    "database sessions ended": _sessions_ended,
    "rows locked": _rows_locked,
    "store failing": _store_spoiled,
    "store slow": _store_spoiled,
    "store cutting": _store_spoiled,
    "store killed": _store_killed,
}
