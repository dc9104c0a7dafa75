"""Cancelling: in every state, twice, and with nothing left behind."""

import pytest

from tests.support.shell_steps import a_request, a_source, a_step
from tests.support.system import System
from tests.support.visitor import Json, Visitor, statuses

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]


def stopped(visitor: Visitor, run_id: str) -> Json:
    """The run after a cancel."""
    visitor.cancel(run_id)
    run = visitor.ended(run_id)
    assert (run["Status"], run["StatusReason"], run["Error"]) == ("STOPPED", "cancelled", {})
    return run


def test_a_running_node_is_stopped_and_its_container_gone(visitor: Visitor, system: System) -> None:
    slow, after = a_source("slow", "sleep 60"), a_step("after", reads={"in": "out"}, writes={"out": "last"})
    run_id = visitor.start(a_request(slow, after))
    visitor.until(run_id, lambda run: bool(system.containers()) and run["NodeState"]["slow"]["Status"] == "RUNNING")
    run = stopped(visitor, run_id)
    assert statuses(run) == {"slow": "STOPPED", "after": "IDLE"}
    assert run["NodeState"]["after"]["StartedAt"] is None
    assert visitor.events(run_id)[-1].event == "run_cancelled"
    assert system.leftovers() == []


def test_a_program_that_will_not_hear_is_killed(visitor: Visitor, system: System) -> None:
    deaf = a_source("deaf", 'trap "" TERM INT; echo deaf; while true; do sleep 1; done', writes={})
    run_id = visitor.start(a_request(deaf))
    visitor.until(run_id, lambda run: bool(run["NodeState"]["deaf"]["Logs"]))
    stopped(visitor, run_id)
    assert system.leftovers() == []


def test_a_program_that_hears_may_tidy_up_and_its_last_words_are_kept(visitor: Visitor) -> None:
    tidy = a_source("tidy", 'trap "echo tidied; exit 0" TERM; echo ready; while true; do sleep 0.1; done', writes={})
    run_id = visitor.start(a_request(tidy))
    visitor.until(run_id, lambda run: bool(run["NodeState"]["tidy"]["Logs"]))
    stopped(visitor, run_id)
    assert [line["message"] for line in visitor.logs(run_id, "tidy")] == ["ready", "tidied"]


def test_a_run_that_waits_for_an_upload_is_stopped(visitor: Visitor) -> None:
    run_id = visitor.submit(a_request())["ID"]
    run = stopped(visitor, run_id)
    assert statuses(run) == {"copy": "IDLE"}
    assert run["WaitingURLs"] == []


def test_a_queued_node_is_stopped(visitor: Visitor) -> None:
    run_id = visitor.start(a_request(a_source("huge", "true", Tier="m-4xlarge", writes={})))
    assert statuses(visitor.run(run_id)) == {"huge": "READY"}
    assert statuses(stopped(visitor, run_id)) == {"huge": "STOPPED"}


def test_a_node_that_waits_for_its_next_attempt_is_stopped(visitor: Visitor) -> None:
    run_id = visitor.start(a_request(a_source("bad", "exit 1", Retry={"Delay": "1h"}, writes={})))
    visitor.until(run_id, lambda run: statuses(run) == {"bad": "RETRYING"})
    assert statuses(stopped(visitor, run_id)) == {"bad": "STOPPED"}


def test_a_second_cancel_changes_nothing(visitor: Visitor) -> None:
    run_id = visitor.submit(a_request())["ID"]
    run = stopped(visitor, run_id)
    assert visitor.cancel(run_id) == run == visitor.run(run_id)


def test_a_cancel_after_the_end_changes_nothing(visitor: Visitor) -> None:
    done = visitor.complete(a_request(), **{"in": b"abc"})
    assert visitor.cancel(done["ID"]) == done
    failed = visitor.fail(a_request(a_source("bad", "exit 1", MaxAttempts=1, writes={})))
    assert visitor.cancel(failed["ID"]) == failed


def test_an_upload_after_a_cancel_starts_nothing(visitor: Visitor) -> None:
    run = visitor.submit(a_request())
    done = stopped(visitor, run["ID"])
    visitor.upload(run, "in", b"abc")
    other = visitor.complete(a_request(), **{"in": b"abc"})
    assert other["Status"] == "COMPLETE"
    assert visitor.run(run["ID"]) == done
