"""A run told as it happens: order, resuming, filters, live log lines."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from tests.support.shell_steps import a_chain, a_request, a_source, a_step
from tests.support.system import System
from tests.support.visitor import Frame, Json, Visitor, frames_of

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]

TERMINAL = {"run_completed", "run_failed", "run_cancelled"}


@dataclass(slots=True)
class QuietStream:
    """The first comment line in the stream of a run where nothing happens."""

    run_id: str = ""
    comment: str = ""
    heard: threading.Event = field(default_factory=threading.Event)

    def listen(self, url: str) -> None:
        with Visitor(url) as visitor, visitor.ask(
            "GET", f"/api/v1/runs/{self.run_id}/events", stream=True
        ) as answer:  # fmt: skip
            lines = answer.iter_lines(chunk_size=1, decode_unicode=True)
            self.comment = next((line for line in lines if line.startswith(":")), "")
            self.heard.set()


@pytest.fixture(scope="module", autouse=True)
def quiet_stream(shared_system: System) -> Iterator[QuietStream]:
    """It listens while the other tests of this module run: the server says something every quarter of a minute."""
    with Visitor(shared_system.url) as visitor:
        quiet = QuietStream(visitor.submit(a_request())["ID"])
        listening = threading.Thread(target=quiet.listen, args=(shared_system.url,))
        listening.start()
        yield quiet
        visitor.cancel(quiet.run_id)
        listening.join(60)
        assert not listening.is_alive()


def a_run(visitor: Visitor) -> tuple[Json, list[Frame]]:
    """A chain of two that is over, and its events."""
    run = visitor.complete(a_chain(2), e0=b"abc")
    return run, visitor.events(run["ID"])


def test_events_come_in_order_with_one_terminal_at_the_end(visitor: Visitor) -> None:
    run, frames = a_run(visitor)
    assert [int(frame.id) for frame in frames] == list(range(1, len(frames) + 1))
    assert frames[0].event == "run_started"
    assert [frame.event for frame in frames if frame.event in TERMINAL] == ["run_completed"]
    assert frames[-1].event == "run_completed"
    for frame in frames:
        assert frame.data.keys() == {"Seq", "Type", "RunID", "NodeID", "Time", "Data"}
        assert (frame.data["Seq"], frame.data["Type"]) == (int(frame.id), frame.event)
        assert frame.data["RunID"] == run["ID"]
        assert datetime.fromisoformat(frame.data["Time"]).tzinfo is not None
    assert [frame.event for frame in frames if not frame.node] == [
        "run_started", "waiting_uploads", "upload_received", "run_completed",
    ]  # fmt: skip
    for node in ("n0", "n1"):
        assert [frame.event for frame in frames if frame.node == node] == [
            "node_queued", "node_started", "node_output", "node_completed",
        ]  # fmt: skip
    by_name = [(frame.event, frame.node) for frame in frames]
    assert by_name.index(("node_completed", "n0")) < by_name.index(("node_started", "n1"))


def test_a_stream_that_is_open_from_the_start_tells_the_same_as_a_late_one(visitor: Visitor) -> None:
    run = visitor.submit(a_chain(2))
    with visitor.stream(run["ID"]) as frames:
        first = next(frames)
        visitor.upload(run, "e0", b"abc")
        live = [first, *frames]
    assert live == visitor.events(run["ID"])


def test_a_stream_is_resumed_after_any_event(visitor: Visitor) -> None:
    run, frames = a_run(visitor)
    for frame in frames:
        rest = [each for each in frames if int(each.id) > int(frame.id)]
        assert visitor.events(run["ID"], f"?after={frame.id}") == rest
        with visitor.stream(run["ID"], headers={"Last-Event-ID": frame.id}) as resumed:
            assert list(resumed) == rest


def test_a_reader_that_is_cut_off_loses_nothing(visitor: Visitor) -> None:
    run_id = visitor.start(a_chain(3), e0=b"abc")
    seen: list[Frame] = []
    while not seen or seen[-1].event not in TERMINAL:
        with visitor.stream(run_id, headers={"Last-Event-ID": seen[-1].id if seen else ""}) as frames:
            seen += [next(frames), *[frame for frame, _ in zip(frames, range(1), strict=False)]]
    assert seen == visitor.events(run_id)


def test_a_stream_tells_only_the_types_that_are_asked_for_and_the_end(visitor: Visitor) -> None:
    run, frames = a_run(visitor)
    wanted = {"node_started", "node_completed"}
    found = visitor.events(run["ID"], "?types=node_started,node_completed")
    assert found == [frame for frame in frames if frame.event in wanted | TERMINAL]
    assert [frame.event for frame in visitor.events(run["ID"], "?types=node_failed")] == ["run_completed"]
    by_another_name = visitor.events(run["ID"], "?stream_events=node_started")
    assert {frame.event for frame in by_another_name} == {"node_started", "run_completed"}
    error = visitor.ask("GET", f"/api/v1/runs/{run['ID']}/events?types=nonsense", status=422).json()["Error"]
    assert "nonsense" in error["Message"]


def test_every_way_to_end_has_its_terminal_event(visitor: Visitor) -> None:
    failed = visitor.fail(a_request(a_source("bad", "exit 3", writes={}, MaxAttempts=1)))
    last = visitor.events(failed["ID"])[-1]
    assert (last.event, last.data["Data"]["Error"]["Code"]) == ("run_failed", "NODE_EXIT")
    [told] = [frame for frame in visitor.events(failed["ID"]) if frame.event == "node_failed"]
    assert (told.data["Data"]["ExitCode"], told.data["Data"]["Reason"]) == (3, "exit")
    stopped = visitor.submit(a_request())["ID"]
    visitor.cancel(stopped)
    assert visitor.events(stopped)[-1].event == "run_cancelled"


def test_log_lines_come_while_the_node_runs(visitor: Visitor) -> None:
    script = 'for i in 1 2 3; do echo "line $i"; sleep 1; done; echo oops >&2; cat "$INPUT_IN" > "$OUTPUT_OUT"'
    run_id = visitor.start(a_request(a_step("talk", script)), **{"in": b"abc"})
    with visitor.stream(run_id, "?types=node_log,node_completed") as frames:
        first = next(frames)
        assert first.data["Data"]["Message"] == "line 1"
        # It sleeps for as long again as it took to come here, several times over.
        state = visitor.run(run_id)["NodeState"]["talk"]
        assert state["Status"] == "RUNNING"
        assert len(state["Logs"]) < 3
        rest = list(frames)
    assert [frame.event for frame in rest] == ["node_log", "node_log", "node_log", "node_completed", "run_completed"]
    logs = visitor.run(run_id)["NodeState"]["talk"]["Logs"]
    assert [(line["message"], line["stream"]) for line in logs] == [
        ("line 1", "stdout"), ("line 2", "stdout"), ("line 3", "stdout"), ("oops", "stderr"),
    ]  # fmt: skip
    assert all(line.keys() == {"timestamp", "message", "level", "stream", "fields"} for line in logs)
    times = [datetime.fromisoformat(line["timestamp"]) for line in logs[:3]]
    assert all(later - earlier > timedelta(seconds=0.5) for earlier, later in pairwise(times))


def test_the_log_route_has_every_line_and_can_be_followed(visitor: Visitor) -> None:
    loud = a_source("loud", "i=0; while [ $i -lt 1000 ]; do i=$((i+1)); echo line $i; done; sleep 1", writes={})
    run_id = visitor.start(a_request(loud))
    path = f"/api/v1/runs/{run_id}/nodes/loud/logs"
    with visitor.ask("GET", f"{path}?follow=1", stream=True) as answer:
        followed = [frame.data["Data"]["Message"] for frame in frames_of(answer)]
    every = [f"line {i}" for i in range(1, 1001)]
    assert followed == every
    assert [line["message"] for line in visitor.logs(run_id, "loud")] == every
    assert [line["message"] for line in visitor.run(run_id)["NodeState"]["loud"]["Logs"]] == every[-200:]


def test_a_flood_of_output_is_cut_and_harms_nobody(visitor: Visitor) -> None:
    flood = a_source(
        "flood", "head -c 12000000 /dev/zero | tr '\\0' x; echo; echo; printf 'no newline \\001\\377'", writes={}
    )
    run = visitor.complete(a_request(flood))
    logs = visitor.logs(run["ID"], "flood")
    assert 0 < sum(len(line["message"]) for line in logs) <= 11 * 1024**2
    assert len(visitor.run(run["ID"])["NodeState"]["flood"]["Logs"]) <= 200


def test_a_quiet_stream_is_kept_alive(visitor: Visitor, quiet_stream: QuietStream) -> None:
    assert quiet_stream.heard.wait(60)
    assert quiet_stream.comment.startswith(":")
