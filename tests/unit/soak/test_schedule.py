"""Which faults strike whom and when."""

import itertools
from collections import Counter, defaultdict

import pytest

from tests.support.soak.nemesis import FAULTS
from tests.support.soak.schedule import KINDS, REST_S, Cast, Strike, schedule

pytestmark = pytest.mark.unit

CAST = Cast(workers=("w1", "w2", "w3"), controllers=("c1", "c2"))
HOUR_S = 3600.0


def _busy(strikes: list[Strike]) -> dict[str, list[Strike]]:
    busy = defaultdict[str, list[Strike]](list)
    for strike in strikes:
        for part in CAST.controllers if strike.target == "controllers" else (strike.target,):
            busy[part].append(strike)
    return busy


def test_one_seed_makes_one_schedule() -> None:
    assert schedule(7, HOUR_S, CAST) == schedule(7, HOUR_S, CAST)
    assert schedule(7, HOUR_S, CAST) != schedule(8, HOUR_S, CAST)


def test_a_longer_soak_begins_as_a_shorter_one_does() -> None:
    short, long = schedule(7, 600, CAST), schedule(7, HOUR_S, CAST)
    assert long[: len(short)] == short


def test_faults_come_every_five_to_fifteen_seconds() -> None:
    strikes = schedule(1, HOUR_S, CAST)
    pauses = [later.at_s - earlier.at_s for earlier, later in itertools.pairwise(strikes)]
    assert all(5 <= pause <= 15 for pause in pauses)
    assert strikes[-1].at_s <= HOUR_S


@pytest.mark.parametrize("seed", range(10))
def test_what_is_struck_is_whole_and_has_had_its_rest(seed: int) -> None:
    for strikes in _busy(schedule(seed, HOUR_S, CAST)).values():
        for earlier, later in itertools.pairwise(strikes):
            assert later.at_s >= earlier.ends_s + REST_S


@pytest.mark.parametrize("seed", range(10))
def test_every_kind_comes_within_ten_minutes(seed: int) -> None:
    assert {strike.kind for strike in schedule(seed, 600, CAST)} == set(KINDS)


def test_everybody_is_struck() -> None:
    struck = Counter(strike.target for strike in schedule(3, HOUR_S, CAST))
    whole = {"w1", "w1's engine", "w1's link", "w3's link", "c1", "c2", "controllers", "database", "store"}
    assert whole <= struck.keys()


def test_places_of_workers_strike_workers_and_those_of_controllers_controllers() -> None:
    strikes = [strike for strike in schedule(5, 4 * HOUR_S, CAST) if strike.kind.startswith("failpoint")]
    by = {kind: {each.how.partition(":")[0] for each in strikes if each.target[0] == kind} for kind in "wc"}
    assert "claim.heard" in by["w"]
    assert "claim.committed" in by["c"]
    assert not by["w"] & by["c"]


def test_every_kind_can_be_done_and_nothing_else() -> None:
    assert FAULTS.keys() == KINDS.keys()
