"""Tiers that no worker can hold, and the room that one has."""

import pytest

from tests.support.shell_steps import a_request, a_source
from tests.support.system import System
from tests.support.visitor import Visitor, statuses

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]


def test_a_tier_that_no_worker_has_waits_and_says_why(visitor: Visitor) -> None:
    visitor.await_workers(1)
    steps = [
        a_source(name, "true", writes={}, Tier=tier) for name, tier in (("huge", "m-4xlarge"), ("seeing", "gn-small"))
    ]
    run = visitor.run(visitor.start(a_request(*steps)))
    assert statuses(run) == {"huge": "READY", "seeing": "READY"}
    assert run["Status"] == "RUNNING"
    assert "memory" in run["NodeState"]["huge"]["PendingReason"]
    assert "gpu" in run["NodeState"]["seeing"]["PendingReason"].lower()


def test_a_tier_that_no_worker_has_is_refused_at_once_where_the_operator_says_so(strict_system: System) -> None:
    with Visitor(strict_system.url) as visitor:
        error = visitor.submit(a_request(a_source("huge", "true", writes={}, Tier="m-4xlarge")), status=400)["error"]
        assert error["Code"] == "UNSERVABLE"
        assert "m-4xlarge" in error["Details"][0]["Message"]
        assert visitor.get("/api/v1/runs?flow=shell&status=RUNNING")["Runs"] == []


def test_an_unknown_tier_is_refused(visitor: Visitor) -> None:
    error = visitor.submit(a_request(a_source("odd", "true", writes={}, Tier="c-gigantic")), status=400)["error"]
    assert [each["Code"] for each in error["Details"]] == ["NODE_004"]


def test_a_node_may_ask_for_another_tier_than_its_def(visitor: Visitor) -> None:
    own = {"Tier": "tiny", "MaxAttempts": 1, "Timeout": "1m"}
    run = visitor.fail(a_request(a_source("own", "dd if=/dev/zero of=/dev/null bs=200M count=1", writes={}, node=own)))
    assert run["Error"]["Code"] == "NODE_OOM"
    assert run["NodeState"]["own"]["MaxAttempts"] == 1


def test_nodes_beyond_the_room_of_the_worker_wait_for_it(visitor: Visitor) -> None:
    [worker] = visitor.get("/api/v1/workers")["Workers"]
    room = int(worker["Capacity"]["Cpu"])
    run_id = visitor.start(a_request(*(a_source(f"n{i}", "sleep 60", writes={}) for i in range(room + 2))))
    full = visitor.until(run_id, lambda run: list(statuses(run).values()).count("RUNNING") == room)
    queued = [state for state in full["NodeState"].values() if state["Status"] == "READY"]
    assert len(queued) == 2
    assert all(state["PendingReason"] for state in queued)
    visitor.cancel(run_id)
    assert visitor.ended(run_id)["Status"] == "STOPPED"
