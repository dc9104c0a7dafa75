"""Stores that flows name: no connection is made to where the guard lets nobody, whoever asks, and whatever DNS says."""

import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from pupload.errors import Forbidden, PuploadError, StoreUnavailable
from pupload.stores.base import Store, StoreAddress
from pupload.stores.minio import MinioStore
from pupload.stores.s3 import S3Store
from pupload.web.addresses import read_allowed
from pupload.web.urls import check_store
from tests.support.web_server import Answer, Reply, WebServer, a_web_server, endless, redirect

Resolve = Callable[[str], list[str]]


@pytest.fixture
def inner() -> Iterator[WebServer]:
    """What only this machine can reach."""
    with a_web_server() as server:
        yield server


@pytest.fixture
def outer() -> Iterator[WebServer]:
    """A stranger's server, at an address that is allowed here."""
    with a_web_server("127.0.0.2") as server:
        yield server


@pytest.fixture(autouse=True)
def connected(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that a connection was begun to."""
    begun: list[str] = []
    connect = socket.socket.connect

    def noting(self: socket.socket, place: object) -> None:
        begun.append(str(place[0] if isinstance(place, tuple) else place))
        connect(self, place)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", noting)
    return begun


def a_store(endpoint: str, *allowed: str, kind: type[S3Store] = S3Store) -> S3Store:
    guard = partial(check_store, allowed=read_allowed(allowed))
    return kind(StoreAddress("theirs", "s3", endpoint, "bucket", "a", "s", secure=False, guard=guard))


def resolving(monkeypatch: pytest.MonkeyPatch, **answers: list[list[str]]) -> None:
    """Let names resolve to these addresses, to the next ones at each question; the last answer stays."""
    known = socket.getaddrinfo

    def resolve(host: str, port: int, *rest: Any, **more: Any) -> Any:
        name = str(host).partition(".")[0]
        if name not in answers:
            return known(host, port, *rest, **more)
        mine = answers[name]
        addresses = mine.pop(0) if len(mine) > 1 else mine[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


async def one() -> AsyncIterator[bytes]:
    yield b"abc"


WAYS: dict[str, Callable[[Store], object]] = {
    "check": lambda store: store.check(),
    "head": lambda store: store.head("a"),
    "get": lambda store: store.get("a", 100),
    "put": lambda store: store.put("a", b"abc", "text/plain"),
    "stream": lambda store: store.put_stream("a", one(), 3),
    "copy": lambda store: store.copy("a", "b"),
    "delete": lambda store: store.delete(["a"]),
    "list": lambda store: anext(aiter(store.list("a"))),
    "parts": lambda store: store.begin_multipart("a"),
}


async def refused(store: Store, way: str) -> None:
    with pytest.raises(Forbidden) as error:
        await WAYS[way](store)  # type: ignore[misc]
    assert error.value.code == "STORE_NOT_ALLOWED"


@pytest.mark.parametrize("way", WAYS)
async def test_an_inside_store_of_a_flow_is_never_asked(
    inner: WebServer, connected: list[str], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    resolving(monkeypatch, evil=[["127.0.0.1"]])
    for endpoint in (f"127.0.0.1:{inner.port}", f"evil.example:{inner.port}"):
        store = a_store(endpoint, f"other.example:{inner.port}")
        await refused(store, way)
        await store.close()
    assert connected == []
    assert inner.seen == []


INSIDE = """
169.254.169.254 10.0.0.1:9000 [::1]:9000 [::ffff:127.0.0.1]:80 [fd00::1]:9000 0.0.0.0:9000 127.1:9000 0x7f000001:9000
1.1.1.1:22 1.1.1.1:25 [64:ff9b::7f00:1]:443
"""


@pytest.mark.parametrize("endpoint", INSIDE.split())
async def test_no_spelling_and_no_port_of_the_system_gets_through(connected: list[str], endpoint: str) -> None:
    store = a_store(f"http://{endpoint}")
    await refused(store, "head")
    await store.close()
    assert connected == []


async def test_a_name_that_changes_its_mind_is_asked_once_and_believed_then(
    inner: WebServer, outer: WebServer, connected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, fickle=[["127.0.0.2"], ["127.0.0.1"]])
    store = a_store(f"fickle.example:{outer.port}", f"127.0.0.2:{outer.port}")
    outer.on("/bucket", Reply(headers={"Connection": "close"}))
    await store.check()
    await refused(store, "head")
    await store.close()
    assert set(connected) == {"127.0.0.2"}
    assert inner.seen == []


async def test_one_bad_address_among_good_ones_is_not_tried(
    outer: WebServer, connected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, mixed=[["127.0.0.1", "127.0.0.2"]])
    store = a_store(f"mixed.example:{outer.port}", f"127.0.0.2:{outer.port}")
    await refused(store, "head")
    await store.close()
    assert connected == []


@pytest.mark.parametrize("status", [301, 307])
@pytest.mark.parametrize("way", ["check", "get", "stream"])
async def test_a_store_that_redirects_inward_leads_nobody_there(
    inner: WebServer, outer: WebServer, connected: list[str], status: int, way: str
) -> None:
    there = f"http://127.0.0.1:{inner.port}/bucket/a"
    for path in ("/bucket", "/bucket/a", "/bucket/b"):
        outer.on(path, Reply(status, headers={"Location": there, "x-amz-bucket-region": "eu-west-1"}))
    store = a_store(outer.url, f"127.0.0.2:{outer.port}")
    with pytest.raises(PuploadError):
        await WAYS[way](store)  # type: ignore[misc]
    await store.close()
    assert set(connected) == {"127.0.0.2"}
    assert inner.seen == []


async def test_the_notifications_of_an_inside_minio_are_not_listened_to(
    inner: WebServer, outer: WebServer, connected: list[str]
) -> None:
    outer.on("/bucket", redirect(inner.url + "/bucket", 307))
    for endpoint, allowed in ((inner.url, "other.example"), (outer.url, f"127.0.0.2:{outer.port}")):
        store = a_store(endpoint, allowed, kind=MinioStore)
        told = store.watch()
        assert told is not None
        with suppress(StopAsyncIteration), pytest.raises(PuploadError):
            await anext(aiter(told))
        await store.close()
    assert "127.0.0.1" not in connected
    assert inner.seen == []


async def test_a_store_that_is_allowed_is_asked(outer: WebServer) -> None:
    outer.on("/bucket", Reply())
    for allowed in (f"127.0.0.2:{outer.port}", "127.0.0.0/8"):
        store = a_store(outer.url, allowed)
        await store.check()
        await store.close()
    assert outer.asked("/bucket")


async def test_a_store_of_the_configuration_is_trusted(inner: WebServer) -> None:
    inner.on("/bucket", Reply())
    store = S3Store(StoreAddress("default", "s3", inner.url, "bucket", "a", "s", secure=False))
    await store.check()
    await store.close()
    assert not store.foreign


def a_page(keys: int) -> Reply:
    """A page of a list that has another one behind it."""
    entry = "<Key>a</Key><Size>1</Size><ETag>x</ETag><LastModified>2026-01-01T00:00:00Z</LastModified>"
    token = "<IsTruncated>true</IsTruncated><NextContinuationToken>on</NextContinuationToken>"
    return Reply(body=f"<ListBucketResult>{token}{f'<Contents>{entry}</Contents>' * keys}</ListBucketResult>".encode())


async def listed(store: Store) -> list[str]:
    return [head.key async for head in store.list("a")]


def dripping(head: bytes) -> Answer:
    """An answer that goes on after `head` a byte at a time."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(head)
        while True:
            handler.wfile.write(b"x")
            time.sleep(0.01)

    return answer


HOSTILE: dict[str, tuple[Answer, Callable[[Store], object]]] = {
    "a body without end": (endless(), listed),
    "a list without end": (a_page(50), listed),
    "a body that drips": (dripping(b"HTTP/1.1 200 OK\r\n\r\n"), listed),
    "a head that drips": (dripping(b"HTTP/1.1 200 OK\r\nX-More: "), listed),
    "no mark": (Reply(), lambda store: store.head("a")),
    "no XML": (Reply(body=b"\xff<"), listed),
    "a list of nothing that has a name": (
        Reply(body=b"<ListBucketResult><Contents></Contents></ListBucketResult>"),
        listed,
    ),
}


@pytest.mark.parametrize("answer", HOSTILE)
async def test_a_server_that_is_no_store_holds_up_nobody(
    outer: WebServer, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr("pupload.stores.guarding.MOST_BYTES", 1_000_000)
    monkeypatch.setattr("pupload.stores.guarding._PATIENCE", 0.03)
    monkeypatch.setattr("pupload.stores.s3._MOST_LISTED", 500)
    said, ask = HOSTILE[answer]
    outer.on("/bucket", said)
    outer.on("/bucket/a", said)
    store = a_store(f"127.0.0.2:{outer.port}", "127.0.0.2")
    with pytest.raises(StoreUnavailable):
        await ask(store)  # type: ignore[misc]
    await store.close()
