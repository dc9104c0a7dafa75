"""Streams: every event once, however often the connection breaks."""

from collections.abc import AsyncIterator

import pytest

from pupload.client.client import AsyncClient
from pupload.client.errors import ServerUnreachable, UnknownThing
from pupload.client.sse import Frame, frames
from tests.support.fake_server import FakeServer, breaks, event, gives, streams

EVENTS = "/api/v1/runs/run_1/events"


async def seen(client: AsyncClient, after: int = 0, types: tuple[str, ...] = ()) -> list[int]:
    return [each.seq async for each in client.events("run_1", after, types)]


async def test_events_come_up_to_the_last_one(server: FakeServer, client: AsyncClient) -> None:
    server.on("GET", EVENTS, streams(event(1, "run_started"), ": ping\n\n", event(2, "run_completed"), event(3, "x")))
    assert await seen(client) == [1, 2]


async def test_a_broken_stream_goes_on_where_it_was(server: FakeServer, client: AsyncClient) -> None:
    server.on(
        "GET", EVENTS,
        streams(event(1, "run_started"), event(2, "node_started"), then_cut=True),
        breaks,
        streams(event(3, "run_failed")),
    )  # fmt: skip
    assert await seen(client) == [1, 2, 3]
    assert [asked.headers.get("Last-Event-ID") for asked in server.asked] == [None, "2", "2"]


async def test_a_stream_that_ends_early_is_opened_again(server: FakeServer, client: AsyncClient) -> None:
    server.on("GET", EVENTS, streams(event(1, "run_started")), streams(event(2, "run_cancelled")))
    assert await seen(client) == [1, 2]


async def test_half_a_frame_is_not_an_event(server: FakeServer, client: AsyncClient) -> None:
    half = event(2, "node_started")[:30]
    whole = (event(2, "node_started"), event(3, "run_completed"))
    server.on("GET", EVENTS, streams(event(1, "run_started"), half, then_cut=True), streams(*whole))
    assert await seen(client) == [1, 2, 3]


async def test_a_caller_may_begin_in_the_middle(server: FakeServer, client: AsyncClient) -> None:
    server.on("GET", EVENTS, streams(event(8, "run_completed")))
    assert await seen(client, after=7) == [8]
    assert server.asked[0].headers["Last-Event-ID"] == "7"


async def test_types_are_asked_for(server: FakeServer, client: AsyncClient) -> None:
    server.on("GET", EVENTS, streams(event(8, "run_completed")))
    await seen(client, types=("node_completed", "node_failed"))
    assert server.asked[0].query == {"types": "node_completed,node_failed"}


async def test_an_unknown_run_is_not_asked_for_again(server: FakeServer, client: AsyncClient) -> None:
    server.on("GET", EVENTS, gives({"Error": {"Code": "RUN_NOT_FOUND", "Message": "no such run"}}, 404))
    with pytest.raises(UnknownThing):
        await seen(client)
    assert len(server.asked) == 1


async def test_a_server_that_stays_away_ends_the_stream(server: FakeServer, client: AsyncClient) -> None:
    server.on("GET", EVENTS, breaks)
    with pytest.raises(ServerUnreachable):
        await seen(client)


async def test_a_followed_log_has_only_the_lines_of_its_node(server: FakeServer, client: AsyncClient) -> None:
    line = {"Message": "hello", "Level": "info", "Stream": "stdout", "Fields": {}, "Attempt": 1}
    server.on(
        "GET", EVENTS,
        streams(
            event(1, "node_log", "other", **line), event(2, "node_log", "mine", **line), event(3, "run_completed")
        ),
    )  # fmt: skip
    assert [each.message async for each in client.logs("run_1", "mine", follow=True)] == ["hello"]


async def test_a_whole_log_is_read(server: FakeServer, client: AsyncClient) -> None:
    record = {"timestamp": "2026-01-02T03:04:05Z", "message": "m", "level": "info", "stream": "stdout", "fields": {}}
    server.on("GET", "/api/v1/runs/run_1/nodes/n/logs", gives({"Logs": [record]}))
    assert [each.message async for each in client.logs("run_1", "n")] == ["m"]


async def pieces(content: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_frames_do_not_depend_on_how_the_bytes_come(size: int) -> None:
    content = "id: 1\r\nevent: a\r\ndata: é1\r\ndata:2\r\n\r\n: note\n\nretry: 5\n\ndata: last\n\ndata: cut".encode()
    found = [frame async for frame in frames(pieces(content, size))]
    assert found == [Frame("é1\n2", "a", "1"), Frame("last")]
