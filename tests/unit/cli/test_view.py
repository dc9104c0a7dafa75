"""A run as it is shown, folded from events."""

from datetime import UTC, datetime, timedelta
from typing import Any

from pupload.answers.runs import FlowRun, NodeState, RunEvent
from pupload.cli.view import Line, NodeView, RunView, printable
from pupload.run.state import NodeStatus

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def event(kind: str, node: str = "", at_s: float = 0, **data: Any) -> RunEvent:
    return RunEvent(seq=1, type=kind, run_id="r", node_id=node, time=START + timedelta(seconds=at_s), data=data)


def a_run(**states: NodeState) -> FlowRun:
    return FlowRun(id="r", flow_name="f", status="RUNNING", created_at=START, node_state=states)


def a_view() -> RunView:
    return RunView.of(a_run(b=NodeState(status="IDLE", max_attempts=3), a=NodeState(status="IDLE")), ["a", "b"])


def said(lines: list[Line]) -> list[str]:
    return [line.text for line in lines]


def test_nodes_stand_in_the_order_of_the_flow() -> None:
    assert list(a_view().nodes) == ["a", "b"]


def test_a_node_goes_from_queue_to_end() -> None:
    view = a_view()
    assert view.fold(event("node_queued", "b", Attempt=1)) == []
    assert view.nodes["b"].status is NodeStatus.READY
    assert said(view.fold(event("node_started", "b", 1, Attempt=1, Worker="w"))) == ["started on w"]
    view.fold(event("node_progress", "b", 2, Progress=37.5))
    assert (view.nodes["b"].status, view.nodes["b"].progress) == (NodeStatus.RUNNING, 37.5)
    assert said(view.fold(event("node_completed", "b", 3.5, Attempt=1, ExitCode=0))) == ["complete in 2.5 s"]
    assert (view.nodes["b"].status, view.nodes["b"].progress) == (NodeStatus.COMPLETE, 100.0)


def test_a_second_attempt_says_which_it_is_and_starts_its_clock_anew() -> None:
    view = a_view()
    view.fold(event("node_started", "b", 0, Attempt=1))
    lines = view.fold(event("node_retrying", "b", 9, Attempt=1, Message="exit code 3", DelayS=1.25))
    assert said(lines) == ["attempt 1 failed: exit code 3; trying again in 1.2 s"]
    assert view.nodes["b"].note == "exit code 3"
    assert said(view.fold(event("node_started", "b", 10, Attempt=2, Worker="w"))) == ["started on w (attempt 2 of 3)"]
    assert view.nodes["b"].elapsed_s(START + timedelta(seconds=14)) == 4.0
    assert view.nodes["b"].note == ""


def test_a_failure_says_why() -> None:
    view = a_view()
    view.fold(event("node_started", "b", 0, Attempt=1))
    assert said(view.fold(event("node_failed", "b", 2, Message="exit code 3"))) == ["failed in 2.0 s: exit code 3"]
    assert view.nodes["b"].status is NodeStatus.ERROR


def test_a_log_line_keeps_its_node_and_stream() -> None:
    assert a_view().fold(event("node_log", "a", Message="m", Stream="stderr")) == [Line("m", "a", "stderr")]


def test_the_last_event_stops_what_still_runs() -> None:
    view = a_view()
    view.fold(event("node_started", "b", 0, Attempt=1))
    view.fold(event("run_cancelled", at_s=4))
    assert (view.over, view.nodes["b"].status, view.nodes["b"].elapsed_s(START)) == (True, NodeStatus.STOPPED, 4.0)
    assert view.nodes["a"].status is NodeStatus.IDLE


def test_an_unknown_event_of_a_newer_server_changes_nothing() -> None:
    view = a_view()
    assert view.fold(event("node_dreaming", "a")) == []
    assert view.nodes == a_view().nodes


def test_a_reason_to_wait_is_said_once() -> None:
    view = a_view()
    view.fold(event("node_queued", "a"))
    waiting = a_run(a=NodeState(status="READY", pending_reason="no worker"))
    assert said(view.note_pending(waiting)) == ["a: no worker"]
    assert view.note_pending(waiting) == []


def test_a_reason_that_many_share_is_one_line() -> None:
    view = a_view()
    view.fold(event("node_queued", "a"))
    view.fold(event("node_queued", "b"))
    full = NodeState(status="READY", pending_reason="no room")
    assert said(view.note_pending(a_run(a=full, b=full))) == ["a and 1 more: no room"]


def test_an_attempt_beyond_the_budget_is_not_said_to_be_of_it() -> None:
    assert NodeView("a", attempt=2, max_attempts=3).attempt_text == "2 of 3"
    assert NodeView("a", attempt=2, max_attempts=1).attempt_text == "2"


def test_a_reason_to_wait_that_comes_late_is_not_said() -> None:
    view = a_view()
    view.fold(event("node_started", "a", Attempt=1))
    assert view.note_pending(a_run(a=NodeState(status="READY", pending_reason="no worker"))) == []


def test_the_end_is_what_the_server_says() -> None:
    view = a_view()
    view.settle(a_run(a=NodeState(status="ERROR", error="bad", attempt=2), b=NodeState(status="SKIPPED")))
    assert [(n.status, n.note) for n in view.nodes.values()] == [(NodeStatus.ERROR, "bad"), (NodeStatus.SKIPPED, "")]


def test_a_clock_that_is_behind_the_servers_never_shows_less_than_nothing() -> None:
    assert NodeView("a", started_at=START).elapsed_s(START - timedelta(seconds=5)) == 0.0


def test_what_a_program_writes_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[2Jb\rc\x00\u202e") == "a\\x1b[2Jb\\rc\\x00\\u202e"


def test_a_question_says_what_is_asked_and_where_to_answer() -> None:
    view = a_view()
    view.fold(event("node_started", "b", 0, Attempt=1))
    lines = view.fold(event("tool_calls_required", "b", 2, Round=1, ToolCalls=[{"ID": "c1", "Name": "look"}]))
    assert said(lines) == ["asks for look (c1); answer by POST /api/v1/runs/r/resume"]
    assert view.nodes["b"].status is NodeStatus.WAITING
