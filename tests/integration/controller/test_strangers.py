"""What anybody can send who reaches the port: no HTTP, bodies that are not what they say, pages in a browser."""

import asyncio
import gzip
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pupload.controller.keys import add_key
from pupload.stores.base import Store
from tests.support.controller import REFERENCE, ControllerUnderTest, a_controller
from tests.support.sockets import a_line

pytestmark = pytest.mark.integration

NO_HTTP = {
    "a version of no standard": b"GET / HTTP/9.9\r\n\r\n",
    "a character that no header has": b"GET /healthz HTTP/1.1\r\nA: \x00\r\n\r\n",
    "two lengths": b"GET / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a line without end": b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
    "a chunk of no size": b"POST /api/v1/runs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nabc\r\n",
    "another record": b"GET /\n2026-01-01 00:00:00,000 ERROR forged HTTP/1.1\r\n\r\n",
}
PACKED = {
    "no gzip": b"abcde",
    "a broken gzip": gzip.compress(b"{}")[:-9],
}


@pytest.fixture
async def controller(database_dsn: str, store: Store, tmp_path: Path) -> AsyncIterator[ControllerUnderTest]:
    async with a_controller(database_dsn, store, tmp_path) as running:
        yield running


def loud(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What the log has of it that is more than a line."""
    return [each for each in caplog.records if each.levelno >= logging.ERROR or each.exc_info or "\n" in each.message]


async def test_what_is_no_http_is_a_line_in_the_log(
    controller: ControllerUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    for said in NO_HTTP.values():
        async with a_line(controller.url) as line:
            await line.say(said)
            assert b" 400 " in (await line.until_closed()).partition(b"\r\n")[0]
    told = [each.name for each in caplog.records if each.levelno == logging.WARNING]
    assert told == ["aiohttp.server"] * len(NO_HTTP)
    assert not loud(caplog)


async def test_a_body_that_is_not_packed_as_it_says_is_the_client_s_fault(
    controller: ControllerUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    head = "POST /api/v1/flow/test HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Encoding: gzip\r\n"
    for packed in PACKED.values():
        async with a_line(controller.url) as line:
            await line.say(f"{head}Content-Length: {len(packed)}\r\n\r\n".encode() + packed)
            assert await line.status() == 400
            await line.until_closed()
    assert not loud(caplog)


async def test_a_packed_body_is_refused_by_what_is_in_it(controller: ControllerUnderTest) -> None:
    bomb = gzip.compress(b" " * 50_000_000, 9)
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    async with controller.http.post(f"{controller.url}/api/v1/runs", data=bomb, headers=headers) as response:
        assert response.status == 413


_FILE = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nb\r\n--x--\r\n'
FORMS = {
    "parts": b"--x\r\nA: b\r\n\r\n\r\n" * 20_000 + _FILE,
    "heads": b"--x\r\n" + b"A: b\r\n" * 20_000 + b"\r\n\r\n" + _FILE,
    "lines before the first part": b"a\r\n" * 20_000 + _FILE,
    "forms in forms": b"--x\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n" * 1000 + _FILE,
}


async def test_a_form_is_read_no_further_than_a_form_needs(controller: ControllerUnderTest) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    for form in FORMS.values():
        async with controller.http.post(f"{controller.url}/api/v1/files", data=form, headers=headers) as response:
            assert (response.status, (await response.json())["Error"]["Code"]) == (400, "MALFORMED")


PAGES = {
    "a page elsewhere": {"Origin": "https://evil.example"},
    "a page that hides where it is": {"Origin": "null"},
    "a name that was made to lead here": {"Host": "evil.example"},
    "a name with an end like ours": {"Host": "localhost.evil.example:1234"},
}


async def test_a_stranger_s_page_gets_nothing_while_there_are_no_keys(controller: ControllerUnderTest) -> None:
    for page in PAGES.values():
        refused = await controller.post("/api/v1/runs", REFERENCE, expect=403, headers=page)
        assert refused["Error"]["Code"] == "FOREIGN_PAGE"
        async with controller.http.get(f"{controller.url}/api/v1/runs", headers=page) as response:
            assert response.status == 403
    assert (await controller.get("/api/v1/runs"))["Runs"] == []


CALLERS = {
    "localhost": {"Host": "localhost:1234", "Origin": "http://localhost:5173"},
    "an address": {"Host": "127.0.0.1:1234"},
    "an address of IPv6": {"Host": "[::1]:1234"},
    "a machine of this network": {"Host": "box:1234"},
    "a container's name of this host": {"Host": "host.docker.internal:1234"},
}


async def test_a_caller_on_this_machine_needs_no_more_than_before(controller: ControllerUnderTest) -> None:
    for caller in CALLERS.values():
        async with controller.http.get(f"{controller.url}/api/v1/runs", headers=caller) as response:
            assert response.status == 200


async def test_the_server_s_own_address_is_no_stranger_s(database_dsn: str, store: Store, tmp_path: Path) -> None:
    async with a_controller(database_dsn, store, tmp_path, public_url="https://pup.example.com/api") as controller:
        headers = {"Host": "pup.example.com", "Origin": "https://pup.example.com"}
        async with controller.http.get(f"{controller.url}/api/v1/runs", headers=headers) as response:
            assert response.status == 200


async def test_who_has_a_key_may_call_from_a_page(database_dsn: str, store: Store, tmp_path: Path) -> None:
    async with a_controller(database_dsn, store, tmp_path, require_keys=True) as controller:
        async with controller.running.parts.service.database.connection() as connection:
            key, _ = await add_key(connection, "page")
        headers = {"X-API-Key": key, "Origin": "https://app.example.com", "Host": "pup.example.com"}
        async with controller.http.get(f"{controller.url}/api/v1/runs", headers=headers) as response:
            assert response.status == 200


async def test_wrong_worker_tokens_are_counted_as_wrong_keys_are(
    database_dsn: str, store: Store, tmp_path: Path
) -> None:
    async with a_controller(database_dsn, store, tmp_path, wrong_keys_per_min=3) as controller:
        worker = await controller.worker()

        async def guess(n: int) -> int:
            headers = {"Authorization": f"Bearer {n}"}
            async with controller.http.post(f"{controller.url}/api/v1/worker/claim", headers=headers) as response:
                return response.status

        assert [await guess(n) for n in range(5)] == [401, 401, 401, 429, 429]
        assert await worker.claim(wait_s=0) == []


async def test_many_who_ask_whether_the_server_is_well_are_one_question_to_its_stores(
    controller: ControllerUnderTest, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, check = [], store.check

    async def counted() -> None:
        asked.append(1)
        await check()

    monkeypatch.setattr(store, "check", counted)
    await asyncio.gather(*(controller.get("/readyz") for _ in range(50)))
    assert len(asked) == 1
