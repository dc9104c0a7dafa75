"""PURE: which faults strike whom, when and for how long, all of it by one seed."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pupload.failpoints import POINTS

REST_S = 6.0
"""What has been broken is left alone for so long once it is mended."""

_FIRST_OF_A_WORKER = "worker.greeted"
PAUSES_S = (5.0, 15.0)
"""Between two strikes."""

_ACTIONS = ("kill", "hang", "raise", "stop", "sleep(3)")


@dataclass(frozen=True, slots=True)
class Cast:
    """Who there is to be struck."""

    workers: Sequence[str]
    controllers: Sequence[str]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault. `strikes` says what is taken: a worker, its engine or its link, a controller, or one of a kind.

    Units: `lasts_s` from shortest to longest. `how` are ways to do it, one of which is chosen.
    """

    strikes: str
    lasts_s: tuple[float, float]
    how: Sequence[str] = ("",)


KINDS: Mapping[str, Kind] = {
    "worker killed": Kind("worker", (0, 8)),
    "worker frozen within its lease": Kind("worker", (1, 5)),
    "worker frozen beyond its lease": Kind("worker", (15, 25)),
    "worker drained": Kind("worker", (0, 5)),
    "failpoint of a worker": Kind("worker", (8, 20), _ACTIONS),
    "engine killed": Kind("engine", (1, 6)),
    "engine stopped": Kind("engine", (1, 6)),
    "engine frozen": Kind("engine", (3, 25)),
    "worker cut from its controllers": Kind("link", (3, 25), ("drop", "reset")),
    "worker cut from the store": Kind("link", (3, 25), ("drop", "reset")),
    "worker cut from all": Kind("link", (3, 25), ("drop", "reset")),
    "packets lost": Kind("link", (8, 20), ("0.1", "0.3")),
    "slow link": Kind("link", (8, 20), ("1mbit", "256kbit")),
    "controller killed": Kind("controller", (0, 8)),
    "controller frozen": Kind("controller", (2, 20)),
    "controller drained": Kind("controller", (0, 5)),
    "controller without notifications": Kind("controller", (15, 30)),
    "failpoint of a controller": Kind("controller", (8, 20), _ACTIONS),
    "all controllers killed": Kind("controllers", (1, 6)),
    "database crashed": Kind("database", (0, 0)),
    "database restarted": Kind("database", (0, 0)),
    "database sessions ended": Kind("database", (0, 0)),
    "rows locked": Kind("database", (1, 9), ("runs", "run_nodes", "attempts", "events")),
    "store failing": Kind("store", (3, 15), ("0.3", "1.0")),
    "store slow": Kind("store", (3, 15)),
    "store cutting": Kind("store", (3, 15)),
    "store killed": Kind("store", (1, 6)),
}


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault. Units: seconds; `at_s` from the beginning."""

    at_s: float
    kind: str
    target: str
    lasts_s: float
    how: str = ""

    @property
    def ends_s(self) -> float:
        """When it is mended."""
        return self.at_s + self.lasts_s


@dataclass(frozen=True, slots=True)
class Struck:
    """A strike as it was done. Units: `began`, `ended` in seconds since the epoch. `fault` is the nemesis's own."""

    strike: Strike
    began: float
    ended: float
    fault: str = ""


def schedule(seed: int, seconds: float, cast: Cast, pauses_s: tuple[float, float] = PAUSES_S) -> list[Strike]:
    """The strikes of so many seconds, in order; nothing is struck again before it has had its rest.

    Every kind comes once before any comes twice, as far as what it takes is whole.
    """
    stage, deck, strikes = _Stage(random.Random(seed), cast), list[str](), list[Strike]()
    at_s = stage.chance.uniform(*pauses_s)
    while at_s < seconds:
        deck = deck or stage.chance.sample(sorted(KINDS), len(KINDS))
        for name in list(deck):
            strike = stage.strike(at_s, name, KINDS[name])
            if strike is not None:
                deck.remove(name)
                strikes.append(strike)
                break
        at_s += stage.chance.uniform(*pauses_s)
    return strikes


@dataclass(slots=True)
class _Stage:
    """Who is being struck, and until when."""

    chance: random.Random
    cast: Cast
    busy_until: dict[str, float] = field(default_factory=dict)

    def strike(self, at_s: float, name: str, kind: Kind) -> Strike | None:
        """A strike, which occupies its target from now on; None where all of them are busy."""
        free = [each for each in _targets(kind, self.cast) if self._is_free(each, at_s)]
        if not free:
            return None
        target, lasts_s = self.chance.choice(free), round(self.chance.uniform(*kind.lasts_s), 1)
        how = self.chance.choice(list(kind.how))
        if name.startswith("failpoint"):
            how = f"{self.chance.choice(_points(of_workers=kind.strikes == 'worker'))}:{how}"
        self.busy_until |= dict.fromkeys(_parts(target, self.cast), at_s + lasts_s + REST_S)
        return Strike(at_s, name, target, lasts_s, how)

    def _is_free(self, target: str, at_s: float) -> bool:
        return all(self.busy_until.get(part, 0) <= at_s for part in _parts(target, self.cast))


def _targets(kind: Kind, cast: Cast) -> list[str]:
    match kind.strikes:
        case "worker":
            return list(cast.workers)
        case "engine" | "link":
            return [f"{worker}'s {kind.strikes}" for worker in cast.workers]
        case "controller":
            return list(cast.controllers)
        case one_of_a_kind:
            return [one_of_a_kind]


def _parts(target: str, cast: Cast) -> Sequence[str]:
    return cast.controllers if target == "controllers" else (target,)


def _points(*, of_workers: bool) -> list[str]:
    """The places of a worker, or those of a controller; the table has these first."""
    names = list(POINTS)
    first = names.index(_FIRST_OF_A_WORKER)
    return names[first:] if of_workers else names[:first]
