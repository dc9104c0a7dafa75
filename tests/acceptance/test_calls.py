"""Calls of a flow: at once, waited for, streamed; by message, by parameters, given up half-way."""

import json
from datetime import datetime
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

from tests.support.shell_steps import a_request, a_source, a_step
from tests.support.visitor import Json, Visitor, frames_of

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

SLEEPS = 'sleep 60; printf late > "$OUTPUT_OUT"'


@pytest.fixture
def flow(visitor: Visitor, request: pytest.FixtureRequest) -> str:
    """The path of a flow that no other test has."""
    return f"/api/v1/flows/{request.function.__name__}"


def keep(visitor: Visitor, flow: str, draft: Json) -> str:
    """The path of the flow's runs, once it is kept."""
    draft["Flow"]["Name"] = ""
    visitor.ask("PUT", flow, json=draft)
    return f"{flow}/runs"


def call(visitor: Visitor, path: str, body: Json, *, status: int) -> Json:
    run = visitor.post(path, body, status=status)
    visitor.made.append(run["ID"])
    return run


def test_a_waited_for_call_brings_its_outputs_at_once(visitor: Visitor, flow: str) -> None:
    runs = keep(visitor, flow, a_request(a_step()))
    run = call(visitor, f"{runs}/sync", {"Inputs": {"in": "hello"}}, status=200)
    assert (run["Status"], run["Outputs"]["out"]["Value"]) == ("COMPLETE", "hello")
    assert visitor.ask("GET", run["Outputs"]["out"]["URL"]).content == b"hello"
    only = visitor.post(f"{runs}/sync?output_only=true", {"Message": "hi"})
    assert {edge: output["Value"] for edge, output in only.items()} == {"out": "hi"}


def test_a_call_longer_than_the_wait_goes_on(visitor: Visitor, flow: str) -> None:
    runs = keep(visitor, flow, a_request(a_source("slow", 'sleep 2; printf late > "$OUTPUT_OUT"')))
    run = call(visitor, f"{runs}/sync", {"wait": "300ms"}, status=202)
    assert run["Status"] == "RUNNING"
    assert visitor.ended(run["ID"])["Status"] == "COMPLETE"
    assert visitor.get(f"/api/v1/runs/{run['ID']}/outputs")["out"]["Value"] == "late"


def test_a_call_whose_flow_fails_is_answered_with_the_failure(visitor: Visitor, flow: str) -> None:
    runs = keep(visitor, flow, a_request(a_source("bad", "exit 3", MaxAttempts=1)))
    run = call(visitor, f"{runs}/sync", {}, status=200)
    assert (run["Status"], run["Error"]["NodeID"], run["NodeState"]["bad"]["ExitCode"]) == ("ERROR", "bad", 3)


def test_an_unwaited_call_is_there_for_the_very_next_question(visitor: Visitor, flow: str) -> None:
    runs = keep(visitor, flow, a_request(a_source("slow", SLEEPS)))
    run = call(visitor, runs, {}, status=202)
    assert visitor.run(run["ID"])["ID"] == run["ID"]
    cancelled = visitor.cancel(run["ID"])
    ended = cancelled if cancelled["Status"] == "STOPPED" else visitor.ended(run["ID"])
    started, finished = ended["StartedAt"], ended["FinishedAt"]
    assert (ended["Status"], bool(started), bool(finished), ended["DurationMS"] >= 0) == ("STOPPED", True, True, True)


def test_a_streamed_call_tells_its_whole_story(visitor: Visitor, flow: str) -> None:
    runs = keep(visitor, flow, a_request(a_step(script='echo a line; cat "$INPUT_IN" > "$OUTPUT_OUT"')))
    with visitor.ask("POST", f"{runs}/stream", json={"Message": "hello"}, stream=True) as answer:
        frames = list(frames_of(answer))
    types = [frame.event for frame in frames]
    assert (types[0], types[-1]) == ("run_started", "run_completed")
    assert {"node_queued", "node_started", "node_log", "node_output", "node_completed"} <= set(types)
    assert [frame.id for frame in frames] == [str(number) for number in range(1, len(frames) + 1)]
    assert {frame.data["RunID"] for frame in frames} == {answer.headers["X-Run-ID"]}
    assert visitor.run(answer.headers["X-Run-ID"])["Status"] == "COMPLETE"


def test_a_flow_is_called_by_its_parameters(visitor: Visitor, flow: str) -> None:
    node = {"Flags": [{"Name": "word", "Value": "${PARAM.word}"}]}
    draft = a_request(
        a_source("say", 'printf "%s" "$FLAG_WORD" > "$OUTPUT_OUT"', node=node),
        Parameters=[{"Name": "word", "Required": True}],
    )
    runs = keep(visitor, flow, draft)
    outputs = visitor.post(f"{runs}/sync?output_only=true", {"Parameters": {"word": "spoken"}})
    assert outputs["out"]["Value"] == "spoken"
    visitor.post(f"{runs}/sync", {}, status=422)
    refused = visitor.post(f"{runs}/sync", {"Parameters": {"word": "x", "attachments": []}}, status=400)
    assert refused["Error"]["Code"] == "PARAMETER_NAME_RESERVED"


TWO_TEXTS = a_step(script="true", reads={"one": "one", "two": "two"})
COUNTED = [{"Name": "count", "Type": "int", "Required": True}]


@pytest.mark.parametrize(
    ("draft", "wish", "code"),
    [
        (a_request(TWO_TEXTS), {"Message": "whose?"}, "AMBIGUOUS_MESSAGE"),
        (a_request(DataWells=[{"Edge": "in", "Primary": True}]), {}, "MESSAGE_REQUIRED"),
        (a_request(Parameters=COUNTED), {"Message": "hello"}, "INVALID_REQUEST"),
        (a_request(Parameters=COUNTED), {"Message": "hello", "Parameters": {"count": "many"}}, "INVALID_REQUEST"),
        (a_request(), {"Mesage": "hello"}, "INVALID_REQUEST"),
    ],
    ids=["ambiguous", "no message", "no parameter", "another type", "unknown member"],
)
def test_a_call_that_does_not_say_what_it_must_makes_no_run(
    visitor: Visitor, flow: str, draft: Json, wish: Json, code: str
) -> None:
    runs = keep(visitor, flow, draft)
    assert visitor.post(runs, wish, status=422)["Error"]["Code"] == code
    assert visitor.get(f"/api/v1/runs?flow={flow.rpartition('/')[2]}")["Runs"] == []


def test_a_run_is_a_record_of_its_call(visitor: Visitor, flow: str) -> None:
    runs = keep(visitor, flow, a_request(a_step(), Parameters=[{"Name": "n", "Type": "int", "Default": 5}]))
    wish = {"Message": "hello", "block_overrides": {"copy": {"max_attempts": 2}}}
    made = call(visitor, f"{runs}/sync", wish, status=200)
    run = visitor.run(made["ID"])
    assert run["Inputs"]["in"]["Size"] == len("hello")
    assert (run["Parameters"], run["Overrides"]) == ({"n": 5}, {"copy": {"MaxAttempts": 2}})
    assert (run["FlowVersion"], run["ParentRunID"], run["RootRunID"]) == ("draft", "", run["ID"])
    assert visitor.get(f"/api/v1/sessions/{run['SessionID']}")["Runs"][0]["ID"] == run["ID"]
    created, started, finished = (
        datetime.fromisoformat(run[f"{name}At"]) for name in ("Created", "Started", "Finished")
    )
    assert created <= started <= finished
    assert run["DurationMS"] == round((finished - started).total_seconds() * 1000)


def test_a_posted_flow_is_called_in_the_same_ways(visitor: Visitor) -> None:
    step = a_step(script='printf "{\\"said\\": \\"%s\\"}" "$(cat "$INPUT_IN")" > "$OUTPUT_OUT"')
    run = call(visitor, "/api/v1/runs/sync", {**a_request(step), "Message": "hello"}, status=200)
    assert run["Outputs"]["out"]["Value"] == {"said": "hello"}
    assert json.loads(visitor.artifact(run["ID"], "out")) == {"said": "hello"}


def test_a_caller_who_hangs_up_may_have_asked_for_the_end_of_the_run(visitor: Visitor, flow: str) -> None:
    runs = keep(visitor, flow, a_request(a_source("slow", SLEEPS)))
    listed = f"/api/v1/runs?flow={flow.rpartition('/')[2]}"
    connection = HTTPConnection(urlsplit(visitor.url).netloc)
    connection.request("POST", f"{runs}/sync?cancel_on_disconnect=true", body="{}")
    visitor.eventually(lambda: bool(visitor.get(listed)["Runs"]))
    connection.close()
    [run] = visitor.get(listed)["Runs"]
    visitor.made.append(run["ID"])
    assert visitor.ended(run["ID"])["Status"] == "STOPPED"


def test_the_timeout_of_a_call_ends_its_run(visitor: Visitor, flow: str) -> None:
    runs = keep(visitor, flow, a_request(a_source("slow", SLEEPS)))
    run = call(visitor, f"{runs}/sync", {"Timeout": "2s"}, status=200)
    assert (run["Status"], run["StatusReason"], run["Error"]["Code"]) == ("ERROR", "timeout", "RUN_TIMEOUT")
