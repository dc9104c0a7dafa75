"""Requests to strangers' servers: where they lead is checked at the connection, at every hop."""

import threading
from collections.abc import Iterator

import pytest
from aiohttp.abc import ResolveResult

from pupload.errors import InvalidRequest, PuploadError, TooLarge
from pupload.web.addresses import Allowed, read_allowed
from pupload.web.guarded import Patience, Web
from pupload.web.resolver import Resolver
from tests.support.web_server import Reply, WebServer, a_web_server, endless, held, redirect

LIMIT = 1_000_000
SECRET = "?token=verysecret"


@pytest.fixture
def server() -> Iterator[WebServer]:
    with a_web_server() as server:
        yield server


@pytest.fixture
def web(server: WebServer) -> Web:
    return Web(read_allowed([f"127.0.0.1:{server.port}"]))


async def fetched(web: Web, url: str, limit_bytes: int = LIMIT) -> bytes:
    async with web.fetch(url, limit_bytes) as found:
        return b"".join([piece async for piece in found.pieces])


async def code_of(web: Web, url: str, limit_bytes: int = LIMIT) -> str:
    with pytest.raises(PuploadError) as refused:
        await fetched(web, url, limit_bytes)
    assert "verysecret" not in str(refused.value)
    return refused.value.code


def names(monkeypatch: pytest.MonkeyPatch, **addresses: str) -> None:
    """Let these names resolve to these addresses, as a hostile DNS server would."""

    async def resolve(_: object, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        address = addresses[host.partition(".")[0].lower()]
        return [ResolveResult(hostname=host, host=address, port=port, family=2, proto=0, flags=0)]

    monkeypatch.setattr(Resolver, "resolve", resolve)


async def test_a_file_that_may_be_fetched_arrives_whole(server: WebServer, web: Web) -> None:
    url = server.on("/file", Reply(body=bytes(range(256)) * 1000, headers={"Content-Type": "image/png; x=y"}))
    async with web.fetch(url + SECRET, LIMIT) as found:
        assert found.content_type == "image/png"
        assert b"".join([piece async for piece in found.pieces]) == bytes(range(256)) * 1000
    asked = server.asked("/file")[0]
    assert asked.path == "/file" + SECRET
    assert asked.headers["accept-encoding"] == "identity"
    assert not {"cookie", "authorization", "referer"} & set(asked.headers)


async def test_a_body_without_a_length_arrives_whole(server: WebServer, web: Web) -> None:
    assert await fetched(web, server.on("/file", Reply(body=b"abc", sized=False))) == b"abc"


@pytest.mark.parametrize("host", ["127.0.0.1", "[::ffff:127.0.0.1]", "localhost", "localhost.", "2130706433", "0x7f.1"])
async def test_this_machine_is_never_asked(server: WebServer, host: str) -> None:
    # The port is open for another host, so that only the address can be the reason.
    closed = Web(read_allowed([f"other.example:{server.port}"]))
    for scheme in ("http", "https"):
        assert await code_of(closed, f"{scheme}://{host}:{server.port}/file") == "URI_NOT_ALLOWED"
    assert server.seen == []


async def test_a_name_that_resolves_to_this_machine_is_refused_at_the_connection(
    server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    names(monkeypatch, evil="127.0.0.1", mapped="::ffff:169.254.169.254", inner="10.0.0.1")
    for name in ("evil", "mapped", "inner"):
        assert await code_of(Web(), f"https://{name}.example/{SECRET}") == "URI_NOT_ALLOWED"
    assert server.seen == []


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "a..example", ".example"])
async def test_a_name_that_cannot_be_asked_for_is_no_host(host: str) -> None:
    assert await code_of(Web(), f"https://{host}/{SECRET}") == "URI_NOT_FETCHED"


async def test_a_name_that_is_allowed_may_resolve_to_anything(
    server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    names(monkeypatch, files="127.0.0.1")
    server.on("/file", Reply(body=b"abc"))
    web = Web(read_allowed([f"files.example:{server.port}"]))
    assert await fetched(web, f"http://Files.example.:{server.port}/file") == b"abc"


async def test_a_name_that_leads_into_an_allowed_network_is_refused_on_another_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names(monkeypatch, files="127.0.0.1")
    web = Web(read_allowed(["127.0.0.1:9999"]))
    assert await code_of(web, "https://files.example/file") == "URI_NOT_ALLOWED"


async def test_redirects_are_followed_a_few_times(server: WebServer, web: Web) -> None:
    server.on("/a", redirect("/b", 301))
    server.on("/b", redirect(server.url + "/c", 307))
    server.on("/c", Reply(body=b"abc"))
    assert await fetched(web, server.url + "/a") == b"abc"
    server.on("/round", redirect("/round"))
    assert await code_of(web, server.url + "/round") == "URI_NOT_FETCHED"
    assert len(server.asked("/round")) == web.patience.hops


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/",
        "http://127.0.0.1:{other}/file",
        "https://localhost/",
        "file:///etc/passwd",
        "http://[::1]:{port}/",
        "https://user:verysecret@example.com/",
        "//10.0.0.1/x?verysecret",
        "http://0x7f.0.0.1:{port}/",
        "//[2]verysecret@",
        "//example.com:verysecret",
    ],
)
async def test_a_redirect_inward_is_refused_and_nobody_is_asked(server: WebServer, web: Web, target: str) -> None:
    with a_web_server() as inner:
        url = server.on("/start", redirect(target.format(port=server.port, other=inner.port)))
        assert await code_of(web, url) == "URI_NOT_ALLOWED"
        assert inner.seen == []
    assert len(server.seen) == 1


async def test_too_large_a_file_is_refused_by_its_announced_length(server: WebServer, web: Web) -> None:
    url = server.on("/file", Reply(body=bytes(101)))
    assert await code_of(web, url, 100) == "URI_TOO_LARGE"
    assert await fetched(web, url, 101) == bytes(101)


async def test_too_large_a_file_is_refused_without_a_length_too(server: WebServer, web: Web) -> None:
    with pytest.raises(TooLarge):
        await fetched(web, server.on("/file", endless()))


async def test_what_is_no_file_says_why(server: WebServer, web: Web) -> None:
    server.on("/broken", Reply(body=b"abc", headers={"Content-Length": "10"}, sized=False))
    server.on("/packed", Reply(body=b"abc", headers={"Content-Encoding": "gzip"}))
    for path, why in (("/none", "answered 404"), ("/broken", "broke off"), ("/packed", "compressed")):
        with pytest.raises(InvalidRequest, match=f"{path} could not be fetched: .*{why}"):
            await fetched(web, server.url + path + SECRET)


async def test_a_host_that_does_not_exist_or_answer_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: object, **__: object) -> list[ResolveResult]:
        raise OSError(None, "no such name")

    monkeypatch.setattr(Resolver, "resolve", unknown)
    assert await code_of(Web(), "https://nowhere.example/") == "URI_NOT_FETCHED"
    with a_web_server() as gone:
        port = gone.port
    assert await code_of(Web(read_allowed(["127.0.0.1"])), f"http://127.0.0.1:{port}/") == "URI_NOT_FETCHED"


async def test_a_server_that_says_nothing_is_given_up(server: WebServer, web: Web) -> None:
    go_on = threading.Event()
    url = server.on("/file", held(go_on, Reply(body=b"abc")))
    try:
        for patience in (Patience(idle_s=0.05), Patience(total_s=0.05)):
            assert await code_of(Web(web.allowed, patience), url) == "URI_NOT_FETCHED"
        with pytest.raises(InvalidRequest, match="takes too long"):
            await Web(web.allowed, Patience(post_s=0.05)).post(url, b"", {})
    finally:
        go_on.set()


async def test_a_server_that_drips_is_given_up(server: WebServer, web: Web) -> None:
    url = server.on("/file", Reply(body=bytes(1000)))
    hasty = Web(web.allowed, Patience(least_rate=1e15, grace_s=0.0))
    with pytest.raises(InvalidRequest, match="sends less than"):
        await fetched(hasty, url)


async def test_no_proxy_is_taken_from_the_environment(
    server: WebServer, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_web_server() as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
            monkeypatch.setenv(name.upper(), proxy.url)
        assert await fetched(web, server.on("/file", Reply(body=b"abc"))) == b"abc"
        assert proxy.seen == []


async def test_what_the_reader_of_a_file_raises_stays_as_it_is(server: WebServer, web: Web) -> None:
    url = server.on("/file", Reply(body=b"abc"))
    with pytest.raises(OSError, match="disk"):
        async with web.fetch(url, LIMIT):
            raise OSError("the disk is full")


async def test_a_post_arrives_as_it_is_and_is_not_redirected(server: WebServer, web: Web) -> None:
    url = server.on("/hook", redirect("/elsewhere", 307))
    posted = await web.post(url + SECRET, b'{"a": 1}', {"Content-Type": "application/json", "webhook-id": "m_1"})
    assert (posted.status, posted.headers["Location"]) == (307, "/elsewhere")
    assert [seen.path for seen in server.seen] == ["/hook" + SECRET]
    asked = server.seen[0]
    assert (asked.body, asked.headers["webhook-id"], asked.method) == (b'{"a": 1}', "m_1", "POST")


async def test_a_post_reads_no_endless_answer(server: WebServer, web: Web) -> None:
    assert (await web.post(server.on("/hook", endless()), b"", {})).status == 200


async def test_a_post_inward_is_refused(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, evil="127.0.0.1")
    for url in (server.url, "https://evil.example/hook"):
        with pytest.raises(InvalidRequest) as refused:
            await Web(Allowed()).post(url, b"", {})
        assert refused.value.code == "URI_NOT_ALLOWED"
    assert server.seen == []
