"""A loop of steps: what each call says, and what happens between them."""

import json
from typing import Any

import pytest

from pupload.client import AsyncClient, Json, Override, StaleTree
from pupload.errors import CallerError
from tests.support.fake_server import Answer, FakeServer, breaks, event, gives, streams

RUN: dict[str, Any] = {
    "ID": "run_1", "FlowName": "f", "Status": "COMPLETE", "SessionID": "ses_1", "CreatedAt": "2026-01-02T03:04:05Z",
}  # fmt: skip
STEP = "/api/v1/flows/f/runs/step"


def paused(index: int, ran: str, ahead: str) -> Answer:
    """The end of a step after which a node is left."""
    outputs = {"$inputs": {"e0": "ref_in"}, ran: {"e1": f"ref_{index}"}}
    run = RUN | {"NodeState": {ran: {"Status": "COMPLETE", "Attempt": 1}, ahead: {"Status": "SKIPPED"}}}
    place: dict[str, Any] = {"RunID": "run_1", "StepIndex": index + 1, "NextNode": ahead, "Definition": "d"}
    return streams(event(9, "step_paused", **place, AccumulatedOutputs=outputs, Run=run))


def said(server: FakeServer) -> list[Any]:
    return [asked.json for asked in server.asked if asked.path == STEP]


AHEAD = {
    "RunID": "run_1",
    "StepIndex": 1,
    "Definition": "d",
    "AccumulatedOutputs": {"$inputs": {"e0": "ref_in"}, "a": {"e1": "ref_0"}},
    "SessionID": "ses_1",
}


async def test_each_call_says_where_the_last_one_paused(server: FakeServer, client: AsyncClient) -> None:
    server.on("POST", STEP, paused(0, "a", "b"), streams(event(9, "run_completed")))
    server.on("GET", "/api/v1/runs/run_1", gives(RUN | {"NodeState": {"b": {"Status": "COMPLETE", "Attempt": 1}}}))
    loop = client.step_through("f", {"e0": "x"}, message="m", version=1)
    steps = [step async for step in loop]
    assert [(step.index, step.ran, step.next_node) for step in steps] == [(0, ["a"], "b"), (1, ["b"], "")]
    assert said(server) == [{"Inputs": {"e0": "x"}, "Message": "m", "Version": 1}, {"Version": 1} | AHEAD]
    assert loop.last is steps[-1]


async def test_what_is_said_between_steps_goes_with_all_that_follow(server: FakeServer, client: AsyncClient) -> None:
    server.on("POST", STEP, paused(0, "a", "b"), paused(1, "b", "c"), streams(event(9, "run_completed")))
    server.on("GET", "/api/v1/runs/run_1", gives(RUN))
    given: dict[str, Override | Json] = {"b.width": 1, "b.height": 2, "c": Override(tier="c-nano")}
    loop = client.step_through("f", overrides=given)
    await anext(loop)
    loop.override("b", flags={"width": 3}, env={"A": "1"})
    loop.override("b", flags={"depth": None}, env={"B": "2"}, max_attempts=1)
    loop.replace("e1", {"edited": True})
    await anext(loop)
    loop.run_remaining()
    await anext(loop)
    first, second, third = said(server)
    assert first["Overrides"] == {"b.width": 1, "b.height": 2, "c": {"Tier": "c-nano"}}
    assert second["Overrides"] == {
        "b.height": 2,
        "b": {"Flags": {"width": 3, "depth": None}, "Env": {"A": "1", "B": "2"}, "MaxAttempts": 1},
        "c": {"Tier": "c-nano"},
    }
    assert (second["InputOverrides"], "RunRemaining" in second) == ({"e1": {"edited": True}}, False)
    assert (third["Overrides"], third["InputOverrides"]) == (second["Overrides"], second["InputOverrides"])
    assert third["RunRemaining"] is True


async def test_a_step_is_taken_again_from_where_it_was(server: FakeServer, client: AsyncClient) -> None:
    server.on("POST", STEP, paused(0, "a", "b"), streams(event(9, "run_failed")), streams(event(9, "run_completed")))
    server.on("GET", "/api/v1/runs/run_1", gives(RUN | {"Status": "ERROR"}))
    loop = client.step_through("f")
    with pytest.raises(CallerError, match="no step yet"):
        loop.repeat()
    await anext(loop)
    assert (await anext(loop)).run.status == "ERROR"
    with pytest.raises(StopAsyncIteration):
        await anext(loop)
    loop.repeat()
    await anext(loop)
    _, failed, again = said(server)
    assert failed == again == AHEAD


async def test_a_step_that_was_cut_off_is_asked_for_again_by_its_key(server: FakeServer, client: AsyncClient) -> None:
    cut = streams(event(1, "run_started"), then_cut=True)
    server.on("POST", STEP, cut, breaks, paused(0, "a", "b"))
    assert (await anext(client.step_through("f"))).next_node == "b"
    keys = {asked.headers["Idempotency-Key"] for asked in server.asked}
    assert (len(keys), len({json.dumps(body) for body in said(server)})) == (1, 1)


async def test_a_stale_loop_is_told_by_its_class(server: FakeServer, client: AsyncClient) -> None:
    server.on("POST", STEP, gives({"Error": {"Code": "STALE_TREE", "Message": "published anew"}}, 409))
    with pytest.raises(StaleTree):
        await anext(client.step_through("f"))
    assert len(server.asked) == 1
    with pytest.raises(CallerError, match="no step was taken"):
        await client.step_through("f").result()
