"""Every status meets every event with every attempt number; the table is written from the contract, not the code."""

import pytest

from pupload.flow.plan import NodeID, Plan, Reason
from pupload.run.events import (
    Event,
    NodeAsked,
    NodeClaimed,
    NodeFailed,
    NodeReleased,
    RunCancelled,
    RunCreated,
    RunExhausted,
    RunTimedOut,
    ToolsAnswered,
    UploadReceived,
)
from pupload.run.state import End, NodeStatus, Run, RunID, RunStatus, new_run, status_of
from pupload.run.transition import transition
from tests.support.runs import a_plan, a_run, a_success, an_artifact, at, dispatched, stopped

IDLE, READY, RUNNING, RETRYING, COMPLETE, ERROR, STOPPED, SKIPPED, WAITING = (
    NodeStatus.IDLE,
    NodeStatus.READY,
    NodeStatus.RUNNING,
    NodeStatus.RETRYING,
    NodeStatus.COMPLETE,
    NodeStatus.ERROR,
    NodeStatus.STOPPED,
    NodeStatus.SKIPPED,
    NodeStatus.WAITING,
)
STALE = "stale"

REPORTS = ("claim", "success", "failure", "final failure", "lost", "release", "question", "answer")
AGES = {"older": -1, "same": 0, "newer": 1, "far ahead": 2}

# The node's newest attempt is number 2, and it has asked in two rounds. Only these cells move it; whatever is not
# here is stale.
ALIVE = {
    (READY, "claim", "newer"): RUNNING,
    (RETRYING, "claim", "newer"): RUNNING,
    (RUNNING, "success", "same"): COMPLETE,
    (RUNNING, "failure", "same"): RETRYING,
    (RUNNING, "final failure", "same"): ERROR,
    (RUNNING, "lost", "same"): RETRYING,
    (RUNNING, "release", "same"): READY,
    (RUNNING, "question", "same"): WAITING,
    (WAITING, "answer", "same"): READY,
}
# In a run that is ending nothing starts, and whatever becomes of an attempt, its node was stopped.
ENDING = {
    (RUNNING, "success", "same"): STOPPED,
    (RUNNING, "failure", "same"): STOPPED,
    (RUNNING, "final failure", "same"): STOPPED,
    (RUNNING, "lost", "same"): STOPPED,
    (RUNNING, "release", "same"): STOPPED,
    (RUNNING, "question", "same"): STOPPED,
}


def the_plan(*, fail_fast: bool = True) -> Plan:
    """`n` is the node under test; `other` keeps the run alive beside it and `last` is never reached."""
    return a_plan("n: in -> out", "other: side -> aside", "last: never -> nothing", fail_fast=fail_fast)


def the_report(plan: Plan, kind: str, attempt: int, about: str = "n") -> Event:
    """A report about the node under test, or another."""
    node = NodeID(about)
    match kind:
        case "claim":
            return NodeClaimed(at(1), node, attempt, "worker-1")
        case "success":
            return a_success(plan, node, attempt, when=at(1))
        case "release":
            return NodeReleased(at(1), node, attempt)
        case "question":
            return NodeAsked(at(1), node, attempt)
        case "answer":
            return ToolsAnswered(at(1), node, round=attempt)
        case "lost":
            return NodeFailed(at(1), node, attempt, Reason.LOST, "the worker died")
        case _:
            return NodeFailed(at(1), node, attempt, Reason.EXIT, "exit 3", 3, final=kind == "final failure")


def assert_nothing_happened(run: Run, event: Event) -> None:
    """The step is stale: the same run and nothing to do."""
    step = transition(run, event)
    assert step.stale
    assert step.run is run
    assert (step.changed, step.artifacts, step.commands, step.records) == ((), (), (), ())


def assert_moves(run: Run, event: Event, expected: NodeStatus | str) -> None:
    """The node under test goes where the table says, or nothing happens at all."""
    if expected == STALE:
        assert_nothing_happened(run, event)
        return
    step = transition(run, event)
    assert not step.stale
    assert step.run.nodes[NodeID("n")].status is expected
    assert NodeID("n") in {node.id for node in step.changed}


@pytest.mark.parametrize("fail_fast", [True, False], ids=["fail fast", "not fail fast"])
@pytest.mark.parametrize("age", AGES)
@pytest.mark.parametrize("report", REPORTS)
@pytest.mark.parametrize("status", NodeStatus)
def test_a_report_moves_its_node_exactly_where_the_table_says(
    status: NodeStatus, report: str, age: str, fail_fast: bool
) -> None:
    plan = the_plan(fail_fast=fail_fast)
    run = a_run(plan, n=status, other=RUNNING)
    event = the_report(plan, report, 2 + AGES[age])
    assert_moves(run, event, ALIVE.get((status, report, age), STALE))


@pytest.mark.parametrize("end", End)
@pytest.mark.parametrize("age", AGES)
@pytest.mark.parametrize("report", REPORTS)
@pytest.mark.parametrize("status", NodeStatus)
def test_a_report_in_a_run_that_is_ending_can_only_stop_its_node(
    status: NodeStatus, report: str, age: str, end: End
) -> None:
    plan = the_plan()
    run = a_run(plan, end=end, n=status, other=RUNNING)
    event = the_report(plan, report, 2 + AGES[age])
    assert_moves(run, event, ENDING.get((status, report, age), STALE))


OVER = {
    "complete": a_run(the_plan(), n=COMPLETE, other=COMPLETE, last=COMPLETE),
    "failed at its end": a_run(the_plan(), n=ERROR, other=COMPLETE, last=SKIPPED),
    "cancelled": a_run(the_plan(), end=End.CANCELLED, n=STOPPED, other=COMPLETE),
    "cancelled before any node began": a_run(the_plan(), end=End.CANCELLED),
    "timed out": a_run(the_plan(), end=End.TIMEOUT, n=STOPPED),
    "failed fast": a_run(the_plan(), end=End.NODE_FAILED, n=ERROR, other=STOPPED),
}


@pytest.mark.parametrize("way", OVER)
@pytest.mark.parametrize("age", AGES)
@pytest.mark.parametrize("report", REPORTS)
@pytest.mark.parametrize("node", ["n", "other", "last"])
def test_no_report_changes_a_run_that_is_over(way: str, report: str, age: str, node: str) -> None:
    run = OVER[way]
    assert_nothing_happened(run, the_report(run.plan, report, 2 + AGES[age], node))


RUN_EVENTS: dict[str, Event] = {
    "created": RunCreated(at(1)),
    "created with its input": RunCreated(at(1), (an_artifact("in"),)),
    "upload": UploadReceived(at(1), an_artifact("in")),
    "cancel": RunCancelled(at(1)),
    "timeout": RunTimedOut(at(1)),
    "credits used up": RunExhausted(at(1), "CREDITS_EXHAUSTED", "no credits"),
}


@pytest.mark.parametrize("way", OVER)
@pytest.mark.parametrize("event", RUN_EVENTS)
def test_nothing_that_happens_to_a_run_that_is_over_changes_it(way: str, event: str) -> None:
    assert_nothing_happened(OVER[way], RUN_EVENTS[event])


@pytest.mark.parametrize("end", End)
@pytest.mark.parametrize("event", RUN_EVENTS)
@pytest.mark.parametrize("status", NodeStatus)
def test_nothing_that_happens_to_a_run_that_is_ending_changes_its_end(status: NodeStatus, event: str, end: End) -> None:
    assert_nothing_happened(a_run(the_plan(), end=end, n=status, other=RUNNING), RUN_EVENTS[event])


@pytest.mark.parametrize("status", NodeStatus)
def test_a_run_is_created_once(status: NodeStatus) -> None:
    assert_nothing_happened(a_run(the_plan(), n=status, other=RUNNING), RUN_EVENTS["created with its input"])


@pytest.mark.parametrize("status", NodeStatus)
def test_an_upload_makes_only_an_idle_reader_ready(status: NodeStatus) -> None:
    run = a_run(the_plan(), n=status, other=RUNNING)
    step = transition(run, RUN_EVENTS["upload"])
    assert not step.stale
    assert step.run.nodes[NodeID("n")].status is (READY if status is IDLE else status)
    assert dispatched(step) == ([("n", 3)] if status is IDLE else [])
    assert [artifact.edge for artifact in step.artifacts] == ["in"]


@pytest.mark.parametrize("status", NodeStatus)
def test_a_second_upload_to_an_edge_changes_nothing(status: NodeStatus) -> None:
    run = a_run(the_plan(), present=["in"], n=status, other=RUNNING)
    assert_nothing_happened(run, RUN_EVENTS["upload"])


STOPPED_AT_ONCE = {READY, RETRYING, WAITING}


@pytest.mark.parametrize("event", ["cancel", "timeout", "credits used up"])
@pytest.mark.parametrize("status", NodeStatus)
def test_an_early_end_stops_what_waits_at_once_and_tells_what_runs_to_stop(status: NodeStatus, event: str) -> None:
    step = transition(a_run(the_plan(), n=status, other=RUNNING), RUN_EVENTS[event])
    assert not step.stale
    assert step.run.nodes[NodeID("n")].status is (STOPPED if status in STOPPED_AT_ONCE else status)
    assert stopped(step) == ([("n", 2)] if status is RUNNING else []) + [("other", 2)]
    assert status_of(step.run) is RunStatus.RUNNING


@pytest.mark.parametrize(
    ("event", "expected"),
    [("cancel", RunStatus.STOPPED), ("timeout", RunStatus.ERROR), ("credits used up", RunStatus.ERROR)],
)
@pytest.mark.parametrize("status", sorted(set(NodeStatus) - {RUNNING}))
def test_an_early_end_with_nothing_running_is_the_end(status: NodeStatus, event: str, expected: RunStatus) -> None:
    step = transition(a_run(the_plan(), n=status), RUN_EVENTS[event])
    assert status_of(step.run) is expected
    assert step.run.finished_at == at(1)


@pytest.mark.parametrize("age", AGES)
@pytest.mark.parametrize("report", REPORTS)
def test_no_report_moves_a_run_that_has_not_begun(report: str, age: str) -> None:
    run = new_run(RunID("run_1"), the_plan())
    assert_nothing_happened(run, the_report(run.plan, report, AGES[age]))


def test_an_upload_to_a_run_that_has_not_begun_changes_nothing() -> None:
    assert_nothing_happened(new_run(RunID("run_1"), the_plan()), RUN_EVENTS["upload"])


@pytest.mark.parametrize(
    ("event", "expected"),
    [("cancel", RunStatus.STOPPED), ("timeout", RunStatus.ERROR), ("credits used up", RunStatus.ERROR)],
)
def test_a_run_that_ended_before_it_began_never_begins(event: str, expected: RunStatus) -> None:
    ended = transition(new_run(RunID("run_1"), the_plan()), RUN_EVENTS[event]).run
    assert status_of(ended) is expected
    assert set(ended.counts) == {IDLE}
    assert_nothing_happened(ended, RUN_EVENTS["created with its input"])
