"""Runs that begin where another left off, and runs of which only a part is wanted."""

import pytest

from pupload.errors import Defect
from pupload.flow.plan import NodeID
from pupload.run.commands import RecordType
from pupload.run.events import RunCreated
from pupload.run.scope import scope_of
from pupload.run.state import NodeStatus, RunStatus
from tests.support.invariants import INVARIANTS
from tests.support.runs import DIAMOND, a_story, at, chain, dispatched

COMPLETE, SKIPPED, READY, IDLE = NodeStatus.COMPLETE, NodeStatus.SKIPPED, NodeStatus.READY, NodeStatus.IDLE


def test_a_kept_node_is_complete_without_an_attempt_and_its_reader_starts_at_once() -> None:
    story = a_story(*chain(3))
    step = story.create("e0", kept=["n0"])
    assert story.statuses() == {"n0": COMPLETE, "n1": READY, "n2": IDLE}
    assert dispatched(step) == [("n1", 1)]
    assert (story.node("n0").attempt, story.node("n0").finished_at) == (0, at(0))
    assert [artifact.edge for artifact in step.artifacts] == ["e0"]


def test_the_input_of_a_kept_node_is_awaited_by_nobody() -> None:
    story = a_story(*chain(2))
    story.create("e0", kept=["n0"])
    story.complete("n1")
    assert story.status() is RunStatus.COMPLETE


def test_a_skipped_node_skips_what_hangs_on_it_and_the_rest_completes() -> None:
    story = a_story(*chain(3))
    story.create("in", skipped=["n1"])
    assert story.statuses() == {"n0": READY, "n1": SKIPPED, "n2": SKIPPED}
    assert story.node("n1").error == "skipped: not asked for"
    assert "e1" in story.node("n2").error
    story.complete("n0")
    assert story.status() is RunStatus.COMPLETE


def test_a_reader_that_can_do_without_what_is_skipped_runs() -> None:
    story = a_story("left: in -> a", "right: in -> b", "join: a, b? -> out")
    story.create("in", skipped=["right"])
    story.complete("left", "join")
    assert story.status() is RunStatus.COMPLETE


def test_what_a_kept_node_left_out_never_comes() -> None:
    story = a_story("a: in -> x?, y", "needs: x -> out", "can: x?, y -> more")
    step = story.create("y", kept=["a"])
    assert story.statuses() == {"a": COMPLETE, "needs": SKIPPED, "can": READY}
    assert dispatched(step) == [("can", 1)]


def test_an_input_that_nobody_will_feed_is_done_without_where_that_is_possible() -> None:
    story = a_story("can: in, more? -> out", "needs: more -> extra", "after: extra -> end")
    step = story.create("in", absent=["more"])
    assert story.statuses() == {"can": READY, "needs": SKIPPED, "after": SKIPPED}
    assert dispatched(step) == [("can", 1)]


def test_a_run_whose_only_input_nobody_will_feed_is_over_at_once() -> None:
    story = a_story(*chain(2))
    story.create(absent=["in"])
    assert (story.status(), set(story.statuses().values())) == (RunStatus.COMPLETE, {SKIPPED})


def test_a_run_of_which_nothing_is_left_to_do_is_over_at_once() -> None:
    story = a_story(*chain(2))
    step = story.create("e0", kept=["n0"], skipped=["n1"])
    assert story.status() is RunStatus.COMPLETE
    assert story.run.finished_at == at(0)
    assert [record.type for record in step.records] == [RecordType.RUN_STARTED, RecordType.RUN_COMPLETED]


def test_a_partial_run_waits_for_the_uploads_of_what_runs() -> None:
    story = a_story("a: one -> x", "b: two -> y")
    story.create(skipped=["b"])
    assert story.status() is RunStatus.WAITING
    story.upload("one")
    story.complete("a")
    assert story.status() is RunStatus.COMPLETE


def test_both_branches_of_a_diamond_may_have_been_kept() -> None:
    story = a_story(*DIAMOND)
    step = story.create("c", "d", kept=["left", "right", "top"])
    assert dispatched(step) == [("bottom", 1)]


def test_the_first_record_tells_what_was_kept_and_what_is_skipped() -> None:
    story = a_story(*chain(3))
    story.create("e0", kept=["n0"], skipped=["n2"])
    assert story.records[0].data == {"FlowName": "test-flow", "Kept": {"n0": ["e0"]}, "Skipped": ["n2"]}


def test_the_first_record_of_a_whole_run_tells_no_more_than_its_flow() -> None:
    story = a_story(*chain(3))
    story.create("in")
    assert story.records[0].data == {"FlowName": "test-flow"}


@pytest.mark.parametrize(
    ("present", "kept", "skipped"),
    [(["e0"], [], []), (["e0"], [], ["n0"]), (["e0"], ["n1"], []), ([], ["n0"], ["n0"]), (["e0", "e0"], ["n0"], [])],
    ids=["nobody's", "of a skipped node", "of another node", "kept and skipped", "twice"],
)
def test_a_run_cannot_begin_with_what_no_earlier_run_can_have_left(
    present: list[str], kept: list[str], skipped: list[str]
) -> None:
    with pytest.raises(Defect):
        a_story(*chain(2)).create(*present, kept=kept, skipped=skipped)


@pytest.mark.parametrize("event", ["cancel", "time out", "fail"])
def test_the_end_of_a_partial_run_leaves_what_was_kept_and_skipped_as_it_is(event: str) -> None:
    story = a_story(*chain(4))
    story.create("e0", kept=["n0"], skipped=["n3"])
    story.claim("n1")
    match event:
        case "cancel":
            story.cancel()
        case "time out":
            story.time_out()
        case _:
            story.fail("n1", final=True)
    if story.run.finished_at is None:
        story.release("n1")
    assert (story.node("n0").status, story.node("n3").status) == (COMPLETE, SKIPPED)
    assert story.node("n2").status is IDLE
    for holds in INVARIANTS:
        holds(story)


def test_the_second_creation_changes_nothing_whatever_it_would_keep() -> None:
    story = a_story(*chain(2))
    story.create("in")
    assert story.create("e0", kept=["n0"], skipped=["n1"]).stale


def test_a_partial_beginning_concerns_every_node() -> None:
    plan = a_story(*chain(3)).plan
    event = RunCreated(at(0), kept=frozenset({NodeID("n0")}), skipped=frozenset({NodeID("n2")}))
    assert scope_of(plan, event).nodes == frozenset(plan.nodes)
