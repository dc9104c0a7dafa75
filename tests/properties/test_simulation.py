"""Whole installations on a virtual clock: every seed keeps every promise, and a broken part is noticed.

More worlds: `SIMULATED_WORLDS=5000 python -m pytest tests/properties/test_simulation.py`.
"""

import os
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from math import inf

import pytest

from pupload.flow.plan import Plan, Reason
from pupload.run.events import Event, NodeFailed
from pupload.run.state import NodeStatus, RunID, RunStatus, status_of
from tests.support.simulation import (
    WHOLE,
    Beginning,
    Controller,
    Database,
    Worker,
    World,
    every_run_is_over,
    every_story_is_sound,
    no_node_lives_twice_for_long,
    nothing_is_left,
    nothing_waits_unseen,
    one_key_is_one_run,
    simulate,
)

WORLDS = int(os.environ.get("SIMULATED_WORLDS", "300"))
BLOCK = 25


@pytest.mark.parametrize("first", range(0, WORLDS, BLOCK))
def test_every_world_keeps_every_promise(first: int) -> None:
    for seed in range(first, min(first + BLOCK, WORLDS)):
        simulate(seed)


def test_the_same_seed_is_the_same_story() -> None:
    first, second = simulate(5), simulate(5)
    assert first.database.scenes == second.database.scenes
    assert first.containers() == second.containers()


def test_the_worlds_see_everything_that_can_happen() -> None:
    worlds = [simulate(seed) for seed in range(1000, 1060)]
    events = [scene.event for world in worlds for scene in world.database.scenes.values()]
    assert {type(event) for event in events} == set(Event.__args__)
    assert {event.reason for event in events if isinstance(event, NodeFailed)} >= {
        *(Reason.EXIT, Reason.OOM, Reason.TIMEOUT, Reason.TRANSFER, Reason.TYPE),
        *(Reason.LOST, Reason.INFRA, Reason.CANCELLED),
    }
    rows = [world.database for world in worlds]
    assert {status_of(run) for row in rows for run in row.runs.values()} == {
        RunStatus.COMPLETE,
        RunStatus.ERROR,
        RunStatus.STOPPED,
    }
    assert {node.status for row in rows for node in row.nodes.values()} == {
        NodeStatus.IDLE,
        NodeStatus.COMPLETE,
        NodeStatus.ERROR,
        NodeStatus.STOPPED,
        NodeStatus.SKIPPED,
    }


class ForgetsExpiredLeases(Controller):
    """Nobody looks for dead workers."""

    def expired_leases(self) -> Iterable[Callable[[], None]]:
        return ()


class ForgetsDeadlines(Controller):
    """A run may wait for ever."""

    def overdue_runs(self) -> Iterable[Callable[[], None]]:
        return ()


class ForgetsLostJobs(Controller):
    """What is not queued is never looked for."""

    def ready_without_job(self) -> Iterable[Callable[[], None]]:
        return ()


class ForgetsSilentUploads(Controller):
    """Only the client's word counts."""

    def new_uploads(self) -> Iterable[Callable[[], None]]:
        return ()


class ForgetsKeys(Controller):
    """Every call makes a run."""

    def create(self, key: str, plan: Plan, beginning: Beginning = WHOLE) -> RunID:
        self.database.keys.pop(key, None)
        return super().create(key, plan, beginning)


class LeasesTooShort(Controller):
    """A lease that ends before the worker's own fence."""

    lease_s = 10.0


class NeverFences(Worker):
    """A worker that goes on without its controller."""

    fence_s = inf


class NeverSweeps(Worker):
    """A worker that leaves the containers of its earlier life alone."""

    def sweep(self) -> None:
        return


class NeverRollsBack(Database):
    """What a dead controller wrote stays."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        yield


@pytest.mark.parametrize(
    ("parts", "notices"),
    [
        ({"controller": ForgetsExpiredLeases}, every_run_is_over),
        ({"controller": ForgetsDeadlines}, every_run_is_over),
        ({"controller": ForgetsLostJobs}, nothing_waits_unseen),
        ({"controller": ForgetsSilentUploads}, nothing_waits_unseen),
        ({"controller": ForgetsKeys}, one_key_is_one_run),
        ({"controller": LeasesTooShort}, no_node_lives_twice_for_long),
        ({"worker": NeverFences}, no_node_lives_twice_for_long),
        ({"worker": NeverSweeps}, nothing_is_left),
        ({"database": NeverRollsBack}, every_story_is_sound),
    ],
    ids=lambda part: next(iter(part.values())).__name__ if isinstance(part, dict) else part.__name__,
)
def test_a_broken_part_is_noticed(parts: dict[str, type], notices: Callable[[World], None]) -> None:
    assert any(notices.__name__ in failed_by(seed, parts) for seed in range(100))


def failed_by(seed: int, parts: dict[str, type]) -> set[str]:
    """The functions in which a world with these parts fails, if it does."""
    try:
        simulate(seed, **parts)
    except AssertionError as fault:
        cause = fault.__cause__ or fault
        return {frame.name for frame in traceback.extract_tb(cause.__traceback__)}
    return set()
