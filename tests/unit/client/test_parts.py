"""Uploads to awaited edges: in one piece, in parts, gone on with."""

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pupload.client import AsyncClient, NotAwaited, UploadBroken, UploadEnded
from pupload.errors import Malformed
from tests.support.fake_server import FakeServer, breaks, gives, says

UPLOADS = "/api/v1/runs/run_1/uploads/in"
UPLOAD: dict[str, Any] = {
    "ID": "upl_1", "RunID": "run_1", "EdgeName": "in", "Status": "open", "Size": 25, "PartSize": 10, "PartCount": 3,
    "CreatedAt": "2026-01-02T03:04:05Z", "ExpiresAt": "2026-01-02T03:04:05Z",
}  # fmt: skip
RUN = {"ID": "run_1", "FlowName": "f", "Status": "WAITING", "CreatedAt": "2026-01-02T03:04:05Z"}
CONTENT = bytes(range(25))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.bin"
    path.write_bytes(CONTENT)
    return path


def takes_parts(server: FakeServer) -> None:
    async def sign(request: web.Request) -> web.StreamResponse:
        [number] = (await request.json())["Numbers"]
        part = {"Number": number, "Size": 10 if number < 3 else 5, "PutURL": f"{server.url}/part/{number}", "TTL": 60}
        return web.json_response({"Parts": [part]})

    server.on("POST", UPLOADS, gives(UPLOAD, 201))
    server.on("POST", f"{UPLOADS}/upl_1/parts", sign)
    server.on("POST", f"{UPLOADS}/upl_1/complete", gives(RUN))
    for number in (1, 2, 3):
        server.on("PUT", f"/part/{number}", says("", 200))


def put(server: FakeServer) -> dict[str, bytes]:
    return {asked.path: asked.body for asked in server.asked if asked.method == "PUT"}


async def test_all_parts_are_sent_and_the_upload_completed(
    server: FakeServer, client: AsyncClient, source: Path
) -> None:
    takes_parts(server)
    seen: list[int] = []
    await client.upload("run_1", "in", source, seen.append, part_size=10)
    assert put(server) == {"/part/1": CONTENT[:10], "/part/2": CONTENT[10:20], "/part/3": CONTENT[20:]}
    assert json.loads(server.asked[0].body) == {"Size": 25, "PartSize": 10}
    assert (server.asked[-1].path, max(seen)) == (f"{UPLOADS}/upl_1/complete", 25)


async def test_an_upload_whose_beginning_was_not_answered_is_begun_again(
    server: FakeServer, client: AsyncClient, source: Path
) -> None:
    server.on("POST", UPLOADS, breaks)
    takes_parts(server)
    await client.upload("run_1", "in", source, part_size=10)
    assert [asked.path for asked in server.asked].count(UPLOADS) == 2
    assert b"".join(put(server)[f"/part/{number}"] for number in (1, 2, 3)) == CONTENT


async def test_a_broken_upload_goes_on_with_what_is_missing(
    server: FakeServer, client: AsyncClient, source: Path
) -> None:
    takes_parts(server)
    server._answers["PUT", "/part/2"] = [breaks]
    with pytest.raises(UploadBroken, match="upl_1 can be gone on with") as raised:
        await client.upload("run_1", "in", source, part_size=10)
    assert raised.value.upload_id == "upl_1"
    server._answers["PUT", "/part/2"] = [says("", 200)]
    server.on("GET", f"{UPLOADS}/upl_1", gives(UPLOAD | {"Parts": [{"Number": n, "Size": 10} for n in (1, 3)]}))
    server.asked.clear()
    seen: list[int] = []
    await client.upload("run_1", "in", source, seen.append, part_size=10)
    assert (list(put(server)), seen[0], seen[-1]) == (["/part/2"], 15, 25)


async def test_another_program_goes_on_by_the_id(server: FakeServer, client: AsyncClient, source: Path) -> None:
    takes_parts(server)
    whole = UPLOAD | {"Parts": [{"Number": n, "Size": 10} for n in (1, 2, 3)]}
    server.on("GET", f"{UPLOADS}/upl_1", gives(whole), gives(UPLOAD | {"Status": "completed"}))
    await client.upload("run_1", "in", source, upload_id="upl_1")
    await client.upload("run_1", "in", source, upload_id="upl_1")
    assert put(server) == {}
    assert [asked.path for asked in server.asked].count(f"{UPLOADS}/upl_1/complete") == 1


async def test_another_file_is_not_gone_on_with(server: FakeServer, client: AsyncClient, source: Path) -> None:
    server.on("GET", f"{UPLOADS}/upl_1", gives(UPLOAD))
    (other := source.with_name("other")).touch()
    with pytest.raises(Malformed, match="has not the 25 bytes"):
        await client.upload("run_1", "in", other, upload_id="upl_1")


async def test_an_upload_that_was_aborted_is_begun_anew(server: FakeServer, client: AsyncClient, source: Path) -> None:
    takes_parts(server)
    server.on("GET", f"{UPLOADS}/upl_1", gives(UPLOAD | {"Status": "aborted"}))
    server.on("DELETE", f"{UPLOADS}/upl_1", says("", 204))
    begun = await client.begin_upload("run_1", "in", 25, part_size=10)
    await client.abort_upload("run_1", "in", begun.id)
    await client.upload("run_1", "in", source, part_size=10)
    assert [asked.path for asked in server.asked].count(UPLOADS) == 2


def forgets(part: int, server: FakeServer, *then: Any) -> None:
    server._answers["PUT", f"/part/{part}"] = [says("<Error><Code>NoSuchUpload</Code></Error>", 404), *then]


async def test_an_upload_that_the_store_has_forgotten_is_begun_anew(
    server: FakeServer, client: AsyncClient, source: Path
) -> None:
    takes_parts(server)
    forgets(3, server, says("", 200))
    await client.upload("run_1", "in", source, part_size=10)
    assert [asked.path for asked in server.asked].count(UPLOADS) == 2
    assert put(server) == {"/part/1": CONTENT[:10], "/part/2": CONTENT[10:20], "/part/3": CONTENT[20:]}


async def test_an_upload_that_had_ended_when_it_was_to_be_completed_is_begun_anew(
    server: FakeServer, client: AsyncClient, source: Path
) -> None:
    takes_parts(server)
    ended = gives({"Error": {"Code": "UPLOAD_ENDED", "Message": "begin another one"}}, 409)
    server._answers["POST", f"{UPLOADS}/upl_1/complete"] = [ended, gives(RUN)]
    await client.upload("run_1", "in", source, part_size=10)
    assert [asked.path for asked in server.asked].count(UPLOADS) == 2


async def test_a_store_that_keeps_forgetting_is_told_of(server: FakeServer, client: AsyncClient, source: Path) -> None:
    takes_parts(server)
    forgets(2, server)
    with pytest.raises(UploadEnded, match="knows nothing of upload upl_1"):
        await client.upload("run_1", "in", source, part_size=10)
    assert [asked.path for asked in server.asked].count(UPLOADS) == 2


async def test_an_upload_that_somebody_named_is_not_begun_anew(
    server: FakeServer, client: AsyncClient, source: Path
) -> None:
    takes_parts(server)
    forgets(1, server)
    server.on("GET", f"{UPLOADS}/upl_1", gives(UPLOAD))
    with pytest.raises(UploadEnded):
        await client.upload("run_1", "in", source, upload_id="upl_1")


async def test_a_small_file_goes_in_one_piece_to_a_fresh_url(
    server: FakeServer, client: AsyncClient, source: Path
) -> None:
    artifact = {"StoreName": "s", "ObjectName": "o", "EdgeName": "in", "Size": 0}
    urls = [{"Artifact": artifact, "PutURL": f"{server.url}/whole/{n}", "TTL": 60} for n in (1, 2)]
    server.on("GET", "/api/v1/runs/run_1", *(gives(RUN | {"WaitingURLs": [url]}) for url in urls))
    server.on("PUT", "/whole/1", breaks)
    server.on("PUT", "/whole/2", says("", 200))
    late = gives({"Error": {"Code": "ALREADY_UPLOADED", "Message": "it is there"}}, 409)
    server.on("POST", f"{UPLOADS}/complete", late)
    await client.upload("run_1", "in", source)
    assert put(server)["/whole/2"] == CONTENT


async def test_what_is_not_awaited_is_said(server: FakeServer, client: AsyncClient, source: Path) -> None:
    server.on("GET", "/api/v1/runs/run_1", gives(RUN))
    with pytest.raises(NotAwaited, match="awaits no file on edge 'in'; it awaits none"):
        await client.upload("run_1", "in", source)
