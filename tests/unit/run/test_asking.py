"""A node that asks the client: nothing is held, nothing is charged, and it goes on as the try that it was."""

import pytest

from pupload.flow.plan import Reason
from pupload.run.commands import RecordType
from pupload.run.state import NodeStatus, RunStatus, status_reason, tries
from tests.support.runs import a_started_story, a_story, dispatched

pytestmark = pytest.mark.unit


def test_a_node_that_asks_waits_and_its_run_says_for_what() -> None:
    story = a_started_story("n: in -> out")
    story.claim("n")
    step = story.ask("n")
    node = story.node("n")
    assert (node.status, node.rounds, node.asked, node.exit_code) == (NodeStatus.WAITING, 1, 1, 85)
    assert (story.status(), status_reason(story.run)) == (RunStatus.WAITING, "tool_calls")
    assert (dispatched(step), step.artifacts) == ([], ())
    (record,) = step.records
    assert (record.type, record.node) == (RecordType.TOOL_CALLS_REQUIRED, "n")
    assert record.data == {"Attempt": 1, "Round": 1, "ToolCalls": [{"ID": "1", "Name": "look"}]}


def test_an_answer_queues_the_next_attempt_which_is_the_same_try() -> None:
    story = a_started_story("n: in -> out", max_attempts=1)
    for number in (1, 2, 3):
        story.claim("n")
        story.ask("n")
        assert dispatched(story.answer("n")) == [("n", number + 1)]
    story.claim("n")
    node = story.node("n")
    assert (node.attempt, node.charged, tries(node.attempt, node.rounds, node.asked)) == (4, 0, 1)
    story.succeed("n")
    assert story.status() is RunStatus.COMPLETE


def test_a_failure_after_an_answer_is_the_next_try() -> None:
    story = a_started_story("n: in -> out")
    story.claim("n")
    story.ask("n")
    story.answer("n")
    story.claim("n")
    story.fail("n", Reason.EXIT)
    story.claim("n")
    node = story.node("n")
    assert (node.charged, tries(node.attempt, node.rounds, node.asked)) == (1, 2)


def test_a_second_answer_and_one_to_an_older_round_are_stale() -> None:
    story = a_started_story("n: in -> out")
    story.claim("n")
    story.ask("n")
    assert story.answer("n", 0).stale
    story.answer("n")
    assert story.answer("n").stale
    story.claim("n")
    story.ask("n")
    assert story.answer("n", 1).stale
    assert not story.answer("n", 2).stale


def test_other_branches_go_on_while_a_node_waits() -> None:
    story = a_started_story("n: in -> out", "other: in -> more", "last: out, more -> end")
    story.claim("n")
    story.ask("n")
    assert story.status() is RunStatus.RUNNING
    story.complete("other")
    assert (story.status(), status_reason(story.run)) == (RunStatus.WAITING, "tool_calls")
    story.answer("n")
    story.complete("n", "last")
    assert story.status() is RunStatus.COMPLETE


def test_a_run_that_waits_for_both_says_tools_until_they_are_answered() -> None:
    story = a_story("n: in -> out", "other: late -> more")
    story.create("in")
    story.claim("n")
    story.ask("n")
    assert status_reason(story.run) == "tool_calls"
    assert RecordType.WAITING_UPLOADS not in story.record_types
    story.answer("n")
    story.complete("n")
    assert status_reason(story.run) == "uploads"
    assert story.record_types[-1] is RecordType.WAITING_UPLOADS


@pytest.mark.parametrize("end", ["cancel", "time_out"])
def test_an_early_end_stops_a_node_that_waits_and_no_answer_comes_through(end: str) -> None:
    story = a_started_story("n: in -> out")
    story.claim("n")
    story.ask("n")
    getattr(story, end)()
    assert story.node("n").status is NodeStatus.STOPPED
    assert story.run.finished_at is not None
    assert story.answer("n").stale


def test_a_question_in_a_run_that_is_ending_stops_its_node() -> None:
    story = a_started_story("n: in -> out")
    story.claim("n")
    story.cancel()
    step = story.ask("n")
    assert story.node("n").status is NodeStatus.STOPPED
    assert (story.node("n").rounds, story.status()) == (0, RunStatus.STOPPED)
    assert RecordType.TOOL_CALLS_REQUIRED not in [record.type for record in step.records]
