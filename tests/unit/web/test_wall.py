"""The wall before the inside network, at the socket: what is refused is never connected to, whatever led there.

Each address of the table is asked for as it is written, as what a name means, and as where a redirect leads.
"""

import gzip
import socket
from collections.abc import Iterator

import pytest
from aiohttp.abc import ResolveResult

from pupload.errors import PuploadError
from pupload.web.addresses import read_allowed
from pupload.web.guarded import Patience, Web
from pupload.web.resolver import Resolver
from tests.support.web_server import Answer, Reply, WebServer, a_web_server, endless, redirect

INSIDE_4 = """
0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 127.0.0.0 127.255.255.255 168.63.129.16
169.254.0.0 169.254.169.254 169.254.255.255 172.16.0.0 172.31.255.255 192.0.0.0 192.0.0.255 192.0.2.0 192.0.2.255
192.88.99.0 192.88.99.255 192.168.0.0 192.168.255.255 198.18.0.0 198.19.255.255 198.51.100.0 198.51.100.255 203.0.113.0
203.0.113.255 224.0.0.0 239.255.255.255 240.0.0.0 255.255.255.255
"""
INSIDE_6 = """
:: ::1 ::7f00:1 ::a9fe:a9fe ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:a9fe:a9fe ::ffff:0:127.0.0.1 64:ff9b::7f00:1
64:ff9b::a9fe:a9fe 64:ff9b:1::a00:1 100::1 1fff:ffff:: 2001:: 2001:0:53aa:64c::1 2001:1ff:ffff::1 2001:db8::
2001:db8:ffff:ffff::1 2002:: 2002:7f00:1::1 2002:a9fe:a9fe::1 2002:ffff:ffff::1 3fff:: 3fff:fff:ffff::1 4000:: 5f00::1
8000::1 c000::1 fc00:: fd00:ec2::254 fdff:ffff::1 fe80:: fe80::1 febf::1 fec0::1 ff02::1 ffff::1
"""
SPELT = """
127.1 127.0.1 10.1 2130706433 0x7f000001 0x7f.0.0.1 0x7f.1 0177.0.0.1 017700000001 127.0.0.01 00000127.0.0.1 0 0x0
127.0.0.1. 127.0.0.1.. 2852039166 0xa9fea9fe 0251.0376.0251.0376 localhost localhost. LOCALHOST [::1%25lo]
[fe80::1%25eth0] [::ffff:7f00:1] [0:0:0:0:0:0:0:1] [::ffff:127.0.0.1%251] [v1.x] [::127.0.0.1] %31%32%37.0.0.1
127%2e0.0.1
1\uff127.0.0.1 127\u30020\u30020\u30021 \u2460\u2461\u2466.\u24ea.\u24ea.\u2460 \u24dbocalhost
"""
"""Other ways to write an address of this machine, or the like of them."""
AROUND = """
127.0.0.1@example.com user@127.0.0.1 example.com@127.0.0.1 127.0.0.1#@example.com 127.0.0.1:22 127.0.0.1:6379
127.0.0.1:2375 [::1]:5432 example.com:22 example.com:0 example.com:65536 example.com\\@127.0.0.1
127.0.0.1%00.example.com
"""
"""URLs whose host or port is not what it seems."""


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


@pytest.fixture(scope="module")
def server() -> Iterator[WebServer]:
    """A stranger's server."""
    with a_web_server("127.0.0.2") as server:
        yield server


@pytest.fixture
def web(server: WebServer) -> Web:
    return Web(read_allowed([f"127.0.0.2:{server.port}"]))


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
    """Let every name mean these addresses, the next ones at each question; the last answer stays."""
    left = list(answers)

    async def resolve(_: object, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        found = left.pop(0) if len(left) > 1 else left[0]
        kinds = [socket.AF_INET6 if ":" in each else socket.AF_INET for each in found]
        return [
            ResolveResult(hostname=host, host=each, port=port, family=kind, proto=0, flags=0)
            for each, kind in zip(found, kinds, strict=True)
        ]

    monkeypatch.setattr(Resolver, "resolve", resolve)


async def fetched(web: Web, url: str) -> bytes:
    async with web.fetch(url, 100_000) as found:
        return b"".join([piece async for piece in found.pieces])


async def refused(web: Web, url: str, *codes: str) -> None:
    with pytest.raises(PuploadError) as error:
        await fetched(web, url)
    assert error.value.code in (codes or {"URI_NOT_ALLOWED"}), (url, error.value)


@pytest.mark.parametrize("address", (INSIDE_4 + INSIDE_6).split())
async def test_no_inside_address_is_connected_to(
    server: WebServer, web: Web, connected: list[str], monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    resolving(monkeypatch, [address])
    written = f"[{address}]" if ":" in address else address
    with pytest.raises(PuploadError) as posted:
        await web.post(f"https://{written}/", b"", {})
    assert posted.value.code == "URI_NOT_ALLOWED"
    for url in (f"https://{written}/", "https://evil.example/"):
        await refused(web, url)
    assert connected == []
    await refused(web, server.on("/start", redirect("https://evil.example/")))
    assert set(connected) == {"127.0.0.2"}


@pytest.mark.parametrize("host", (SPELT + AROUND).split())
async def test_no_spelling_leads_around_the_wall(web: Web, connected: list[str], host: str) -> None:
    for scheme in ("https", "http"):
        await refused(web, f"{scheme}://{host}/", "URI_NOT_ALLOWED", "URI_NOT_FETCHED")
    assert connected == []


async def test_a_name_that_means_something_else_each_time_is_judged_each_time(
    server: WebServer, web: Web, connected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first answer passes whatever looks before it connects; then come those of who means harm.
    resolving(monkeypatch, ["127.0.0.2"], ["127.0.0.1"], ["127.0.0.2", "169.254.169.254"], ["169.254.169.254"])
    names = Web(read_allowed(["127.0.0.2"]))
    for _ in range(4):
        # Nothing speaks TLS there; what counts is who was asked.
        await refused(names, "https://files.example/", "URI_NOT_ALLOWED", "URI_NOT_FETCHED")
    assert set(connected) <= {"127.0.0.2"}
    server.on("/hop", redirect("https://files.example/"))
    await refused(web, server.url + "/hop")
    assert set(connected) <= {"127.0.0.2"}


@pytest.mark.parametrize("order", [["127.0.0.1", "127.0.0.2"], ["::1", "127.0.0.2"], ["10.0.0.1", "::ffff:127.0.0.1"]])
async def test_one_inside_address_first_among_several_ends_the_request(
    web: Web, connected: list[str], monkeypatch: pytest.MonkeyPatch, order: list[str]
) -> None:
    resolving(monkeypatch, order)
    await refused(web, "https://mixed.example/")
    assert connected == []


async def test_every_hop_is_judged(server: WebServer, web: Web, connected: list[str]) -> None:
    server.on("/1", redirect("/2"))
    server.on("/2", redirect(f"{server.url}/3", 308))
    with a_web_server() as inner:
        server.on("/3", redirect(f"{inner.url}/secret", 303))
        await refused(web, server.url + "/1")
        assert inner.seen == []
    assert connected == ["127.0.0.2"] * 3


def a_head(text: bytes) -> Answer:
    """These bytes and nothing that makes sense of them."""

    def answer(handler: object) -> None:
        handler.wfile.write(text)  # type: ignore[attr-defined]

    return answer


BOMB = gzip.compress(bytes(50_000_000))
LYING: dict[str, Answer] = {
    "gzip": Reply(body=BOMB, headers={"Content-Encoding": "gzip"}),
    "deflate, gzip": Reply(body=BOMB, headers={"Content-Encoding": "deflate, gzip"}),
    "br": Reply(body=BOMB, headers={"Content-Encoding": "br"}),
    "endless": endless(b"x" * 1000),
    "too long": Reply(body=b"x", headers={"Content-Length": "99999999999"}, sized=False),
    "negative": Reply(body=b"x", headers={"Content-Length": "-1"}, sized=False),
    "no number": Reply(body=b"x", headers={"Content-Length": "1 2"}, sized=False),
    "two lengths": a_head(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
    "length and chunks": a_head(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc"),
    "bad chunk": a_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n"),
    "huge chunk": a_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc"),
    "huge header": a_head(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n"),
    "many headers": a_head(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000 + b"\r\n"),
    "no HTTP": a_head(b"220 mail.example ESMTP\r\n"),
    "loop": redirect("/loop"),
    "to nothing": Reply(302),
    "to itself with a longer path": redirect("x/" * 500),
}


@pytest.mark.parametrize("how", LYING)
async def test_a_server_that_lies_gets_a_refusal_and_little_memory(server: WebServer, web: Web, how: str) -> None:
    url = server.on("/loop", LYING[how])
    hasty = Web(web.allowed, Patience(total_s=20.0, idle_s=10.0))
    with pytest.raises(PuploadError) as error:
        await fetched(hasty, url)
    assert error.value.code in {"URI_NOT_FETCHED", "URI_TOO_LARGE", "URI_NOT_ALLOWED"}


async def test_a_bomb_that_says_nothing_of_itself_stays_as_it_came(server: WebServer, web: Web) -> None:
    url = server.on("/bomb", Reply(body=BOMB, headers={"Content-Type": "application/gzip"}))
    assert await fetched(web, url) == BOMB
