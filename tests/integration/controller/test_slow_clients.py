"""Clients that let the server wait, or give it more than it asked for, at the socket."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from pupload.stores.base import Store
from tests.support.controller import REFERENCE, ControllerUnderTest, a_controller
from tests.support.sockets import Line, a_line
from tests.support.until import until

pytestmark = pytest.mark.integration

POST = "POST /api/v1/flow/test HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
HEALTH = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
async def controller(database_dsn: str, store: Store, tmp_path: Path) -> AsyncIterator[ControllerUnderTest]:
    """A controller without much patience, and with few connections."""
    settings = {"slow_s": 0.5, "slow_bytes_per_s": 20_000, "max_connections": 20, "max_body_bytes": 100_000}
    async with a_controller(database_dsn, store, tmp_path, **settings) as running:
        yield running


async def drip(line: Line, text: str) -> None:
    """Say it again and again, a little at a time, until the server hangs up."""
    while await line.say(text):  # noqa: ASYNC110 - there is no event: it drips
        await asyncio.sleep(0.02)


SLOW = {
    "silent": ("", ""),
    "half a head": ("GET /healthz HTTP/1.1\r\n", ""),
    "dripping head": ("GET /healthz HTTP/1.1\r\n", "X-More: 1\r\n"),
    "dripping second head": (f"{HEALTH}GET /", "a"),
    "no body": (f"{POST}Content-Length: 90000\r\n\r\n", ""),
    "dripping body": (f"{POST}Content-Length: 90000\r\n\r\n", " "),
    "dripping chunks": (f"{POST}Transfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n"),
}


async def test_who_lets_the_server_wait_is_cut_off(controller: ControllerUnderTest) -> None:
    async def let_wait(begin: str, more: str) -> bytes:
        async with a_line(controller.url) as line:
            await line.say(begin)
            dripping = asyncio.create_task(drip(line, more)) if more else None
            heard = await line.until_closed()
            if dripping:
                await dripping
            return heard

    heard = dict(zip(SLOW, await asyncio.gather(*(let_wait(*how) for how in SLOW.values())), strict=True))
    assert b"HTTP/1.1 200" in heard.pop("dripping second head")
    assert set(heard.values()) == {b""}
    await controller.get("/healthz")


async def test_who_only_waits_for_the_server_is_not_cut_off(controller: ControllerUnderTest) -> None:
    run = await controller.post("/api/v1/flow/test", REFERENCE)
    async with a_line(controller.url) as stream, a_line(controller.url) as late:
        await stream.say(f"GET /api/v1/runs/{run['ID']}/events HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await stream.status() == 200
        await late.say(HEALTH)
        assert await late.status() == 200
        for _ in range(3):
            async with a_line(controller.url) as slow:
                await slow.until_closed()
        await controller.post(f"/api/v1/runs/{run['ID']}/cancel")
        assert b"run_cancelled" in await stream.reader.readuntil(b"run_cancelled")
        await late.say(HEALTH)
        await late.reader.readuntil(b"}")
        assert await late.status() == 200


async def test_a_body_without_end_is_refused_as_soon_as_it_is_too_long(controller: ControllerUnderTest) -> None:
    async def pour(line: Line) -> None:
        while await line.say(b"10000\r\n" + b" " * 65536 + b"\r\n"):
            pass

    for length in ("Content-Length: 1000000", "Transfer-Encoding: chunked"):
        async with a_line(controller.url) as line:
            await line.say(f"{POST}{length}\r\n\r\n")
            pouring = asyncio.create_task(pour(line))
            assert await line.status() == 413
            await line.until_closed()
            await pouring


async def test_a_reader_that_reads_nothing_is_cut_off_and_nothing_piles_up(controller: ControllerUnderTest) -> None:
    run = await controller.post("/api/v1/flow/test", REFERENCE)
    async with controller.running.parts.service.database.connection() as connection:
        await connection.execute(
            "INSERT INTO events (run_id, seq, type, node_id, data) SELECT $1, 1000 + n, 'node_log', 'resize-1', "
            "json_build_object('message', repeat('x', 100000)) FROM generate_series(1, 300) n",
            run["ID"],
        )
    async with a_line(controller.url, limit=1) as line:
        await line.say(f"GET /api/v1/runs/{run['ID']}/events HTTP/1.1\r\nHost: x\r\n\r\n")
        connections = controller.running.connections
        await until(lambda: len(connections) >= 2)
        most = 0
        while len(connections) > 1:
            most = max(most, connections.unsent_bytes)
            await asyncio.sleep(0.01)
        assert most < 2_000_000


async def test_idle_connections_make_room_for_new_ones(controller: ControllerUnderTest) -> None:
    async with AsyncExitStack() as stack:
        idle = [await stack.enter_async_context(a_line(controller.url)) for _ in range(60)]
        for _ in range(5):
            async with a_line(controller.url) as line:
                await line.say(HEALTH)
                assert await line.status() == 200
        assert len(controller.running.connections) <= 20
        assert await idle[0].until_closed() == b""


async def test_no_more_connections_are_held_than_there_may_be(controller: ControllerUnderTest) -> None:
    run = await controller.post("/api/v1/flow/test", REFERENCE)
    async with AsyncExitStack() as stack:
        for _ in range(30):
            line = await stack.enter_async_context(a_line(controller.url))
            await line.say(f"GET /api/v1/runs/{run['ID']}/events HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: len(controller.running.connections) == 20)
        assert len(controller.running.connections) == 20
    await until(lambda: len(controller.running.connections) < 20)
    await controller.post(f"/api/v1/runs/{run['ID']}/cancel")


HEADS = [
    "GET /healthz HTTP/1.1\r\n" + "".join(f"X-{n}: 1\r\n" for n in range(5000)),
    f"GET /healthz HTTP/1.1\r\nX-Long: {'x' * 100_000}\r\n",
    f"GET /{'x' * 100_000} HTTP/1.1\r\n",
]


async def test_requests_have_their_measure(controller: ControllerUnderTest) -> None:
    async with a_line(controller.url) as line:
        await line.say(HEALTH * 200 + "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await line.until_closed()).count(b"HTTP/1.1 200") == 201
    for head in HEADS:
        async with a_line(controller.url) as line:
            await line.say(head + "\r\n")
            # It hangs up on what it has not read, so that its answer may be lost on the way.
            heard = await line.until_closed()
            assert heard == b"" or b" 400 Bad Request" in heard
    for body in ("[" * 20_000, '{"a":' * 10_000, "[" * 40 + "]" * 40):
        async with controller.http.post(f"{controller.url}/api/v1/flow/test", data=body) as response:
            assert response.status == 400
