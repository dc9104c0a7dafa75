"""A run's status follows from its nodes."""

import pytest

from pupload.flow.plan import NodeID
from pupload.run.state import (
    ACTIVE,
    ENDED,
    STOPPABLE,
    TERMINAL,
    End,
    NodeStatus,
    Run,
    RunID,
    RunStatus,
    new_run,
    status_of,
    status_reason,
)
from tests.support.runs import a_plan, chain


def a_run_of(counts: dict[str, int], end: End | None = None) -> Run:
    """A run of which only its counts are known."""
    return Run(RunID("run_1"), a_plan(*chain(1)), {NodeStatus(name): count for name, count in counts.items()}, end=end)


@pytest.mark.parametrize("end", [None, *End])
@pytest.mark.parametrize("active", sorted(ACTIVE))
def test_one_active_node_makes_a_run_running(active: NodeStatus, end: End | None) -> None:
    assert (
        status_of(a_run_of({active: 1, "IDLE": 1, "COMPLETE": 1, "ERROR": 1, "WAITING": 1}, end)) is RunStatus.RUNNING
    )


@pytest.mark.parametrize(
    ("counts", "status", "reason"),
    [
        ({"COMPLETE": 3}, RunStatus.COMPLETE, ""),
        ({"COMPLETE": 2, "SKIPPED": 1}, RunStatus.COMPLETE, ""),
        ({"COMPLETE": 2, "ERROR": 1}, RunStatus.ERROR, "node_failed"),
        ({"SKIPPED": 2, "ERROR": 1}, RunStatus.ERROR, "node_failed"),
        ({"IDLE": 3}, RunStatus.WAITING, "uploads"),
        ({"IDLE": 1, "COMPLETE": 2}, RunStatus.WAITING, "uploads"),
        ({"IDLE": 1, "ERROR": 2}, RunStatus.WAITING, "uploads"),
        ({"WAITING": 1, "COMPLETE": 2}, RunStatus.WAITING, "tool_calls"),
        ({"WAITING": 1, "IDLE": 2}, RunStatus.WAITING, "tool_calls"),
        ({"RUNNING": 1, "IDLE": 2}, RunStatus.RUNNING, ""),
    ],
)
def test_the_status_of_a_run_that_goes_its_way(counts: dict[str, int], status: RunStatus, reason: str) -> None:
    run = a_run_of(counts)
    assert (status_of(run), status_reason(run)) == (status, reason)


@pytest.mark.parametrize(
    ("end", "status", "reason"),
    [
        (End.CANCELLED, RunStatus.STOPPED, "cancelled"),
        (End.NODE_FAILED, RunStatus.ERROR, "node_failed"),
    ],
)
def test_the_status_of_a_run_that_ended_early(end: End, status: RunStatus, reason: str) -> None:
    run = a_run_of({"IDLE": 1, "STOPPED": 1, "COMPLETE": 1, "ERROR": 1}, end)
    assert (status_of(run), status_reason(run)) == (status, reason)


@pytest.mark.parametrize("end", End)
def test_a_run_that_ends_early_is_stopping_while_a_node_runs(end: End) -> None:
    assert status_reason(a_run_of({"RUNNING": 1}, end)) == "stopping"


def test_a_count_of_zero_is_no_node() -> None:
    run = a_run_of({"READY": 0, "RUNNING": 0, "IDLE": 0, "WAITING": 0, "ERROR": 0, "COMPLETE": 1})
    assert status_of(run) is RunStatus.COMPLETE


def test_a_new_run_has_every_node_idle_and_counts_its_distinct_inputs() -> None:
    run = new_run(RunID("run_1"), a_plan("a: x, y, x -> z", "b: z? -> w", "c: -> v"))
    assert {node.id: node.unresolved for node in run.nodes.values()} == {"a": 2, "b": 1, "c": 0}
    assert {node.status for node in run.nodes.values()} == {NodeStatus.IDLE}
    assert run.counts == {NodeStatus.IDLE: 3}
    untouched = run.nodes[NodeID("c")]
    assert (untouched.attempt, untouched.charged, untouched.restarts, untouched.exit_code) == (0, 0, 0, None)
    assert (untouched.error, untouched.reason, untouched.worker) == ("", None, "")
    assert (untouched.started_at, untouched.finished_at) == (None, None)
    assert (run.started_at, run.finished_at, run.end, run.failure, run.present) == (None, None, None, None, frozenset())


def test_the_statuses_have_the_names_that_clients_know() -> None:
    assert [status.value for status in NodeStatus] == [
        *("IDLE", "READY", "RUNNING", "RETRYING", "COMPLETE", "ERROR", "STOPPED", "SKIPPED", "WAITING"),
    ]
    assert [status.value for status in RunStatus] == ["STOPPED", "WAITING", "RUNNING", "COMPLETE", "ERROR"]
    assert [end.value for end in End] == ["cancelled", "timeout", "node_failed", "quota"]


def test_a_node_is_untouched_or_on_its_way_or_through() -> None:
    assert sorted(NodeStatus) == sorted([NodeStatus.IDLE, *STOPPABLE, *ENDED])
    assert {NodeStatus.COMPLETE, NodeStatus.ERROR, NodeStatus.STOPPED, NodeStatus.SKIPPED} == ENDED
    assert {NodeStatus.WAITING} == STOPPABLE - ACTIVE
    assert {RunStatus.COMPLETE, RunStatus.ERROR, RunStatus.STOPPED} == TERMINAL
