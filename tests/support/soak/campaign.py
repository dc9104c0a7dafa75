"""A soak and a rolling restart from their beginning to their report."""

import asyncio
import os
import platform
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from tests.support.processes import Footprint, growth
from tests.support.s3_servers import free_port
from tests.support.soak.clients import FAILING, Load
from tests.support.soak.deploy import Users, roll
from tests.support.soak.front import a_front
from tests.support.soak.ground import HASTY, SHIPPED, Ground, a_ground, eventually
from tests.support.soak.look import defects, look, raised
from tests.support.soak.nemesis import Nemesis
from tests.support.soak.report import Outcome
from tests.support.soak.schedule import PAUSES_S, Cast, Struck, schedule

CAST = Cast(workers=("w1", "w2", "w3"), controllers=("c1", "c2"))
_CALM_S = 60.0
_SETTLE_S = 420.0
_LOOK_S = 10.0
_CLIENTS = 7
_PAUSE_S = (0.5, 3.0)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for."""

    minutes: float
    seed: int
    calm_s: float = _CALM_S
    pace: float = 1.0
    """How much quicker than usual one strike follows another."""
    logs: Path | None = None
    """Where the logs are kept."""

    def keep(self, ground: Ground) -> None:
        """Copy what all processes have said."""
        if self.logs is not None:
            self.logs.mkdir(parents=True, exist_ok=True)
            for part in ground.fleet.parts.values():
                shutil.copy(part.log_path, self.logs)


def soak(wish: Wish, settings: Mapping[str, str], say: Say) -> Outcome:
    """What came of a load while a nemesis struck, once all was mended and had its time."""
    with a_ground(CAST.workers, CAST.controllers, {**settings, **HASTY}) as ground:
        load = Load(ground, ground.urls, say)
        say(f"load on {ground.urls}")
        load.start(_CLIENTS, wish.seed, _PAUSE_S)
        load.rest(wish.calm_s)
        before = ground.footprints()
        say(f"the nemesis begins, by seed {wish.seed}")
        pauses_s = (PAUSES_S[0] / wish.pace, PAUSES_S[1] / wish.pace)
        nemesis = Nemesis(ground, schedule(wish.seed, wish.minutes * 60, CAST, pauses_s), say)
        nemesis.rage()
        ground.mend()
        outcome = _settled(wish, ground, load, before, nemesis)
        wish.keep(ground)
        return outcome


def rolling(wish: Wish, settings: Mapping[str, str], say: Say) -> Outcome:
    """What came of a load, through the SDK and one address, while all processes were restarted in turn."""
    with ExitStack() as stack:
        ground = stack.enter_context(a_ground(CAST.workers, CAST.controllers, {**settings, **SHIPPED}))
        behind = [(ground.net.address, port) for port in ground.controller_ports]
        front = stack.enter_context(a_front(("127.0.0.1", free_port()), behind))
        users = Users(front.url, ground.key, ground.fleet.place)
        users.start(_CLIENTS, wish.seed, _PAUSE_S)
        time.sleep(wish.calm_s)
        before = ground.footprints()
        struck = roll(ground, wish.minutes * 60, say)
        say("the load comes to its end")
        users.finish()
        load = Load(ground, ground.urls, say, users.history, users.begun, Counter(), users.wrong)
        outcome = _judged(wish, ground, load, before, struck)
        wish.keep(ground)
        return replace(outcome, title=f"Rolling restart of {wish.minutes:g} minutes, seed {wish.seed}")


def _settled(wish: Wish, ground: Ground, load: Load, before: Mapping[str, Footprint], nemesis: Nemesis) -> Outcome:
    """The outcome, once everything has come to its end, or should have."""
    try:
        eventually(lambda: all(map(ground.is_ready, ground.urls)), "a controller is not ready though all is whole")
        eventually(lambda: ground.live_workers() == len(ground.workers), "a worker is not there though all is whole")
    except TimeoutError as error:
        load.wrong.append(str(error))
    load.say("all is whole; the load comes to its end")
    load.finish()
    return _judged(wish, ground, load, before, nemesis.done)


def _judged(
    wish: Wish, ground: Ground, load: Load, before: Mapping[str, Footprint], struck: Sequence[Struck]
) -> Outcome:
    """The outcome of what has come to its end."""
    load.say("looking")
    violations, after = _violations(ground, load), ground.footprints()
    held = {name: (before[name], after[name]) for name in before if name in after}
    rows = asyncio.run(look(ground.dsn, load.history, FAILING))
    logs = [part.log for part in ground.fleet.parts.values()]
    charged = [f"charged to the user: {each}" for each in rows.charged]
    faults = [f"the nemesis itself failed: {each.strike.kind}: {each.fault}" for each in struck if each.fault]
    return Outcome(
        title=f"Soak of {wish.minutes:g} minutes, seed {wish.seed}",
        about=_about(wish, ground),
        struck=struck,
        runs=rows.runs,
        attempts=rows.attempts,
        sorts=dict(sorted(load.begun.items())),
        asked_again=dict(sorted(load.asked_again.items())),
        footprints=held,
        exits=[f"{each.part} ended by itself with {each.code}: {each.last_words}" for each in ground.exits],
        violations=[
            *violations,
            *_grown(held),
            *rows.unheard,
            *rows.failed,
            *charged,
            *load.wrong,
            *defects(logs),
            *faults,
        ],
        raised=raised(logs),
    )


def _violations(ground: Ground, load: Load) -> list[str]:
    """What does not hold once everything had its time: sweeps, janitors, webhooks that are told again."""
    deadline = time.monotonic() + _SETTLE_S
    while True:
        load.hear()
        found = asyncio.run(ground.violations(load.history, {}))
        if not found or time.monotonic() > deadline:
            return found
        load.say(f"{len(found)} do not hold yet, such as: {found[0]}")
        time.sleep(_LOOK_S)


def _grown(held: Mapping[str, tuple[Footprint, Footprint]]) -> list[str]:
    """Who holds more than it did; a process that was started meanwhile stands for the one before it."""
    return [f"I8: {name}: {said}" for name, (was, now) in held.items() for said in growth({0: was}, {0: now})]


def _about(wish: Wish, ground: Ground) -> dict[str, str]:
    return {
        "minutes": f"{wish.minutes:g}, after {wish.calm_s:g} s of calm",
        "seed": str(wish.seed) + ("" if wish.pace == 1 else f", {wish.pace:g} times the pace"),
        "machine": f"{os.cpu_count()} cores, {platform.platform()}",
        "versions": f"Python {platform.python_version()}, Docker {_engine(ground)}",
        "parts": f"{len(ground.workers)} workers, {len(ground.controllers)} controllers",
        "lease": f"{ground.lease_s:g} s",
    }


def _engine(ground: Ground) -> str:
    return next(iter(ground.engines.values())).ask("version", "--format", "{{.Server.Version}}")
