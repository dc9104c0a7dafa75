"""The oldest attempt goes first, to whoever has room for it, one after the other."""

from pupload.controller.picking import Room, allot
from pupload.tiers import TIERS, Capacity

NANO, LARGE = TIERS["c-nano"], TIERS["m-large"]
ROOMY = Capacity(cpu=1000.0, memory_bytes=2**50, disk_bytes=2**50)
SMALL = Capacity(NANO.cpu, NANO.memory_bytes, NANO.disk_bytes)


def places(waiting: list[str], *rooms: Room) -> list[tuple[str, int]]:
    """Who gets what."""
    return [(tier.name, place) for tier, place in allot([TIERS[name] for name in waiting], rooms)]


def test_attempts_go_round() -> None:
    given = places(["c-nano"] * 5, Room(ROOMY, 10), Room(ROOMY, 10))
    assert [place for _, place in given] == [0, 1, 0, 1, 0]


def test_nobody_gets_more_than_it_asked_for() -> None:
    given = places(["c-nano"] * 5, Room(ROOMY, 1), Room(ROOMY, 2))
    assert [place for _, place in given] == [0, 1, 1]


def test_nobody_gets_what_does_not_fit() -> None:
    assert places(["m-large", "c-nano", "c-nano"], Room(SMALL, 10)) == [("c-nano", 0)]
    assert places(["m-large", "c-nano"], Room(SMALL, 10), Room(ROOMY, 10)) == [("m-large", 1), ("c-nano", 0)]
