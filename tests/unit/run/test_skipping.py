"""What becomes of a node whose input never comes."""

from pupload.run.state import NodeStatus, RunStatus
from tests.support.runs import Story, a_started_story, dispatched

COMPLETE, READY, SKIPPED, IDLE = NodeStatus.COMPLETE, NodeStatus.READY, NodeStatus.SKIPPED, NodeStatus.IDLE


def after_absent(*lines: str, absent: str = "x") -> Story:
    """The story of these nodes after `first` has succeeded without the absent edge."""
    story = a_started_story(*lines)
    story.claim("first")
    story.succeed("first", absent=[absent])
    return story


def test_a_reader_that_needs_an_absent_output_is_skipped_and_says_why() -> None:
    story = after_absent("first: in -> x?", "second: x -> y")
    node = story.node("second")
    assert (node.status, node.attempt) == (SKIPPED, 0)
    assert node.error == "skipped: nothing came on edge 'x'"
    assert node.finished_at is not None
    assert story.status() is RunStatus.COMPLETE


def test_a_reader_whose_matching_input_is_optional_runs_without_it() -> None:
    story = after_absent("first: in -> x?", "second: x? -> y")
    assert dispatched(story.steps[-1]) == [("second", 1)]


def test_an_optional_input_does_not_save_a_reader_from_a_missing_required_one() -> None:
    story = after_absent("first: in -> x?", "second: x?, x -> y")
    assert story.node("second").status is SKIPPED


def test_a_skip_goes_down_to_everything_that_needs_what_the_skipped_would_have_written() -> None:
    story = after_absent(
        "first: in -> x?, ok", "second: x -> a, b", "third: a -> c", "fourth: b, c -> d", "other: ok -> e"
    )
    assert story.statuses() == {
        "first": COMPLETE,
        "second": SKIPPED,
        "third": SKIPPED,
        "fourth": SKIPPED,
        "other": READY,
    }
    assert [node.id for node in story.steps[-1].changed] == ["first", "second", "third", "fourth", "other"]


def test_a_skip_stops_at_an_optional_input() -> None:
    story = after_absent("first: in -> x?", "second: x -> a", "third: a? -> b", "fourth: b -> c")
    assert story.statuses() == {"first": COMPLETE, "second": SKIPPED, "third": READY, "fourth": IDLE}


def test_a_reader_waits_for_its_other_inputs_after_an_absent_optional_one() -> None:
    story = a_started_story("first: in -> x?", "slow: in -> z", "second: x?, z -> y")
    story.claim("first")
    story.succeed("first", absent=["x"])
    assert story.node("second").status is IDLE
    story.claim("slow")
    assert dispatched(story.succeed("slow")) == [("second", 1)]


def test_two_absent_inputs_resolve_a_reader_of_both() -> None:
    story = a_started_story("first: in -> x?, w?", "second: x?, w? -> y")
    story.claim("first")
    assert dispatched(story.succeed("first", absent=["x", "w"])) == [("second", 1)]


def test_a_failure_skips_what_needs_its_outputs_and_lets_run_what_can_do_without() -> None:
    story = a_started_story("first: in -> x", "needs: x -> a", "may: x? -> b", "join: a?, b -> c", fail_fast=False)
    story.claim("first")
    story.fail("first", final=True)
    assert story.node("needs").status is SKIPPED
    assert story.node("may").status is READY
    story.complete("may", "join")
    assert story.status() is RunStatus.ERROR


def test_an_upload_for_a_skipped_reader_is_kept_and_starts_nothing() -> None:
    story = a_started_story("first: in -> x", "other: in -> z", "second: x, z -> y", fail_fast=False)
    story.claim("first")
    story.fail("first", final=True)
    story.claim("other")
    step = story.succeed("other")
    assert [artifact.edge for artifact in step.artifacts] == ["z"]
    assert dispatched(step) == []
    assert story.node("second").status is SKIPPED
