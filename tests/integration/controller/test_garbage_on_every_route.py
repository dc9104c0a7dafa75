"""Whatever comes to whatever route, the answer never says that the server is at fault."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from yarl import URL

from pupload.controller.app import ROUTES
from pupload.controller.routes.declaring import Route
from pupload.controller.routes.uploads import PartNumbers, UploadWish
from pupload.controller.tools import ToolAnswers
from pupload.flow.load import FlowDocuments, PostedRun
from pupload.flow.nodedef import NodeDef
from pupload.flow.request import ReplayRequest, StepRequest
from pupload.flow.session import SessionRequest
from pupload.protocol import Beat, Claim, Finish, Hello, Lines, Pin, Sign
from pupload.stores.base import Store
from tests.support.controller import ControllerUnderTest, a_controller
from tests.support.flows import a_def, a_flow, a_node, documents

pytestmark = pytest.mark.integration

Json = dict[str, Any]
IDS = (
    "x", "0", "-1", "9" * 30, "a" * 3000, "..", "%2e%2e%2fx", "%00", "%ff", "%ed%a0%80", "%0d%0aX:y", "%F0%9F%92%A9",
    "run_", "'%22;--",
)  # fmt: skip
BODIES = (
    b"", b"null", b"0", b'"x"', b"[]", b"{}", b"{", b"\xff\xfe", b"\0", b"NaN", b"1e999", b"9" * 5000, b"[" * 100_000,
    b'{"a":' * 2000, b'{"\\ud800": 1}', b'{"a\\u0000": 1}', b'{"' + b"a" * 100_000 + b'": 1}',
)  # fmt: skip
VALUES = (
    "null", '""', '"x"', '"\\ud800"', '"\\u0000"', "0", "-1", "1.5", "9223372036854775808", "1e999", "NaN", "true",
    "[]", "[[]]", "[null]", "{}", '{"": ""}', '{"x": {"y": [1]}}', '{"\\ud800": 1}', '{"a\\u0000": 1}',
    "[" * 100 + "]" * 100, "9" * 5000, '"' + "x" * 70_000 + '"', '[{"Uri": {}, "Name": []}]',
    '{"in": {"Uri": "https://a..b/", "Name": "x"}}', '{"in": {"Uri": "data:,x", "Name": {}}}',
)  # fmt: skip
QUERIES = (
    "limit=00000000000000000001" + "9" * 5000, "limit=-1", "limit=%00", "limit=1e3", "limit=\u0661",
    "cursor=%00", "cursor=%ff", "cursor=%ed%a0%80", "cursor=" + "x" * 5000, "cursor=" + "0" * 19 + "1" + "9" * 20,
    "after=9223372036854775808", "after=4611686018427387904", "types=,", "types=%00", "status=,", "status=%ed%a0%80",
    "attempt=0", "attempt=99999999999", "attempt=%00", "node=%00", "flow=%00", "session=%ff", "publisher=%00",
    "from=%00&to=%00", "from=0&to=999999999", "name=%00", "name=..%2f%0d%0a", "output_only=x", "cancel_on_disconnect=x",
    "follow=x", "=&&=", "%",
)  # fmt: skip
HEADERS: tuple[Mapping[str, str], ...] = (
    {"Idempotency-Key": "x" * 300},
    {"Idempotency-Key": ""},
    {"Last-Event-ID": "9" * 30},
    {"Content-Type": "multipart/form-data"},
    {"Content-Type": "multipart/form-data; boundary=x"},
    {"Content-Type": "text/html; charset=nothing"},
    {"Content-Type": "/"},
    {"Content-Encoding": "gzip"},
    {"Content-Encoding": "deflate"},
    {"Content-Encoding": "br"},
    {"Content-Disposition": "attachment; filename*=x"},
    {"Content-Disposition": 'form-data; name="\\'},
    {"Authorization": "Bearer é"},
    {"Accept-Encoding": "\u00e9"},
    {"Range": "bytes=9-1"},
)
FORMS = (
    b"--x",
    b"--x\r\n",
    b"--x--\r\n",
    b"--x\r\n\r\n\r\n--x--\r\n",
    b'--x\r\nContent-Disposition: form-data; name="_charset_"\r\n\r\n' + b"u" * 40 + b"\r\n--x--\r\n",
    b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\nContent-Length: x\r\n\r\nabc\r\n--x--\r\n',
    b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\nContent-Length: 99\r\n\r\nabc\r\n--x--\r\n',
    b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\nContent-Length: -1\r\n\r\nabc\r\n--x--\r\n',
    b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\nContent-Encoding: gzip\r\n\r\nabc\r\n--x--\r\n',
    b"--x\r\nContent-Disposition: form-data; filename=f\r\nContent-Transfer-Encoding: none\r\n\r\nabc\r\n--x--\r\n",
    b"--x\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\n--x--\r\n--x--\r\n",
    b"--x\r\nContent-Type: multipart/mixed\r\n\r\nabc\r\n--x--\r\n",
    b"--x\r\nContent-Disposition: form-data; name=\xff; filename*=utf-8''%ff\r\n\r\nabc\r\n--x--\r\n",
    b"--x\r\n" + b"A" * 100_000 + b": b\r\n\r\nabc\r\n--x--\r\n",
    b"--x\r\n" + b"A: b\r\n" * 5000 + b"\r\nabc\r\n--x--\r\n",
    b"--x\r\nno header\r\n\r\nabc\r\n--x--\r\n",
)
LATE = ("cancel", "complete")
"""Acts that leave nothing of a run for the others to be tried on."""


@dataclass(frozen=True)
class Place:
    """A route whose variables name what there is."""

    method: str
    path: str
    parts: Mapping[str, str]

    def url(self, changed: Mapping[str, str] | None = None) -> str:
        path = self.path
        for name, value in {**self.parts, **(changed or {})}.items():
            path = path.replace(f"{{{name}}}", value)
        return path


@dataclass(frozen=True)
class Sent:
    """What is sent to a place."""

    place: Place
    url: str
    body: bytes = b""
    headers: Mapping[str, str] | None = None


@pytest.fixture
async def controller(database_dsn: str, store: Store, tmp_path: Path) -> AsyncIterator[ControllerUnderTest]:
    """A controller that waits for nothing."""
    async with a_controller(database_dsn, store, tmp_path, sync_wait_s=0.01) as running:
        yield running


async def places(controller: ControllerUnderTest) -> list[Place]:
    """Every route, what removes last."""
    posted = documents(a_flow(a_node(), Name="kept"), a_def())
    async with controller.http.put(f"{controller.url}/api/v1/flows/kept", json=posted) as answer:
        assert answer.status == 200, await answer.text()
    await controller.post("/api/v1/flows/kept/versions", {}, expect=201)
    async with controller.http.put(f"{controller.url}/api/v1/nodedefs/pub/name@1", json={"Image": "a/b"}) as answer:
        assert answer.status == 201, await answer.text()
    run = (await controller.post("/api/v1/flows/kept/runs", {}, expect=202))["ID"]
    async with controller.http.post(f"{controller.url}/api/v1/files", data=b"x") as answer:
        file = (await answer.json())["ID"]
    upload = await controller.post(f"/api/v1/runs/{run}/uploads/in", {"Size": 10}, expect=201)
    known = {
        "run": run, "flow": "kept", "edge": "in", "node": "copy", "upload": upload["ID"], "file": file, "version": "1",
        "token": controller.running.parts.hooks.url(run, "in").rpartition("/")[2], "webhook": "msg_1",  # type: ignore[arg-type]
        "session": (await controller.post("/api/v1/sessions", {}, expect=201))["ID"],
        "publisher": "pub", "nodedef": "name@1",
    }  # fmt: skip
    return sorted(
        (Place(route.method, route.path, known) for route in ROUTES if isinstance(route, Route | web.RouteDef)),
        key=lambda place: (place.method == "DELETE", place.path.endswith(LATE)),
    )


def garbage_ids(place: Place) -> Iterator[Sent]:
    for name in place.parts:
        if f"{{{name}}}" in place.path:
            for each in IDS:
                yield Sent(place, place.url({name: each}), b"{}")


def garbage_queries(place: Place) -> Iterator[Sent]:
    if place.method == "GET":
        for query in QUERIES:
            yield Sent(place, f"{place.url()}?{query}")


def garbage_headers(place: Place) -> Iterator[Sent]:
    for headers in HEADERS:
        yield Sent(place, place.url(), b"{", headers)


def garbage_bodies(place: Place) -> Iterator[Sent]:
    if place.method in {"POST", "PUT"}:
        for body in BODIES:
            yield Sent(place, place.url(), body)


def garbage_forms(place: Place) -> Iterator[Sent]:
    if place.path == "/api/v1/files" and place.method == "POST":
        for form in FORMS:
            yield Sent(place, place.url(), form, {"Content-Type": "multipart/form-data; boundary=x"})


DOCUMENTS: tuple[tuple[str, type[Any], Json], ...] = (
    ("/api/v1/runs", PostedRun, documents()),
    ("/api/v1/flow/test", FlowDocuments, documents()),
    ("/api/v1/flows/{flow}/runs/step", StepRequest, {}),
    ("/api/v1/runs/{run}/replay", ReplayRequest, {}),
    ("/api/v1/flows/{flow}", FlowDocuments, documents()),
    ("/api/v1/nodedefs/{publisher}/{nodedef}", NodeDef, {"Image": "a/b"}),
    ("/api/v1/runs/{run}/resume", ToolAnswers, {}),
    ("/api/v1/runs/{run}/uploads/{edge}", UploadWish, {"Size": 1}),
    ("/api/v1/runs/{run}/uploads/{edge}/{upload}/parts", PartNumbers, {}),
    ("/api/v1/sessions", SessionRequest, {}),
    ("/api/v1/worker/hello", Hello, {}),
    ("/api/v1/worker/claim", Claim, {}),
    ("/api/v1/worker/beat", Beat, {}),
    ("/api/v1/worker/image", Pin, {}),
    ("/api/v1/worker/sign", Sign, {}),
    ("/api/v1/worker/logs", Lines, {}),
    ("/api/v1/worker/finish", Finish, {}),
)


def garbage_members(place: Place) -> Iterator[Sent]:
    for path, document, rest in DOCUMENTS:
        if path == place.path and place.method in {"POST", "PUT"}:
            for member in sorted(set(document.members().values())):
                for value in VALUES:
                    given = {json.dumps(name): json.dumps(each) for name, each in rest.items() if name != member}
                    given[json.dumps(member)] = value
                    text = ", ".join(f"{name}: {each}" for name, each in given.items())
                    yield Sent(place, place.url(), f"{{{text}}}".encode())


KINDS = (garbage_ids, garbage_queries, garbage_headers, garbage_bodies, garbage_forms, garbage_members)


@pytest.mark.filterwarnings("ignore::aiohttp.multipart.BadContentDispositionHeader")
@pytest.mark.filterwarnings("ignore::aiohttp.multipart.BadContentDispositionParam")
async def test_garbage_is_never_answered_as_a_fault_of_ours(
    controller: ControllerUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    token = await controller.running.add_worker("hand")
    gate = asyncio.Semaphore(16)

    async def fault(sent: Sent) -> str:
        headers = {"Authorization": f"Bearer {token}", **(sent.headers or {})}
        url = URL(controller.url + sent.url, encoded=True)
        async with (
            gate,
            controller.http.request(
                sent.place.method, url, data=sent.body or None, headers=headers, allow_redirects=False
            ) as answer,
        ):
            # What streams is not read to its end, which never comes.
            status = answer.status
        return (
            f"{status}: {sent.place.method} {sent.url[:200]} {sent.headers} {sent.body[:200]!r}" if status > 499 else ""
        )

    faults = []
    for place in await places(controller):
        sent = [each for kind in KINDS for each in kind(place)]
        faults += [each for each in await asyncio.gather(*map(fault, sent)) if each]
    assert faults == []
    assert [record.getMessage() for record in caplog.records if record.name.startswith("pupload")] == []
