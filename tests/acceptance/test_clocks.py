"""Clocks that are wrong, or set while runs go on: leases and deadlines are the database's, whoever believes what."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.acceptance.conftest import EVERYWHERE, a_place
from tests.acceptance.test_fleet import await_controller
from tests.support.clocks import WrongClock, a_clock
from tests.support.docker_images import ensure_busybox
from tests.support.fleet import Fleet, a_fleet
from tests.support.postgres import a_postgres
from tests.support.recorded import assert_recorded_once
from tests.support.s3_servers import an_rclone
from tests.support.shell_steps import a_request, a_step
from tests.support.visitor import Json, Visitor, statuses

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

TEN_MINUTES = 600
"""Far beyond a lease: who compared a time of the database with one of its own would find every lease over, or none."""
SLOW_COPY = 'echo begun; sleep 1.5; cat "$INPUT_IN" > "$OUTPUT_OUT"; echo over'


@dataclass(frozen=True, slots=True)
class Confused:
    """Two controllers and two workers, each by a clock of its own; database, store and engine have the right one."""

    fleet: Fleet
    clocks: dict[str, WrongClock]


@pytest.fixture(scope="module")
def confused() -> Iterator[Confused]:
    ensure_busybox()
    with a_postgres() as dsn, an_rclone() as store, a_place() as place:
        off = {"ahead": TEN_MINUTES, "behind": -TEN_MINUTES, "early": TEN_MINUTES, "late": -TEN_MINUTES}
        clocks = {name: a_clock(place, name, seconds) for name, seconds in off.items()}
        bucket = store.new_bucket()
        with a_fleet(place, dsn, bucket, bucket.endpoint, EVERYWHERE) as fleet:
            for name in ("ahead", "behind"):
                await_controller(fleet.add_controller(name, **clocks[name].environment))
            fleet.add_worker("early", "behind", within=(), **clocks["early"].environment)
            fleet.add_worker("late", "ahead", within=(), **clocks["late"].environment)
            with Visitor(fleet.urls["ahead"]) as visitor:
                visitor.await_workers(2)
            yield Confused(fleet, clocks)


@pytest.fixture(params=["ahead", "behind"])
def visitor(request: pytest.FixtureRequest, confused: Confused) -> Iterator[Visitor]:
    """Somebody who talks to the controller whose clock is so."""
    with Visitor(confused.fleet.urls[request.param]) as visitor:
        yield visitor
        visitor.tidy()


def begun(visitor: Visitor) -> str:
    """A run of two steps side by side, with the input that it awaited."""
    steps = [a_step(name, SLOW_COPY, writes={"out": name}, MaxAttempts=1) for name in ("one", "two")]
    return visitor.start(a_request(*steps), **{"in": b"abc"})


def gone_well(visitor: Visitor, run_id: str) -> Json:
    """The run, which ended well at its first try, and cost nothing more."""
    run = visitor.ended(run_id)
    assert run["Status"] == "COMPLETE", run
    assert {state["Attempt"] for state in run["NodeState"].values()} == {1}
    assert [visitor.artifact(run_id, edge) for edge in ("one", "two")] == [b"abc", b"abc"]
    assert_recorded_once(visitor, run, given="in")
    return run


def test_runs_go_through_whatever_clocks_say(visitor: Visitor) -> None:
    gone_well(visitor, begun(visitor))


def test_a_clock_that_is_wrong_is_told(visitor: Visitor, confused: Confused) -> None:
    (warning,) = visitor.get("/readyz")["Warnings"]
    (name,) = (name for name, url in confused.fleet.urls.items() if url == visitor.url)
    way = "ahead of" if name == "ahead" else "behind"
    for told in (warning, confused.fleet.parts[name].log):
        found = re.search(rf"clock is (\d+) s {way} the database's", told)
        assert found, told
        assert abs(int(found[1]) - TEN_MINUTES) < 30, told


def test_runs_go_through_while_every_clock_is_set_by_twenty_minutes(confused: Confused) -> None:
    with Visitor(confused.fleet.urls["ahead"]) as visitor:
        run_id = begun(visitor)
        visitor.until(run_id, lambda run: "RUNNING" in statuses(run).values())
        for name, clock in confused.clocks.items():
            clock.set(-TEN_MINUTES if name in {"ahead", "early"} else TEN_MINUTES)
        gone_well(visitor, run_id)
