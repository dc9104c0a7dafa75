"""Files and given inputs, from the request to the store; and nothing that stays of what came to nothing."""

import base64
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pupload.db.sql import SQL
from pupload.errors import StoreUnavailable
from pupload.stores.base import Store
from tests.support.controller import ControllerUnderTest, a_controller
from tests.support.flows import a_def, a_flow, a_node
from tests.support.web_server import Reply, WebServer, a_web_server, endless

pytestmark = pytest.mark.integration

Json = dict[str, Any]
RUNS = "/api/v1/runs"
FILES = "/api/v1/files"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="module")
def strangers() -> Iterator[WebServer]:
    """Somebody else's web server, which this controller may ask."""
    with a_web_server() as server:
        yield server


@pytest.fixture
async def controller(
    database_dsn: str, store: Store, tmp_path: Path, strangers: WebServer
) -> AsyncIterator[ControllerUnderTest]:
    """A controller that takes small files only, and looks for what is to be removed when told."""
    allowed = (f"127.0.0.1:{strangers.port}",)
    async with a_controller(
        database_dsn,
        store,
        tmp_path,
        url_allow=allowed,
        max_fetch_bytes=100_000,
        max_upload_bytes=200_000,
        reconcile_s=60,
    ) as running:
        yield running


def asking(inputs: Json, **well: Any) -> Json:
    wells = [{"Edge": "in", "Source": "upload", **well}] if well else []
    return {"Flow": a_flow(a_node(), DataWells=wells), "NodeDefs": [a_def()], "Inputs": inputs}


async def refused(controller: ControllerUnderTest, body: Json, status: int) -> str:
    answer = await controller.post(RUNS, body, expect=status)
    return str(answer["Error"]["Code"])


async def input_of(controller: ControllerUnderTest, body: Json) -> tuple[bytes, Json]:
    """The bytes on the run's input edge as a node would get them, and what is told of them."""
    run = await controller.post(RUNS, body, expect=202)
    assert run["WaitingURLs"] == []
    async with controller.http.get(f"{controller.url}{RUNS}/{run['ID']}/artifacts/in") as response:
        return await response.read(), run["Artifacts"]["in"]


async def keys(store: Store) -> set[str]:
    return {head.key async for head in store.list("")}


async def post_file(controller: ControllerUnderTest, content: bytes, query: str = "", **how: Any) -> Json:
    async with controller.http.post(f"{controller.url}{FILES}{query}", data=content, **how) as response:
        assert response.status == 201, await response.text()
        return dict(await response.json())


async def look(controller: ControllerUnderTest) -> None:
    parts = controller.running.parts
    for each, _ in parts.looks:
        await each()


async def later(controller: ControllerUnderTest) -> None:
    """Look when no put can still be under way that nobody waits for."""
    await run_sql(controller, "UPDATE intakes SET doomed_at = doomed_at - interval '1 hour'")
    await run_sql(controller, "UPDATE files SET used_at = used_at - interval '1 hour' WHERE state = 'doomed'")
    await look(controller)


async def run_sql(controller: ControllerUnderTest, statement: str) -> None:
    async with controller.running.parts.service.database.connection() as connection:
        await connection.execute(statement)


async def test_a_file_at_a_url_is_fetched_and_stored(controller: ControllerUnderTest, strangers: WebServer) -> None:
    url = strangers.on("/cat.png", Reply(body=PNG, headers={"Content-Type": "application/octet-stream"}))
    content, told = await input_of(controller, asking({"in": {"Uri": url + "?token=1", "Name": "cat.png"}}))
    assert content == PNG
    assert (told["ContentType"], told["Size"], told["SHA256"]) == (
        "image/png", len(PNG), hashlib.sha256(PNG).hexdigest(),
    )  # fmt: skip


async def test_a_data_uri_is_stored_with_its_type(controller: ControllerUnderTest) -> None:
    content, told = await input_of(controller, asking({"in": {"uri": "data:text/csv;base64,YSxi"}}))
    assert (content, told["ContentType"], told["Size"]) == (b"a,b", "text/csv", 3)


async def test_any_other_object_is_a_document(controller: ControllerUnderTest) -> None:
    content, told = await input_of(controller, asking({"in": {"uri": "data:,x", "more": 1}}))
    assert (content, told["ContentType"]) == (b'{"uri": "data:,x", "more": 1}', "application/json")


async def test_a_kept_file_is_the_input_without_a_copy(controller: ControllerUnderTest, store: Store) -> None:
    file = await post_file(controller, PNG, "?name=cat.png")
    content, told = await input_of(controller, asking({"in": {"Uri": file["Uri"]}}))
    assert content == PNG
    assert (told["SHA256"], told["ContentType"]) == (file["SHA256"], "image/png")
    assert await keys(store) == {f".files/{file['ID']}"}


async def test_a_well_with_a_key_gets_a_copy_of_the_kept_file(controller: ControllerUnderTest, store: Store) -> None:
    file = await post_file(controller, b"abc")
    content, told = await input_of(controller, asking({"in": {"Uri": file["Uri"]}}, Key="own/${RUN_ID}.txt"))
    assert content == b"abc"
    assert told["ObjectName"].startswith("own/run_")
    assert await keys(store) == {f".files/{file['ID']}", told["ObjectName"]}


@pytest.mark.parametrize(
    ("inputs", "code"),
    [
        ({"nowhere": "x"}, "EDGE_NOT_FOUND"),
        ({"out": "x"}, "EDGE_NOT_AN_INPUT"),
        ({"in": {"uri": "file://file_0123"}}, "FILE_NOT_FOUND"),
        ({"in": {"uri": "file:///etc/passwd"}}, "FILE_NOT_FOUND"),
        ({"in": {"uri": "data:text/plain;base64,*"}}, "DATA_URI_INVALID"),
        ({"in": {"uri": "https://127.0.0.1/x"}}, "URI_NOT_ALLOWED"),
        ({"in": {"uri": "http://example.com/x"}}, "URI_NOT_ALLOWED"),
        ({"in": {"uri": "relative.png"}}, "URI_NOT_ALLOWED"),
        ({"in": {"uri": "{stranger}/none"}}, "URI_NOT_FETCHED"),
    ],
)
async def test_what_is_no_input_is_refused_and_nothing_is_stored(
    controller: ControllerUnderTest, store: Store, strangers: WebServer, inputs: Json, code: str
) -> None:
    located = {
        edge: {"uri": value["uri"].format(stranger=strangers.url)} if isinstance(value, dict) else value
        for edge, value in inputs.items()
    }
    assert await refused(controller, asking(located), 422) == code
    assert await keys(store) == set()
    assert (await controller.get(RUNS))["Runs"] == []


async def test_a_static_edge_is_not_given(controller: ControllerUnderTest, store: Store) -> None:
    await store.put("fixed.txt", b"abc", "text/plain")
    body = asking({"in": "x"}, Source="static", Key="fixed.txt")
    assert await refused(controller, body, 422) == "EDGE_NOT_AN_INPUT"


async def test_limits_hold_for_every_way_to_give_a_file(controller: ControllerUnderTest, strangers: WebServer) -> None:
    file = await post_file(controller, bytes(101))
    small = strangers.on("/small", Reply(body=bytes(101)))
    for value in ("x" * 101, {"uri": "data:," + "x" * 101}, {"uri": file["Uri"]}):
        assert await refused(controller, asking({"in": value}, MaxSize=100), 413) == "TOO_LARGE"
    assert await refused(controller, asking({"in": {"uri": small}}, MaxSize=100), 413) == "URI_TOO_LARGE"
    for url in (strangers.on("/big", Reply(body=bytes(100_001))), strangers.on("/endless", endless())):
        assert await refused(controller, asking({"in": {"uri": url}}), 413) == "URI_TOO_LARGE"


async def test_one_request_has_only_so_many_urls(controller: ControllerUnderTest, strangers: WebServer) -> None:
    edges = {f"in{number}": {"uri": f"{strangers.url}/many"} for number in range(101)}
    flow = a_flow(a_node(reads={edge: edge for edge in edges}))
    body = {"Flow": flow, "NodeDefs": [a_def()], "Inputs": edges}
    assert await refused(controller, body, 422) == "TOO_MANY_URLS"
    assert strangers.asked("/many") == []


async def test_an_input_whose_run_never_came_to_be_is_removed(
    controller: ControllerUnderTest, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object, **__: object) -> None:
        raise StoreUnavailable("as if the controller went down here")

    monkeypatch.setattr(controller.running.parts.service, "create", fails)
    await controller.post(RUNS, asking({"in": "abc"}), expect=503)
    await look(controller)
    assert len(await keys(store)) == 1
    await later(controller)
    assert await keys(store) == set()


async def test_an_input_that_a_dead_controller_left_is_removed_when_it_is_old(
    controller: ControllerUnderTest, store: Store
) -> None:
    await store.put("run_x/in/0", b"abc", "text/plain")
    async with controller.running.parts.service.database.connection() as connection:
        await connection.execute(SQL["insert_intakes"], "run_x", ["in"], ["default"], ["run_x/in/0"], [None])
    await look(controller)
    assert await keys(store) == {"run_x/in/0"}
    await run_sql(controller, "UPDATE intakes SET created_at = now() - interval '1 day'")
    await look(controller)
    await later(controller)
    assert await keys(store) == set()


async def test_inputs_that_were_given_up_make_no_run(
    controller: ControllerUnderTest, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = controller.running.parts.service.create

    async def late(*how: Any) -> Any:
        await run_sql(controller, "UPDATE intakes SET created_at = now() - interval '1 day'")
        await look(controller)
        return await create(*how)

    monkeypatch.setattr(controller.running.parts.service, "create", late)
    assert await refused(controller, asking({"in": "abc"}), 409) == "INPUTS_GIVEN_UP"
    assert (await controller.get(RUNS))["Runs"] == []
    await later(controller)
    assert await keys(store) == set()


async def test_the_input_of_a_run_outlives_every_look(controller: ControllerUnderTest, store: Store) -> None:
    await controller.post(RUNS, asking({"in": "abc"}), expect=202)
    await run_sql(controller, "UPDATE intakes SET created_at = now() - interval '1 day'")
    await look(controller)
    await later(controller)
    assert len(await keys(store)) == 1


async def test_a_file_is_given_back_as_it_came_and_never_shown(controller: ControllerUnderTest) -> None:
    page = b"<!doctype html><script>alert(1)</script>"
    file = await post_file(controller, page, "?name=../caf%C3%A9.html", headers={"Content-Type": "text/html"})
    assert file["Name"] == "café.html"
    assert file["Uri"] == f"file://{file['ID']}"
    async with controller.http.get(f"{controller.url}{FILES}/{file['ID']}") as response:
        assert await response.read() == page
        assert response.headers["Content-Type"] == file["ContentType"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Content-Disposition"].startswith("attachment;")
        assert "sandbox" in response.headers["Content-Security-Policy"]
    async with controller.http.head(f"{controller.url}{FILES}/{file['ID']}") as response:
        assert int(response.headers["Content-Length"]) == len(page)


async def test_a_form_with_one_file_is_a_file(controller: ControllerUnderTest) -> None:
    form = aiohttp.FormData()
    form.add_field("note", "left alone")
    form.add_field("file", PNG, filename="cat.png", content_type="text/plain")
    async with controller.http.post(controller.url + FILES, data=form) as response:
        file = await response.json()
    assert (file["Name"], file["ContentType"], file["Size"]) == ("cat.png", "image/png", len(PNG))
    for names, status in (((), 422), (("a", "b"), 422)):
        form = aiohttp.FormData([("note", "x")])
        for name in names:
            form.add_field(name, b"abc", filename=name)
        form = form if names else aiohttp.FormData([("note", "x")], default_to_multipart=True)
        async with controller.http.post(controller.url + FILES, data=form) as response:
            assert (response.status, (await response.json())["Error"]["Code"]) == (status, "ONE_FILE")


async def test_a_body_without_a_length_is_a_file(controller: ControllerUnderTest) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"ab"
        yield b"c"

    headers = {"Content-Disposition": 'attachment; filename="a.txt"'}
    async with controller.http.post(controller.url + FILES, data=pieces(), headers=headers) as response:
        file = await response.json()
    assert (file["Name"], file["Size"], file["SHA256"]) == ("a.txt", 3, hashlib.sha256(b"abc").hexdigest())


async def test_too_large_a_file_is_refused_and_leaves_nothing(controller: ControllerUnderTest, store: Store) -> None:
    async def endless_body() -> AsyncIterator[bytes]:
        while True:
            yield bytes(50_000)

    for body in (bytes(200_001), endless_body()):
        async with controller.http.post(controller.url + FILES, data=body) as response:
            assert response.status == 413
    assert await keys(store) == set()
    assert (await controller.get(FILES))["Files"] == []


@pytest.mark.parametrize(("told", "type_"), [("text/csv; charset=utf-8", "text/csv"), ("image/png", "text/plain")])
async def test_a_file_is_of_the_type_that_its_sender_says_where_its_bytes_agree(
    controller: ControllerUnderTest, told: str, type_: str
) -> None:
    form = aiohttp.FormData()
    form.add_field("file", b"a,b\n", filename="a", content_type=told)
    for how in ({"data": b"a,b\n", "headers": {"Content-Type": told}}, {"data": form}):
        async with controller.http.post(controller.url + FILES, **how) as response:
            file = await response.json()
        async with controller.http.get(f"{controller.url}{FILES}/{file['ID']}") as response:
            assert response.headers["Content-Type"] == file["ContentType"] == type_


async def test_what_curl_says_of_every_body_is_no_type(controller: ControllerUnderTest) -> None:
    told = {"Content-Type": "application/x-www-form-urlencoded"}
    file = await post_file(controller, bytes(range(256)), headers=told)
    assert file["ContentType"] == "application/octet-stream"


async def test_files_are_listed_page_by_page_and_removed(controller: ControllerUnderTest) -> None:
    made = [(await post_file(controller, b"%d" % number))["ID"] for number in range(3)]
    first = await controller.get(f"{FILES}?limit=2")
    assert [each["ID"] for each in first["Files"]] == made[:0:-1]
    rest = await controller.get(f"{FILES}?limit=2&cursor={first['NextCursor']}")
    assert ([each["ID"] for each in rest["Files"]], rest["NextCursor"]) == (made[:1], "")
    for status in (204, 404):
        async with controller.http.delete(f"{controller.url}{FILES}/{made[0]}") as response:
            assert response.status == status
    await controller.get(f"{FILES}/{made[0]}", expect=404)
    assert await refused(controller, asking({"in": {"uri": f"file://{made[0]}"}}), 422) == "FILE_NOT_FOUND"


async def test_a_removed_file_stays_as_long_as_a_run_is_made_of_it(
    controller: ControllerUnderTest, store: Store
) -> None:
    file = await post_file(controller, b"abc")
    run = await controller.post(RUNS, asking({"in": {"uri": file["Uri"]}}), expect=202)
    async with controller.http.delete(f"{controller.url}{FILES}/{file['ID']}") as response:
        assert response.status == 204
    await run_sql(controller, "UPDATE files SET used_at = now() - interval '1 year'")
    await look(controller)
    assert await keys(store) == {f".files/{file['ID']}"}
    await controller.post(f"{RUNS}/{run['ID']}/cancel")
    async with controller.http.delete(f"{controller.url}{RUNS}/{run['ID']}") as response:
        assert response.status == 204
    await look(controller)
    assert await keys(store) == set()


async def test_a_file_goes_when_nobody_has_used_it_for_its_retention(
    controller: ControllerUnderTest, store: Store
) -> None:
    file = await post_file(controller, b"abc")
    await look(controller)
    assert await keys(store) == {f".files/{file['ID']}"}
    await run_sql(controller, "UPDATE files SET used_at = now() - interval '1 year'")
    await look(controller)
    assert await keys(store) == set()
    await controller.get(f"{FILES}/{file['ID']}", expect=404)


async def test_a_file_that_never_came_whole_is_removed(controller: ControllerUnderTest, store: Store) -> None:
    await store.put(".files/file_01", b"abc", "")
    async with controller.running.parts.service.database.connection() as connection:
        await connection.execute(SQL["insert_file"], "file_01", "", "x", ".files/file_01", 3)
    await look(controller)
    assert await keys(store) == {".files/file_01"}
    await run_sql(controller, "UPDATE files SET used_at = now() - interval '1 day'")
    await look(controller)
    assert await keys(store) == set()


async def test_a_file_whose_object_is_gone_is_told_before_a_byte_is_sent(
    controller: ControllerUnderTest, store: Store
) -> None:
    file = await post_file(controller, b"abc")
    await store.delete([f".files/{file['ID']}"])
    assert (await controller.get(f"{FILES}/{file['ID']}", expect=503))["Error"]["Code"] == "STORE_UNAVAILABLE"


async def test_a_worker_is_told_where_attachments_are_and_nobody_else(controller: ControllerUnderTest) -> None:
    url = "https://example.com/a/notes.txt?token=verysecret"
    defs = [a_def(Attachments=True)]
    body = {"Flow": a_flow(a_node(reads={}, writes={})), "NodeDefs": defs, "Attachments": [{"Uri": url}]}
    worker = await controller.worker()
    run = await controller.post(RUNS, body, expect=202)
    (assignment,) = await worker.claim()
    (attachment,) = assignment.attachments
    assert (attachment.name, attachment.url, attachment.content_type) == ("notes.txt", url, "text/plain")
    assert "verysecret" not in repr(assignment)
    assert "verysecret" not in str(await controller.get(f"{RUNS}/{run['ID']}"))
    async with controller.running.parts.service.database.connection() as connection:
        rows = await connection.fetch("SELECT p.*, a.* FROM run_plans p JOIN run_attachments a USING (run_id)")
    assert "verysecret" not in str([dict(row) for row in rows])
    await worker.finish(assignment.ref)
    await controller.post(f"{RUNS}/{run['ID']}/replay", {}, expect=202)
    (again,) = await worker.claim()
    assert again.attachments == [attachment]
