"""When a node becomes ready, and in what order."""

import pytest

from pupload.errors import Defect
from pupload.flow.plan import Edge, NodeID
from pupload.run.commands import DispatchNode, RecordType
from pupload.run.events import NodeSucceeded, RunCreated, UploadReceived
from pupload.run.state import NodeStatus, RunID, RunStatus, new_run, status_reason
from pupload.run.transition import transition
from tests.support.runs import (
    DIAMOND,
    Story,
    a_plan,
    a_started_story,
    a_story,
    a_success,
    an_artifact,
    at,
    chain,
    dispatched,
    fan,
)


def test_a_run_without_its_upload_waits_for_it() -> None:
    story = a_story(*chain(2))
    step = story.create()
    assert story.status() is RunStatus.WAITING
    assert status_reason(story.run) == "uploads"
    assert story.run.started_at == at(0)
    assert step.commands == ()
    assert [record.type for record in step.records] == [RecordType.RUN_STARTED, RecordType.WAITING_UPLOADS]
    assert step.records[0].data == {"FlowName": "test-flow"}


def test_an_upload_starts_the_node_that_reads_it() -> None:
    story = a_story(*chain(2))
    story.create()
    step = story.upload("in")
    assert step.commands == (DispatchNode(NodeID("n0"), 1, 0.0),)
    assert step.artifacts == (an_artifact("in"),)
    assert story.statuses() == {"n0": NodeStatus.READY, "n1": NodeStatus.IDLE}
    assert story.status() is RunStatus.RUNNING
    assert status_reason(story.run) == ""
    assert [(record.type, record.node) for record in step.records] == [
        (RecordType.UPLOAD_RECEIVED, None),
        (RecordType.NODE_QUEUED, "n0"),
    ]
    assert step.records[0].data == {"Edge": "in", "Size": 3}
    assert step.records[1].data == {"Attempt": 1}


def test_objects_that_exist_at_creation_start_their_readers_in_the_same_step() -> None:
    story = a_story(*chain(2))
    step = story.create("in")
    assert dispatched(step) == [("n0", 1)]
    assert story.run.present == {"in"}
    assert [record.type for record in step.records] == [
        RecordType.RUN_STARTED,
        RecordType.UPLOAD_RECEIVED,
        RecordType.NODE_QUEUED,
    ]


def test_an_upload_that_came_with_the_creation_is_not_received_again() -> None:
    story = a_story(*chain(2))
    story.create("in")
    assert story.upload("in").stale


def test_a_static_object_is_no_upload() -> None:
    story = Story(new_run(RunID("run_1"), a_plan(*chain(1), static=["in"])))
    step = story.create("in")
    assert dispatched(step) == [("n0", 1)]
    assert step.artifacts == (an_artifact("in"),)
    assert RecordType.UPLOAD_RECEIVED not in story.record_types


def test_a_node_without_inputs_is_ready_at_creation() -> None:
    story = a_story("make: -> x", "take: x -> y")
    assert dispatched(story.create()) == [("make", 1)]


def test_a_node_waits_for_the_last_of_its_uploads() -> None:
    story = a_story("join: a, b, c -> out")
    story.create("b")
    assert dispatched(story.upload("c")) == []
    assert story.status() is RunStatus.WAITING
    assert dispatched(story.upload("a")) == [("join", 1)]


def test_an_optional_upload_is_waited_for_too() -> None:
    story = a_story("n: a, b? -> out")
    story.create("a")
    assert story.node("n").status is NodeStatus.IDLE
    assert dispatched(story.upload("b")) == [("n", 1)]


def test_an_edge_that_is_bound_twice_counts_once() -> None:
    story = a_story("n: a, a?, a -> out")
    assert dispatched(story.create("a")) == [("n", 1)]


def test_a_waiting_run_says_so_once() -> None:
    story = a_story("join: a, b, c -> out")
    story.create()
    story.upload("a")
    story.upload("b")
    assert story.record_types.count(RecordType.WAITING_UPLOADS) == 1


def test_a_run_that_waits_again_says_so_again() -> None:
    story = a_story("first: a -> x", "second: x, b -> out")
    story.create()
    story.upload("a")
    story.complete("first")
    assert story.status() is RunStatus.WAITING
    assert story.record_types.count(RecordType.WAITING_UPLOADS) == 2
    assert story.record_types[-1] is RecordType.WAITING_UPLOADS


def test_one_output_starts_all_its_readers_in_topological_order() -> None:
    story = a_started_story(*fan(5))
    story.claim("split")
    step = story.succeed("split")
    assert dispatched(step) == [(f"p{place}", 1) for place in range(5)]
    assert [node.id for node in step.changed] == ["split", "p0", "p1", "p2", "p3", "p4"]


def test_ready_nodes_start_in_the_order_of_the_plan_whatever_made_them_ready() -> None:
    story = a_story("one: b -> x", "two: -> y", "three: a -> z")
    assert dispatched(story.create("a", "b")) == [("one", 1), ("two", 1), ("three", 1)]


def test_a_join_starts_with_the_last_of_its_parents() -> None:
    story = a_started_story(*DIAMOND)
    story.complete("top", "right")
    assert story.node("bottom").status is NodeStatus.IDLE
    story.claim("left")
    assert dispatched(story.succeed("left")) == [("bottom", 1)]


def test_a_claim_starts_the_clock_and_names_the_worker() -> None:
    story = a_started_story(*chain(1))
    step = story.claim("n0")
    node = story.node("n0")
    assert (node.status, node.attempt, node.worker, node.started_at) == (NodeStatus.RUNNING, 1, "worker-1", at(1))
    assert node.finished_at is None
    assert step.commands == ()
    assert [(record.type, record.node, record.data) for record in step.records] == [
        (RecordType.NODE_STARTED, "n0", {"Attempt": 1, "Worker": "worker-1"})
    ]


def test_a_success_records_its_outputs_then_itself_then_what_it_starts() -> None:
    story = a_started_story("a: in -> x, y", "b: x -> z")
    story.claim("a")
    step = story.succeed("a")
    assert step.artifacts == (an_artifact("x", "a", 1), an_artifact("y", "a", 1))
    assert [(record.type, record.node) for record in step.records] == [
        (RecordType.NODE_OUTPUT, "a"),
        (RecordType.NODE_OUTPUT, "a"),
        (RecordType.NODE_COMPLETED, "a"),
        (RecordType.NODE_QUEUED, "b"),
    ]
    assert step.records[0].data == {"Edge": "x", "Size": 3, "ContentType": "", "SHA256": ""}
    assert step.records[2].data == {"Attempt": 1, "ExitCode": 0}
    node = story.node("a")
    assert (node.status, node.exit_code, node.finished_at, node.error) == (NodeStatus.COMPLETE, 0, at(2), "")


def test_the_last_success_completes_the_run_in_the_same_step() -> None:
    story = a_started_story(*chain(2))
    story.complete("n0")
    story.claim("n1")
    step = story.succeed("n1")
    assert story.status() is RunStatus.COMPLETE
    assert status_reason(story.run) == ""
    assert step.artifacts == (an_artifact("e1", "n1", 1),)
    assert step.run.finished_at == at(4)
    assert step.records[-1].type is RecordType.RUN_COMPLETED
    assert step.records[-1].data == {"Status": "COMPLETE", "StatusReason": "", "Error": {}}
    assert step.run.counts == {NodeStatus.COMPLETE: 2}


def test_a_run_is_not_over_while_an_upload_is_awaited() -> None:
    story = a_story("one: a -> x", "two: b -> y")
    story.create("a")
    story.complete("one")
    assert story.status() is RunStatus.WAITING
    assert story.run.finished_at is None


def test_an_upload_to_an_edge_that_a_node_writes_is_refused() -> None:
    story = a_started_story(*chain(2))
    with pytest.raises(Defect, match="'e0' is written by a node"):
        story.upload("e0")


def test_a_run_cannot_begin_with_the_object_of_an_inner_edge() -> None:
    with pytest.raises(Defect, match="e0"):
        a_story(*chain(2)).create("in", "e0")


def test_a_run_cannot_begin_with_two_objects_on_one_edge() -> None:
    with pytest.raises(Defect, match="in"):
        a_story(*chain(2)).create("in", "in")


@pytest.mark.parametrize("edges", [["x"], ["x", "y", "y"], ["x", "y", "in"], []])
def test_a_success_must_speak_of_each_output_exactly_once(edges: list[str]) -> None:
    story = a_started_story("a: in -> x, y", "b: x, y -> z")
    story.claim("a")
    event = NodeSucceeded(at(9), NodeID("a"), 1, tuple(an_artifact(edge, "a", 1) for edge in edges))
    with pytest.raises(Defect, match="each of its outputs once"):
        story.tell(event)


def test_an_output_cannot_be_both_there_and_absent() -> None:
    story = a_started_story("a: in -> x?", "b: x? -> z")
    story.claim("a")
    with pytest.raises(Defect, match="each of its outputs once"):
        story.tell(NodeSucceeded(at(9), NodeID("a"), 1, (an_artifact("x", "a", 1),), (Edge("x"),)))


def test_what_the_plan_does_not_know_raises() -> None:
    run = a_started_story(*chain(1)).run
    with pytest.raises(KeyError):
        transition(run, UploadReceived(at(9), an_artifact("nowhere")))
    with pytest.raises(KeyError):
        transition(run, a_success(a_plan("stranger: in -> x"), "stranger", 1))


def test_a_step_leaves_the_run_that_it_was_asked_about_as_it_was() -> None:
    run = new_run(RunID("run_1"), a_plan(*chain(2)))
    transition(run, RunCreated(at(0), (an_artifact("in"),)))
    assert run == new_run(RunID("run_1"), a_plan(*chain(2)))
