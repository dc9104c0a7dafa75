"""How a run ends: by its last node, by a failure, by a cancel, by its deadline."""

from dataclasses import replace

import pytest

from pupload.flow.plan import NodeID, Reason
from pupload.run.commands import TERMINAL_RECORDS, RecordType, StopAttempt
from pupload.run.state import End, Failure, NodeStatus, RunStatus, status_reason
from tests.support.runs import Story, a_started_story, a_story, at, chain, dispatched, fan, stopped


def a_busy_story(*, fail_fast: bool = True) -> Story:
    """A fan of four: one part is complete, one runs, one is to be retried, one is ready; the join is idle."""
    story = a_started_story(*fan(4), fail_fast=fail_fast)
    story.complete("split", "p0")
    story.claim("p1")
    story.claim("p2")
    story.fail("p2")
    return story


def test_cancel_stops_what_has_begun_and_leaves_the_rest_untouched() -> None:
    story = a_busy_story()
    step = story.cancel()
    assert story.statuses() == {
        "split": NodeStatus.COMPLETE,
        "p0": NodeStatus.COMPLETE,
        "p1": NodeStatus.RUNNING,
        "p2": NodeStatus.STOPPED,
        "p3": NodeStatus.STOPPED,
        "join": NodeStatus.IDLE,
    }
    assert step.commands == (StopAttempt(NodeID("p1"), 1, Reason.CANCELLED),)
    assert [(node.id, node.finished_at) for node in step.changed] == [("p2", at(8)), ("p3", at(8))]
    assert (story.status(), status_reason(story.run)) == (RunStatus.RUNNING, "stopping")
    assert step.run.finished_at is None
    assert step.records == ()


def test_a_cancelled_run_is_over_when_its_last_attempt_has_answered() -> None:
    story = a_busy_story()
    story.cancel()
    step = story.fail("p1", Reason.CANCELLED)
    assert story.node("p1").status is NodeStatus.STOPPED
    assert (story.status(), status_reason(story.run)) == (RunStatus.STOPPED, "cancelled")
    assert story.run.finished_at == at(9)
    assert [record.type for record in step.records] == [RecordType.RUN_CANCELLED]
    assert step.records[0].data == {"Status": "STOPPED", "StatusReason": "cancelled", "Error": {}}


def test_a_success_after_the_cancel_does_not_count() -> None:
    story = a_started_story(*chain(1))
    story.claim("n0")
    story.cancel()
    step = story.succeed("n0")
    node = story.node("n0")
    assert (node.status, node.exit_code, node.finished_at) == (NodeStatus.STOPPED, 0, at(3))
    assert (step.artifacts, step.commands) == ((), ())
    assert story.status() is RunStatus.STOPPED
    assert [record.type for record in step.records] == [RecordType.RUN_CANCELLED]


@pytest.mark.parametrize("answer", ["fail", "lose", "release"])
def test_whatever_a_stopped_attempt_answers_its_node_is_stopped_and_charged_nothing(answer: str) -> None:
    story = a_started_story(*chain(1))
    story.claim("n0")
    story.cancel()
    match answer:
        case "fail":
            step = story.fail("n0")
        case "lose":
            step = story.fail("n0", Reason.LOST)
        case _:
            step = story.release("n0")
    node = story.node("n0")
    assert (node.status, node.charged, node.restarts, node.error) == (NodeStatus.STOPPED, 0, 0, "")
    assert node.finished_at == at(3)
    assert dispatched(step) == []


def test_the_exit_code_of_a_stopped_attempt_is_kept() -> None:
    story = a_started_story(*chain(1))
    story.claim("n0")
    story.cancel()
    story.fail("n0")
    assert story.node("n0").exit_code == 3


def test_cancel_of_a_waiting_run_is_the_end_at_once() -> None:
    story = a_story(*chain(2))
    story.create()
    step = story.cancel()
    assert (story.status(), status_reason(story.run)) == (RunStatus.STOPPED, "cancelled")
    assert story.statuses() == {"n0": NodeStatus.IDLE, "n1": NodeStatus.IDLE}
    assert [record.type for record in step.records] == [RecordType.RUN_CANCELLED]
    assert story.cancel().stale


def test_an_upload_after_the_cancel_starts_nothing() -> None:
    story = a_story("one: a -> x", "two: b -> y")
    story.create("a")
    story.claim("one")
    story.cancel()
    assert story.upload("b").stale
    story.succeed("one")
    assert story.statuses() == {"one": NodeStatus.STOPPED, "two": NodeStatus.IDLE}


def test_a_timeout_ends_the_run_as_an_error_that_says_so() -> None:
    story = a_started_story(*chain(2))
    story.claim("n0")
    step = story.time_out()
    assert stopped(step) == [("n0", 1)]
    story.fail("n0", Reason.CANCELLED)
    assert (story.status(), status_reason(story.run)) == (RunStatus.ERROR, "timeout")
    assert story.run.end is End.TIMEOUT
    assert story.records[-1].type is RecordType.RUN_FAILED
    assert story.records[-1].data == {
        "Status": "ERROR",
        "StatusReason": "timeout",
        "Error": {"Code": "RUN_TIMEOUT", "Message": "the run did not end within its timeout", "NodeID": ""},
    }


def test_the_first_early_end_wins() -> None:
    story = a_started_story(*chain(1))
    story.claim("n0")
    story.cancel()
    assert story.time_out().stale
    story.succeed("n0")
    assert story.status() is RunStatus.STOPPED


def test_a_cancel_after_the_deadline_changes_nothing() -> None:
    story = a_started_story(*chain(1))
    story.claim("n0")
    story.time_out()
    assert story.cancel().stale
    story.succeed("n0")
    assert story.status() is RunStatus.ERROR


def test_fail_fast_stops_everything_at_the_first_final_failure() -> None:
    story = a_busy_story()
    step = story.fail("p1", final=True)
    assert story.statuses() == {
        "split": NodeStatus.COMPLETE,
        "p0": NodeStatus.COMPLETE,
        "p1": NodeStatus.ERROR,
        "p2": NodeStatus.STOPPED,
        "p3": NodeStatus.STOPPED,
        "join": NodeStatus.IDLE,
    }
    assert [node.id for node in step.changed] == ["p1", "p2", "p3"]
    assert (story.status(), status_reason(story.run)) == (RunStatus.ERROR, "node_failed")
    assert story.run.failure == Failure("NODE_EXIT", "exit 3", NodeID("p1"))
    assert [record.type for record in step.records] == [RecordType.NODE_FAILED, RecordType.RUN_FAILED]
    assert step.records[0].data == {"Attempt": 1, "Reason": "exit", "Message": "exit 3", "ExitCode": 3}
    assert step.records[1].data == {
        "Status": "ERROR",
        "StatusReason": "node_failed",
        "Error": {"Code": "NODE_EXIT", "Message": "exit 3", "NodeID": "p1"},
    }


def test_fail_fast_waits_for_the_attempts_that_it_stops() -> None:
    story = a_started_story(*fan(3))
    story.complete("split")
    for part in ("p2", "p0", "p1"):
        story.claim(part)
    step = story.fail("p1", final=True)
    assert stopped(step) == [("p0", 1), ("p2", 1)]
    assert (story.status(), status_reason(story.run)) == (RunStatus.RUNNING, "stopping")
    story.succeed("p0")
    assert story.status() is RunStatus.RUNNING
    story.succeed("p2")
    assert story.status() is RunStatus.ERROR
    assert story.counts_of(NodeStatus.STOPPED) == 2


def test_attempts_are_stopped_in_topological_order_however_the_rows_came() -> None:
    story = a_started_story(*fan(3))
    story.complete("split")
    for part in ("p0", "p1", "p2"):
        story.claim(part)
    story.run = replace(story.run, nodes=dict(reversed(list(story.run.nodes.items()))))
    assert stopped(story.cancel()) == [("p0", 1), ("p1", 1), ("p2", 1)]


def test_a_second_failure_while_ending_does_not_replace_the_first() -> None:
    story = a_started_story(*fan(2))
    story.complete("split")
    story.claim("p0")
    story.claim("p1")
    story.fail("p0", final=True, message="the first")
    story.fail("p1", final=True, message="the second")
    assert story.run.failure == Failure("NODE_EXIT", "the first", NodeID("p0"))
    assert story.node("p1").status is NodeStatus.STOPPED


def test_without_fail_fast_independent_branches_finish_and_the_rest_is_skipped() -> None:
    story = a_started_story("one: a -> x", "after: x -> y", "two: b -> z", "last: z -> w", fail_fast=False)
    story.claim("one")
    story.claim("two")
    step = story.fail("one", final=True)
    assert stopped(step) == []
    assert story.node("after").status is NodeStatus.SKIPPED
    assert (story.status(), status_reason(story.run)) == (RunStatus.RUNNING, "")
    story.succeed("two")
    story.complete("last")
    assert story.statuses() == {
        "one": NodeStatus.ERROR,
        "after": NodeStatus.SKIPPED,
        "two": NodeStatus.COMPLETE,
        "last": NodeStatus.COMPLETE,
    }
    assert (story.status(), status_reason(story.run)) == (RunStatus.ERROR, "node_failed")
    assert story.records[-1].type is RecordType.RUN_FAILED
    assert story.run.failure == Failure("NODE_EXIT", "exit 3", NodeID("one"))


def test_without_fail_fast_the_error_of_the_run_is_its_first_failure() -> None:
    story = a_started_story("one: a -> x", "two: b -> z", fail_fast=False)
    story.claim("one")
    story.claim("two")
    story.fail("two", final=True, message="the first")
    story.fail("one", final=True, message="the second")
    assert story.run.failure == Failure("NODE_EXIT", "the first", NodeID("two"))


def test_a_node_that_slept_beyond_its_timeout_makes_the_run_end_for_a_timeout() -> None:
    story = a_started_story(*chain(1), max_attempts=1)
    story.claim("n0")
    story.fail("n0", Reason.TIMEOUT)
    assert (story.status(), status_reason(story.run)) == (RunStatus.ERROR, "timeout")
    assert story.run.failure is not None
    assert story.run.failure.code == "NODE_TIMEOUT"


def test_a_run_whose_every_branch_was_skipped_waits_for_no_upload() -> None:
    story = a_story("one: a -> x", "two: x, b -> y", fail_fast=False)
    story.create("a")
    story.claim("one")
    story.fail("one", final=True)
    assert story.status() is RunStatus.ERROR


def test_a_cancel_after_a_failure_keeps_what_failed() -> None:
    story = a_started_story("one: a -> x", "two: b -> z", fail_fast=False)
    story.claim("one")
    story.fail("one", final=True)
    story.cancel()
    assert (story.status(), status_reason(story.run)) == (RunStatus.STOPPED, "cancelled")
    assert story.run.failure == Failure("NODE_EXIT", "exit 3", NodeID("one"))


def test_a_timeout_after_a_failure_is_why_the_run_ended() -> None:
    story = a_started_story("one: a -> x", "two: b -> z", fail_fast=False)
    story.claim("one")
    story.fail("one", final=True)
    story.time_out()
    assert (story.status(), status_reason(story.run)) == (RunStatus.ERROR, "timeout")


@pytest.mark.parametrize("act", ["cancel", "time out", "fail", "succeed"])
def test_a_run_ends_in_exactly_one_terminal_record(act: str) -> None:
    story = a_started_story(*chain(1))
    story.claim("n0")
    match act:
        case "cancel":
            story.cancel()
            story.release("n0")
        case "time out":
            story.time_out()
            story.release("n0")
        case "fail":
            story.fail("n0", final=True)
        case _:
            story.succeed("n0")
    story.cancel()
    story.time_out()
    story.upload("in")
    assert [kind for kind in story.record_types if kind in TERMINAL_RECORDS] == story.record_types[-1:]
