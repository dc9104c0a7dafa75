"""Calls: what is sent, what is repeated, what an answer means."""

from typing import Any

import pytest

from pupload.client.backoff import Backoff
from pupload.client.client import AsyncClient
from pupload.client.errors import (
    ApiError,
    BadRequest,
    InsufficientCredits,
    NotAllowed,
    NotAuthorized,
    OverLimit,
    ServerFault,
    ServerUnreachable,
    TooManyCalls,
    UnknownThing,
    Unprocessable,
    WrongState,
)
from pupload.client.streams import is_over
from tests.support.fake_server import FakeServer, breaks, gives, says

RUN = {"ID": "run_1", "FlowName": "f", "Status": "RUNNING", "CreatedAt": "2026-01-02T03:04:05Z", "Novelty": [1]}
BUSY = gives({"Error": {"Code": "UNAVAILABLE", "Message": "later"}}, 503)


async def test_the_token_goes_with_every_call(server: FakeServer, client: AsyncClient) -> None:
    server.on("GET", "/api/v1/runs/run_1", gives(RUN))
    await client.get_run("run_1")
    assert server.asked[0].headers["Authorization"] == "Bearer secret"


async def test_members_of_a_newer_server_are_ignored(server: FakeServer, client: AsyncClient) -> None:
    server.on("GET", "/api/v1/runs/run_1", gives(RUN))
    run = await client.get_run("run_1")
    assert (run.id, run.status, is_over(run)) == ("run_1", "RUNNING", False)


async def test_ids_are_quoted_in_paths(server: FakeServer, client: AsyncClient) -> None:
    server.on("GET", "/api/v1/runs/a/b?c", gives(RUN))
    await client.get_run("a/b?c")
    assert server.asked[0].path == "/api/v1/runs/a%2Fb%3Fc"


async def test_a_flow_is_posted_as_it_is_given(server: FakeServer, client: AsyncClient) -> None:
    server.on("POST", "/api/v1/flow/test", gives(RUN))
    await client.test({"name": "x"}, [{"image": "y"}], "key-1")
    assert server.asked[0].json == {"Flow": {"name": "x"}, "NodeDefs": [{"image": "y"}]}
    assert server.asked[0].headers["Idempotency-Key"] == "key-1"


async def test_a_call_that_may_be_repeated_is(server: FakeServer, client: AsyncClient, waits: list[float]) -> None:
    # The HTTP library itself asks once more, at once, after the first break.
    server.on("GET", "/api/v1/runs/run_1", breaks, breaks, BUSY, gives(RUN))
    assert (await client.get_run("run_1")).id == "run_1"
    assert waits == [0.2, 0.4]


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_a_fault_that_passes_is_not_seen(server: FakeServer, client: AsyncClient, status: int) -> None:
    server.on("GET", "/api/v1/runs/run_1", says("", status), gives(RUN))
    assert (await client.get_run("run_1")).id == "run_1"


async def test_the_last_failure_is_raised_when_no_try_is_left(server: FakeServer, client: AsyncClient) -> None:
    server.on("GET", "/api/v1/runs/run_1", BUSY)
    with pytest.raises(ServerFault, match="later"):
        await client.get_run("run_1")
    assert len(server.asked) == 3


async def test_retry_after_is_obeyed(server: FakeServer, client: AsyncClient, waits: list[float]) -> None:
    full = gives({"Error": {"Code": "RATE", "Message": "slow down"}}, 429, Retry_After="7")
    server.on("GET", "/api/v1/runs/run_1", full, gives(RUN))
    await client.get_run("run_1")
    assert waits == [7.0]


async def test_a_lost_answer_never_makes_two_runs(server: FakeServer, client: AsyncClient) -> None:
    server.on("POST", "/api/v1/flow/test", breaks, gives(RUN))
    await client.test({}, [])
    first, again = (asked.headers["Idempotency-Key"] for asked in server.asked)
    assert first == again
    await client.test({}, [])
    assert server.asked[-1].headers["Idempotency-Key"] != first


async def test_what_has_no_key_and_may_have_been_done_is_not_done_again(
    server: FakeServer, client: AsyncClient
) -> None:
    server.on("POST", "/api/v1/sessions", BUSY)
    with pytest.raises(ServerFault):
        await client.sessions.create()
    assert len(server.asked) == 1


async def test_what_was_refused_for_being_too_many_is_done_again(server: FakeServer, client: AsyncClient) -> None:
    full = gives({"Error": {"Code": "RATE", "Message": "slow down"}}, 429, Retry_After="3")
    moment = "2026-01-02T03:04:05Z"
    server.on("POST", "/api/v1/sessions", full, gives({"ID": "ses_1", "CreatedAt": moment, "UsedAt": moment}, 201))
    assert (await client.sessions.create({"user": "Ada"})).id == "ses_1"
    assert server.asked[-1].json == {"Variables": {"user": "Ada"}}


async def test_a_run_is_created_again_with_the_same_key(server: FakeServer, client: AsyncClient) -> None:
    server.on("POST", "/api/v1/flow/test", breaks, gives(RUN))
    await client.test({}, [], "key-1")
    assert [asked.headers["Idempotency-Key"] for asked in server.asked] == ["key-1", "key-1"]


async def test_who_does_not_wait_for_a_run_cannot_answer_its_questions(server: FakeServer, client: AsyncClient) -> None:
    how: Any = {"tool_handler": print}
    with pytest.raises(TypeError, match="tool_handler"):
        await client.run_async("flow", **how)
    assert server.asked == []


async def test_a_refusal_is_not_repeated(server: FakeServer, client: AsyncClient) -> None:
    server.on("POST", "/api/v1/runs/run_1/cancel", gives({"Error": {"Code": "X", "Message": "no"}}, 409))
    with pytest.raises(WrongState):
        await client.cancel("run_1")
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequest),
        (401, NotAuthorized),
        (402, InsufficientCredits),
        (403, NotAllowed),
        (404, UnknownThing),
        (409, WrongState),
        (413, OverLimit),
        (418, ApiError),
        (422, Unprocessable),
        (429, TooManyCalls),
        (500, ServerFault),
    ],
)
async def test_each_status_has_its_class(
    server: FakeServer, client: AsyncClient, status: int, kind: type[ApiError]
) -> None:
    body = {"Error": {"Code": "THE_CODE", "Message": "the message", "Details": [{"Code": "A"}], "RequestID": "r-1"}}
    server.on("GET", "/api/v1/runs/run_1", gives(body, status))
    with pytest.raises(kind) as raised:
        await client.get_run("run_1")
    error = raised.value
    assert type(error) is kind
    assert (error.status, error.code, error.message) == (status, "THE_CODE", "the message")
    assert (error.details, error.request_id) == (({"Code": "A"},), "r-1")


async def test_the_lower_case_error_of_the_reference_routes_is_read(server: FakeServer, client: AsyncClient) -> None:
    server.on("POST", "/api/v1/flow/test", gives({"error": {"Code": "INVALID_FLOW", "Message": "a cycle"}}, 400))
    with pytest.raises(BadRequest, match="a cycle"):
        await client.test({}, [])


async def test_an_answer_without_json_is_its_own_message(server: FakeServer, client: AsyncClient) -> None:
    server.on("GET", "/api/v1/runs/run_1", says("Flow run does not exist.", 400))
    with pytest.raises(BadRequest, match=r"Flow run does not exist\."):
        await client.get_run("run_1")


async def test_no_server_at_all_is_unreachable_and_named(server: FakeServer) -> None:
    async with AsyncClient("http://127.0.0.1:1", backoff=Backoff(tries=1)) as client:
        with pytest.raises(ServerUnreachable, match=r"http://127\.0\.0\.1:1 does not answer: connection refused"):
            await client.get_run("run_1")


async def test_ready_asks_once(server: FakeServer, client: AsyncClient) -> None:
    server.on("GET", "/readyz", BUSY)
    assert await client.ready() is False
    assert len(server.asked) == 1


async def test_filters_of_the_list_go_into_the_query(server: FakeServer, client: AsyncClient) -> None:
    server.on("GET", "/api/v1/runs", gives({"Runs": [RUN], "NextCursor": "c"}))
    page = await client.runs(flow="f", limit=1)
    assert (page.runs[0].id, page.next_cursor) == ("run_1", "c")
    assert server.asked[0].query == {"flow": "f", "limit": "1"}


async def test_delete_has_no_answer(server: FakeServer, client: AsyncClient) -> None:
    server.on("DELETE", "/api/v1/runs/run_1", says("", 204))
    await client.delete("run_1")
    assert [asked.method for asked in server.asked] == ["DELETE"]


async def test_workers_and_tiers_are_read(server: FakeServer, client: AsyncClient) -> None:
    tier = {"Name": "c-nano", "Cpu": 1, "MemoryBytes": 2, "DiskBytes": 3, "Gpu": None}
    server.on("GET", "/api/v1/workers", gives({"Workers": [{"ID": "w", "Name": "n", "Live": True}]}))
    server.on("GET", "/api/v1/tiers", gives({"Tiers": [tier]}))
    assert [worker.name for worker in await client.workers()] == ["n"]
    assert [each.name for each in await client.tiers()] == ["c-nano"]
