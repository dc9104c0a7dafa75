"""What one caller may ask for, as far as it is counted in memory."""

import pytest

from pupload.config import ControllerConfig
from pupload.controller.limits import Limits, Rate, neighbourhood
from pupload.errors import TooMany, Unauthorized


class Clock:
    """Time that a test moves on."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def limits(**settings: object) -> Limits:
    return Limits(ControllerConfig(**settings))  # type: ignore[arg-type]


def test_a_burst_goes_through_at_once_and_then_only_the_rate() -> None:
    clock = Clock()
    rate = Rate(clock)
    assert [rate.take("a", 10, 5) for _ in range(5)] == [0.0] * 5
    wait_s = rate.take("a", 10, 5)
    assert wait_s == pytest.approx(0.1)
    clock.now += wait_s
    assert rate.take("a", 10, 5) == 0.0
    assert rate.take("a", 10, 5) > 0
    clock.now += 100
    assert [rate.take("a", 10, 5) > 0 for _ in range(6)] == [False] * 5 + [True]


def test_whoever_comes_when_told_is_let_in_however_often_the_others_try() -> None:
    clock = Clock()
    rate = Rate(clock)
    for step in range(1000):
        clock.now = step * 0.01
        wait_s = rate.take("greedy", 1, 1)
        if wait_s:
            clock.now += wait_s
            assert rate.take("greedy", 1, 1) == 0.0


def test_what_is_kept_of_names_does_not_grow_with_them() -> None:
    clock = Clock()
    rate = Rate(clock)
    for n in range(50_000):
        clock.now += 0.01
        rate.take(f"name {n}", 10, 5)
    assert len(rate._whole_at) < 20_000


def test_one_caller_has_so_many_requests_under_way_and_others_have_theirs() -> None:
    these = limits(requests_at_once=2)
    with these.admitted("a", ""), these.admitted("a", ""), these.admitted("b", ""):
        with pytest.raises(TooMany) as refused, these.admitted("a", ""):
            raise AssertionError
        assert (refused.value.code, refused.value.retry_after_s) == ("TOO_MANY_AT_ONCE", 1.0)
    with these.admitted("a", ""), these.admitted("a", ""):
        pass
    assert not these._under_way


def test_a_request_that_is_refused_for_its_rate_is_not_under_way() -> None:
    these = limits(requests_per_s=0.01, requests_burst=1)
    with these.admitted("a", ""):
        pass
    with pytest.raises(TooMany) as refused, these.admitted("a", ""):
        raise AssertionError
    assert refused.value.code == "RATE_LIMITED"
    assert 90 < refused.value.retry_after_s <= 100
    assert not these._under_way


def test_0_is_no_limit() -> None:
    these = limits(requests_per_s=0, requests_at_once=0, wrong_keys_per_min=0)
    for _ in range(5000):
        with these.admitted("a", ""):
            pass
        with pytest.raises(Unauthorized), these.counting_wrong_keys("192.0.2.1"):
            raise Unauthorized("who?")


def test_an_account_may_have_limits_of_its_own() -> None:
    these = limits(active_runs=5, stored_bytes=100, account_limits={"acc": {"active_runs": 7, "stored_bytes": 0}})
    assert (these.of("acc").active_runs, these.of("other").active_runs) == (7, 5)
    assert (these.of("acc").requests_at_once, these.of("acc").stored_bytes) == (500, 0)
    assert these.least_storage == 100


def test_wrong_keys_from_one_address_are_told_to_wait_and_right_ones_are_not() -> None:
    these = limits(wrong_keys_per_min=3)
    for _ in range(3):
        with pytest.raises(Unauthorized), these.counting_wrong_keys("192.0.2.1"):
            raise Unauthorized("who?")
    with pytest.raises(TooMany) as refused, these.counting_wrong_keys("192.0.2.1"):
        raise Unauthorized("who?")
    assert refused.value.code == "TOO_MANY_WRONG_KEYS"
    assert 1 <= refused.value.retry_after_s <= 20
    with these.counting_wrong_keys("192.0.2.1"):
        pass
    with pytest.raises(Unauthorized), these.counting_wrong_keys("192.0.2.2"):
        raise Unauthorized("who?")


async def test_looks_for_keys_go_one_by_one_where_wrong_ones_come_from() -> None:
    these = limits(wrong_keys_per_min=1)
    async with these.turn("2001:db8::1"), these.turn("2001:db8::2"):
        pass
    with pytest.raises(Unauthorized), these.counting_wrong_keys("2001:db8::1"):
        raise Unauthorized("who?")
    async with these.turn("2001:db8::2") as _:
        assert sum(turn.locked() for turn in these._turns) == 1
    assert neighbourhood("::ffff:192.0.2.1") == "192.0.2.1"


def test_what_the_database_said_of_an_account_is_believed_for_a_moment() -> None:
    these = limits()
    these.note_full("a", TooMany("full", code="TOO_MANY_RUNS", retry_after_s=30.0))
    with pytest.raises(TooMany) as refused:
        these.require_room("a")
    assert (refused.value.code, refused.value.retry_after_s) == ("TOO_MANY_RUNS", 30.0)
    these.require_room("b")
    these._full["a"] = (0.0, refused.value)
    these.require_room("a")
