"""Runs that are waited for, whatever the server and the line do meanwhile."""

import asyncio
from typing import Any

import pytest
from aiohttp import web

from pupload.answers.runs import ToolCallAnswer
from pupload.client import (
    AsyncClient,
    AsyncPausedResult,
    CallTimeout,
    EvalsWish,
    RunFailed,
    ToolCallLimitError,
    ToolResultsMismatch,
)
from pupload.client.backoff import Backoff
from tests.support.fake_server import Answer, FakeServer, breaks, event, gives, streams

RUN: dict[str, Any] = {"ID": "run_1", "FlowName": "f", "Status": "RUNNING", "CreatedAt": "2026-01-02T03:04:05Z"}
OUT = {"out": {"Value": "hello", "URL": "u", "ContentType": "text/plain", "Size": 5, "SHA256": "s"}}
DONE = RUN | {"Status": "COMPLETE"}
CALL = {"ID": "c1", "Name": "ask", "Arguments": {"of": "x"}}
PAUSED = RUN | {"Status": "WAITING", "StatusReason": "tool_calls", "ToolCalls": {"n": [CALL]}}
RUNS, RUN_1 = "/api/v1/flows/f/runs", "/api/v1/runs/run_1"
ASKS = event(3, "tool_calls_required", "n", ToolCalls=[CALL], Round=1)


async def never(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    return web.Response()


def ends(server: FakeServer, *frames: str, run: dict[str, Any] = DONE) -> None:
    server.on("GET", f"{RUN_1}/events", streams(*frames))
    server.on("GET", RUN_1, gives(run))
    server.on("GET", f"{RUN_1}/outputs", gives(OUT))


def bodies(server: FakeServer, path: str) -> list[Any]:
    return [asked.json for asked in server.asked if asked.path == path and asked.method == "POST"]


async def test_one_answer_is_all_when_it_came_in_time(server: FakeServer, client: AsyncClient) -> None:
    server.on("POST", f"{RUNS}/sync", gives(DONE | {"Outputs": OUT}))
    result = await client.run("f", message="hi")
    assert (result.status, result.values, result.outputs["out"].size) == ("COMPLETE", {"out": "hello"}, 5)
    assert [asked.path for asked in server.asked] == [f"{RUNS}/sync"]
    assert server.asked[0].json == {"Message": "hi"}


async def test_a_lost_answer_is_asked_for_by_the_same_key(server: FakeServer, client: AsyncClient) -> None:
    server.on("POST", f"{RUNS}/sync", breaks, breaks, gives(DONE | {"Outputs": OUT}))
    await client.run("f", idempotency_key="mine")
    assert {asked.headers["Idempotency-Key"] for asked in server.asked} == {"mine"}


async def test_a_run_that_takes_longer_is_followed_to_its_end(server: FakeServer, client: AsyncClient) -> None:
    server.on("POST", f"{RUNS}/sync", gives(RUN, 202))
    ends(server, event(2, "node_completed", "n"), event(9, "run_completed"))
    assert (await client.run("f")).values == {"out": "hello"}


async def test_who_waits_no_longer_learns_the_run_by_the_same_request(server: FakeServer, client: AsyncClient) -> None:
    server.on("POST", f"{RUNS}/sync", never)
    server.on("POST", RUNS, gives(RUN, 202))
    with pytest.raises(CallTimeout, match="run_1 was not over within") as raised:
        await client.run("f", message="m", wait_s=0.01)
    assert raised.value.run_id == "run_1"
    assert server.asked[-1].path == RUNS
    assert len({(asked.body, asked.headers["Idempotency-Key"]) for asked in server.asked}) == 1


async def test_a_call_that_is_too_slow_is_given_up(server: FakeServer) -> None:
    server.on("GET", RUN_1, never)
    async with AsyncClient(server.url, timeout_s=0.01, backoff=Backoff(tries=1)) as client:
        with pytest.raises(CallTimeout, match="did not answer within"):
            await client.get_run("run_1")


async def test_a_job_is_waited_for_no_longer_than_said(server: FakeServer, client: AsyncClient) -> None:
    server.on("GET", f"{RUN_1}/events", never)
    with pytest.raises(CallTimeout) as raised:
        await client.job("run_1").wait(0.01)
    assert raised.value.run_id == "run_1"


async def test_evaluations_are_waited_for_when_asked(
    server: FakeServer, client: AsyncClient, waits: list[float]
) -> None:
    ends(server, event(9, "run_completed"))
    pending, done = ({"Name": "sharp", "Status": status} for status in ("pending", "done"))
    server.on("POST", f"{RUNS}/sync", gives(DONE | {"Evals": [pending]}))
    server.on("GET", f"{RUN_1}/evals", gives({"Evals": [pending]}), gives({"Evals": [done]}))
    result = await client.run("f", evals=EvalsWish(run_mode="block"))
    assert [(each.name, each.status) for each in result.evals] == [("sharp", "done")]
    assert len(waits) == 1


async def test_a_failure_raises_when_asked_to(server: FakeServer, client: AsyncClient) -> None:
    error = {"Code": "NODE_EXIT", "Message": "exit code 3", "NodeID": "n"}
    server.on("POST", f"{RUNS}/sync", gives(RUN | {"Status": "ERROR", "Error": error}))
    with pytest.raises(RunFailed, match="exit code 3") as raised:
        (await client.run("f")).raise_for_status()
    assert (raised.value.code, raised.value.node_id) == ("NODE_EXIT", "n")
    stopped = RUN | {"Status": "STOPPED", "StatusReason": "cancelled"}
    server._answers["POST", f"{RUNS}/sync"] = [gives(stopped)]
    with pytest.raises(RunFailed, match="was stopped: cancelled") as raised:
        (await client.run("f")).raise_for_status()
    assert raised.value.code == "CANCELLED"


async def test_a_run_that_asks_is_paused_and_resumed(server: FakeServer, client: AsyncClient) -> None:
    server.on("POST", f"{RUNS}/sync", gives(PAUSED))
    server.on("POST", f"{RUN_1}/resume", gives(RUN))
    ends(server, ASKS, event(9, "run_completed"))
    # The question comes again with the events from the first; the run says that it is answered.
    server._answers["GET", RUN_1] = [gives(RUN), gives(DONE)]
    paused = await client.run("f")
    assert isinstance(paused, AsyncPausedResult)
    assert [call.name for call in paused.tool_calls["n"]] == ["ask"]
    assert (await paused.resume({"c1": {"rain": True}})).status == "COMPLETE"
    answer = {"ToolResults": [{"ToolCallID": "c1", "Content": {"rain": True}}]}
    assert bodies(server, f"{RUN_1}/resume") == [answer]


def asks_once(server: FakeServer, *answers: Answer) -> None:
    server.on("POST", RUNS, gives(RUN, 202))
    server.on("POST", f"{RUN_1}/resume", *(answers or (gives(RUN),)))
    server.on("POST", f"{RUN_1}/cancel", gives(RUN))
    ends(server, ASKS, event(9, "run_completed"))


async def test_a_handler_answers_each_call(server: FakeServer, client: AsyncClient) -> None:
    asks_once(server)
    seen: list[ToolCallAnswer] = []

    async def answer(call: ToolCallAnswer) -> str:
        seen.append(call)
        return f"of {call.arguments['of']}"

    assert (await client.run("f", tool_handler=answer)).status == "COMPLETE"
    assert [call.id for call in seen] == ["c1"]
    told = {"ToolResults": [{"ToolCallID": "c1", "Content": "of x"}], "NodeID": "n"}
    assert bodies(server, f"{RUN_1}/resume") == [told]


async def test_an_answer_whose_receipt_was_lost_counts(server: FakeServer, client: AsyncClient) -> None:
    late = gives({"Error": {"Code": "NOT_WAITING_FOR_TOOLS", "Message": "not now"}}, 409)
    asks_once(server, breaks, late)
    assert (await client.run("f", tool_handler={"ask": lambda of: of})).status == "COMPLETE"
    assert len(bodies(server, f"{RUN_1}/resume")) == 2


async def test_an_answer_that_does_not_fit_ends_the_run(server: FakeServer, client: AsyncClient) -> None:
    asks_once(server, gives({"Error": {"Code": "TOOL_RESULTS_MISMATCH", "Message": "no"}}, 422))
    with pytest.raises(ToolResultsMismatch):
        await client.run("f", tool_handler={"ask": lambda of: of})
    assert f"{RUN_1}/cancel" in [asked.path for asked in server.asked]


async def test_a_handler_without_the_name_or_with_a_fault_ends_the_run(server: FakeServer, client: AsyncClient) -> None:
    asks_once(server)
    with pytest.raises(Exception, match="asks for 'ask', which tool_handler has not"):
        await client.run("f", tool_handler={"other": lambda of: of})
    with pytest.raises(ZeroDivisionError):
        await client.run("f", tool_handler=lambda call: 1 / 0)
    assert [asked.path for asked in server.asked].count(f"{RUN_1}/cancel") == 2


async def test_a_node_that_asks_once_too_often_ends_the_run(server: FakeServer, client: AsyncClient) -> None:
    asks_once(server)
    server._answers["GET", f"{RUN_1}/events"] = [
        streams(*(event(seq, "tool_calls_required", "n", ToolCalls=[CALL]) for seq in (3, 5, 7)))
    ]
    with pytest.raises(ToolCallLimitError, match="more than 2 times") as raised:
        await client.run("f", tool_handler={"ask": lambda of: of}, max_tool_rounds=2)
    assert (raised.value.run_id, raised.value.node_id, raised.value.rounds) == ("run_1", "n", 2)
    assert len(bodies(server, f"{RUN_1}/resume")) == 2


async def test_a_stream_shows_what_was_asked_for_and_answers_the_rest(server: FakeServer, client: AsyncClient) -> None:
    asks_once(server)
    stream = client.stream("f", types=("node_started",), tool_handler={"ask": lambda of: of})
    assert stream.run_id == ""
    assert [each.type async for each in stream] == ["run_completed"]
    assert (stream.run_id, len(bodies(server, f"{RUN_1}/resume"))) == ("run_1", 1)
    assert [each.type async for each in stream] == ["run_completed"]
    assert len(bodies(server, f"{RUN_1}/resume")) == 1
    assert len(bodies(server, RUNS)) == 1
    asked = next(asked for asked in server.asked if asked.path.endswith("/events"))
    assert set(asked.query["types"].split(",")) == {"node_started", "tool_calls_required"}


async def test_steps_are_the_nodes_alone(server: FakeServer, client: AsyncClient) -> None:
    server.on("POST", RUNS, gives(RUN, 202))
    ends(server, event(4, "node_completed", "n"), event(9, "run_completed"))
    assert [each.node_id async for each in client.steps("f")] == ["n"]


async def test_nobody_answers_for_who_has_left(client: AsyncClient) -> None:
    with pytest.raises(TypeError, match="run_async does not wait"):
        await client.run_async("f", tool_handler=print)  # type: ignore[call-arg]


async def test_a_replay_says_where_it_begins(server: FakeServer, client: AsyncClient) -> None:
    server.on("POST", f"{RUN_1}/replay", gives(RUN | {"ID": "run_2"}, 202))
    assert (await client.replay("run_1", {"in": "x"}, from_node="n", failed_only=True, trace=True)).id == "run_2"
    [body] = bodies(server, f"{RUN_1}/replay")
    assert body == {"Inputs": {"in": "x"}, "From": "n", "FailedOnly": True, "Trace": True}


async def test_address_and_key_come_from_the_environment(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUPLOAD_URL", server.url + "/")
    monkeypatch.setenv("PUPLOAD_API_KEY", "pup_1")
    server.on("GET", RUN_1, gives(RUN))
    async with AsyncClient() as client:
        await client.get_run("run_1")
    assert server.asked[0].headers["Authorization"] == "Bearer pup_1"
    monkeypatch.delenv("PUPLOAD_URL")
    assert AsyncClient().base_url == "http://127.0.0.1:1234"
