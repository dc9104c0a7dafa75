"""A system where nothing tells of anything: looking alone keeps everything right."""

from collections.abc import Iterator

import pytest

from tests.support.shell_steps import a_chain, a_request, a_source
from tests.support.system import System
from tests.support.visitor import Visitor, statuses

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]


@pytest.fixture
def deaf(strict_system: System) -> Iterator[Visitor]:
    """Somebody who talks to the system without notifications."""
    with Visitor(strict_system.url) as visitor:
        yield visitor
        visitor.tidy()
    assert strict_system.leftovers() == []


def test_an_upload_moves_a_chain_to_its_end(deaf: Visitor) -> None:
    run = deaf.complete(a_chain(3), e0=b"abc")
    assert deaf.artifact(run["ID"], "e3") == b"abc"


def test_a_stream_tells_all_as_it_happens(deaf: Visitor) -> None:
    run_id = deaf.submit(a_chain(2))["ID"]
    with deaf.stream(run_id) as frames:
        first = next(frames)
        deaf.ask("PUT", f"/api/v1/runs/{run_id}/inputs/e0", status=204, data=b"abc")
        live = [first, *frames]
    assert live == deaf.events(run_id)


def test_a_running_node_is_cancelled(deaf: Visitor) -> None:
    run_id = deaf.start(a_request(a_source("slow", "sleep 60", writes={})))
    deaf.until(run_id, lambda run: statuses(run) == {"slow": "RUNNING"})
    deaf.cancel(run_id)
    assert deaf.ended(run_id)["Status"] == "STOPPED"


def test_a_failed_attempt_is_followed_by_another(deaf: Visitor) -> None:
    late = a_source("late", '[ "$PUP_ATTEMPT" = 2 ] || exit 1', writes={}, Retry={"Delay": "10ms"})
    assert deaf.complete(a_request(late))["NodeState"]["late"]["Attempt"] == 2
