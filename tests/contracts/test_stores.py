"""What every store does, whatever server is behind it."""

import asyncio
import base64
import hashlib
import io
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from pupload.errors import Forbidden, Malformed, NotFound, StoreUnavailable, TooLarge
from pupload.stores.base import Multipart, Part, SignedRequest, Store, StoreAddress
from pupload.stores.embedded import EmbeddedStore
from pupload.stores.open import open_store
from pupload.stores.s3 import S3Store
from tests.support.minio_stand_in import MinioStandIn
from tests.support.s3_servers import S3Server, a_moto, an_rclone, at, free_port

pytestmark = pytest.mark.integration

MB = 1 << 20
KEYS = [
    "plain/a.txt",
    "with space+plus/a b+c.png",
    "grüße/ñandú/写真.jpg",
    "per%20cent/100%.txt",
    "a&b=c;d@e/'x'(1)!*.x",
]


@dataclass(frozen=True, slots=True)
class Case:
    """A store, where it is, and whether its server checks what was signed."""

    store: Store
    address: StoreAddress
    strict: bool


@pytest.fixture(scope="module")
def rclone() -> Iterator[S3Server]:
    with an_rclone() as server:
        yield server


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Server]:
    with a_moto() as server:
        yield server


@asynccontextmanager
async def _embedded(folder: Path) -> AsyncIterator[Case]:
    store = await EmbeddedStore.start(folder)
    yield Case(store, store.address, strict=True)
    await store.close()


@asynccontextmanager
async def _remote(server: S3Server) -> AsyncIterator[Case]:
    address = server.new_bucket()
    store = open_store(address)
    await store.check()
    yield Case(store, address, server.strict)
    await store.close()


@asynccontextmanager
async def _minio(server: S3Server) -> AsyncIterator[Case]:
    address = server.new_bucket("minio")
    async with MinioStandIn(server.endpoint).serving() as stand_in:
        store = open_store(at(address, stand_in.endpoint))
        await store.check()
        yield Case(store, at(address, stand_in.endpoint), server.strict)
        await store.close()


@pytest.fixture(params=["embedded", "s3 on rclone", "s3 on moto", "minio"])
async def case(request: pytest.FixtureRequest, tmp_path: Path, rclone: S3Server, moto: S3Server) -> AsyncIterator[Case]:
    ways = {
        "embedded": lambda: _embedded(tmp_path),
        "s3 on rclone": lambda: _remote(rclone),
        "s3 on moto": lambda: _remote(moto),
        "minio": lambda: _minio(rclone),
    }
    async with ways[request.param]() as case:
        yield case


@pytest.fixture
def store(case: Case) -> Store:
    return case.store


@pytest.fixture
def strict(case: Case) -> Case:
    if not case.strict:
        pytest.skip("this server believes every signature")
    return case


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def sent(client: aiohttp.ClientSession, request: SignedRequest, content: bytes | io.BytesIO) -> int:
    async with client.put(URL(request.url, encoded=True), data=content, headers=request.headers) as answer:
        return answer.status


async def fetched(client: aiohttp.ClientSession, url: str) -> tuple[int, bytes]:
    async with client.get(URL(url, encoded=True)) as answer:
        return answer.status, await answer.read()


async def chunks_of(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def keys_below(store: Store, prefix: str) -> list[str]:
    return sorted([head.key async for head in store.list(prefix)])


async def test_what_was_put_is_seen_at_once_with_size_type_and_time(store: Store) -> None:
    before = datetime.now(UTC)
    written = await store.put("run/edge/0", b"hello", "text/plain")
    assert await store.head("run/edge/0") == written
    assert (written.key, written.size_bytes, written.content_type) == ("run/edge/0", 5, "text/plain")
    assert abs(written.modified - before) < timedelta(minutes=1)
    assert written.modified.tzinfo is UTC


async def test_there_is_no_head_where_there_is_no_object(store: Store) -> None:
    assert await store.head("never/written") is None


async def test_an_etag_stays_until_the_object_is_written_anew(store: Store) -> None:
    first = await store.put("k", b"first", "")
    assert first.etag
    assert (await store.head("k")) == first
    assert [head.etag async for head in store.list("k")] == [first.etag]
    assert (await store.put("k", b"other", "")).etag != first.etag


@pytest.mark.parametrize("key", KEYS)
async def test_every_key_works_in_every_method(store: Store, client: aiohttp.ClientSession, key: str) -> None:
    assert await sent(client, store.sign_put(key, 60, public=True), b"signed") == HTTPStatus.OK
    assert await fetched(client, store.sign_get(key, 60, public=True)) == (HTTPStatus.OK, b"signed")
    await store.put_stream(key, chunks_of(b"str", b"eam"), 6)
    assert await store.get(key, 100) == b"stream"
    assert (await store.put(key, b"put", "text/plain")).key == key
    assert await keys_below(store, key) == [key]
    await store.copy(key, f"{key}.copy")
    await store.delete([key])
    assert await store.head(key) is None
    assert await store.get(f"{key}.copy", 100) == b"put"


async def test_a_download_has_the_name_that_was_asked_for(store: Store, client: aiohttp.ClientSession) -> None:
    await store.put("k", b"x", "image/png")
    url = store.sign_get("k", 60, public=True, download_name='my "photo" é.png')
    async with client.get(URL(url, encoded=True)) as answer:
        disposition = answer.headers["Content-Disposition"]
    assert disposition == "attachment; filename=\"my _photo_ _.png\"; filename*=UTF-8''my%20%22photo%22%20%C3%A9.png"


async def test_what_is_larger_than_the_limit_is_not_read(store: Store) -> None:
    await store.put("k", b"12345", "")
    assert await store.get("k", 5) == b"12345"
    with pytest.raises(TooLarge, match="larger than 4 bytes"):
        await store.get("k", 4)


async def test_reading_what_is_not_there_says_so(store: Store) -> None:
    with pytest.raises(NotFound, match="never/written"):
        await store.get("never/written", 10)


async def test_a_copy_has_bytes_and_type_of_its_source_and_replaces_its_target(store: Store) -> None:
    await store.put("target", b"old", "text/plain")
    await store.put("source", b"new!", "image/png")
    copied = await store.copy("source", "target")
    assert (copied.key, copied.size_bytes, copied.content_type) == ("target", 4, "image/png")
    assert await store.get("target", 10) == b"new!"


async def test_a_copy_of_nothing_says_so(store: Store) -> None:
    with pytest.raises(NotFound, match="never/written"):
        await store.copy("never/written", "target")
    assert await store.head("target") is None


async def test_what_is_deleted_is_gone_and_can_come_back(store: Store) -> None:
    await store.put("a/1", b"1", "")
    await store.put("a/2", b"2", "")
    await store.delete(["a/1", "never/written"])
    await store.delete([])
    assert await keys_below(store, "a/") == ["a/2"]
    assert (await store.put("a/1", b"again", "")).size_bytes == 5


async def test_more_keys_than_one_request_takes_are_deleted(store: Store) -> None:
    await store.put("last", b"1", "")
    await store.delete([*(f"k{n}" for n in range(1000)), "last"])
    assert await store.head("last") is None


async def test_a_listing_holds_the_prefix_and_nothing_else_over_many_pages(case: Case) -> None:
    assert isinstance(case.store, S3Store)
    case.store.keys_a_page = 2
    for key in ["in/1", "in/2", "in/deep/3", "in/deep/4", "in/5", "out/1", "inner/1"]:
        await case.store.put(key, key.encode(), "")
    found = [head async for head in case.store.list("in/")]
    assert sorted(head.key for head in found) == ["in/1", "in/2", "in/5", "in/deep/3", "in/deep/4"]
    assert all(head.size_bytes == len(head.key) and head.modified.tzinfo is UTC for head in found)
    assert await keys_below(case.store, "no such") == []


async def test_fifty_at_once_do_not_disturb_each_other(store: Store) -> None:
    async def round_trip(number: int) -> bytes:
        await store.put(f"many/{number}", str(number).encode(), "")
        return await store.get(f"many/{number}", 10)

    assert await asyncio.gather(*map(round_trip, range(50))) == [str(n).encode() for n in range(50)]
    assert len(await keys_below(store, "many/")) == 50


async def test_a_large_object_streams_in_constant_memory(store: Store) -> None:
    digest = hashlib.sha256()

    async def source() -> AsyncIterator[bytes]:
        for number in range(64):
            chunk = bytes([number]) * MB
            digest.update(chunk)
            yield chunk

    tracemalloc.start()
    written = await store.put_stream("large", source(), 64 * MB, "image/tiff")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (written.size_bytes, written.content_type) == (64 * MB, "image/tiff")
    assert peak < 24 * MB
    assert hashlib.sha256(await store.get("large", 64 * MB)).digest() == digest.digest()


async def test_an_empty_stream_is_an_empty_object(store: Store) -> None:
    assert (await store.put_stream("empty", chunks_of(), 0)).size_bytes == 0


class TheClientLeft(Exception):
    """A fault of whoever sends the bytes."""


async def _breaking() -> AsyncIterator[bytes]:
    yield b"x" * MB
    yield b"x" * MB
    raise TheClientLeft


async def test_a_stream_that_breaks_leaves_no_object(store: Store) -> None:
    with pytest.raises(TheClientLeft):
        await store.put_stream("broken", _breaking(), 4 * MB)
    assert await keys_below(store, "") == []


async def test_a_stream_that_breaks_leaves_the_object_of_before(store: Store) -> None:
    before = await store.put("k", b"before", "text/plain")
    with pytest.raises(TheClientLeft):
        await store.put_stream("k", _breaking(), 4 * MB)
    assert await store.head("k") == before


async def test_an_upload_that_is_cancelled_leaves_no_object(store: Store) -> None:
    halfway = asyncio.Event()

    async def stalling() -> AsyncIterator[bytes]:
        yield b"x" * MB
        yield b"x" * MB
        halfway.set()
        await asyncio.Event().wait()

    upload = asyncio.create_task(store.put_stream("cut", stalling(), 4 * MB))
    await halfway.wait()
    upload.cancel()
    await asyncio.wait([upload])
    assert upload.cancelled()
    assert await keys_below(store, "") == []


@pytest.mark.parametrize("size_bytes", [5, 7])
async def test_a_stream_of_another_length_than_announced_leaves_no_object(store: Store, size_bytes: int) -> None:
    with pytest.raises(Malformed, match=f"{size_bytes} bytes"):
        await store.put_stream("k", chunks_of(b"abc", b"def"), size_bytes)
    assert await keys_below(store, "") == []


async def test_a_store_works_on_after_streams_that_broke(store: Store) -> None:
    for _ in range(3):
        with pytest.raises(TheClientLeft):
            await store.put_stream("k", _breaking(), 4 * MB)
    assert (await store.put_stream("k", chunks_of(b"whole"), 5)).size_bytes == 5


async def test_a_signed_size_digest_and_type_are_what_can_be_written(
    strict: Case, client: aiohttp.ClientSession
) -> None:
    md5 = base64.b64encode(hashlib.md5(b"right").digest()).decode()
    request = strict.store.sign_put("k", 60, public=True, size_bytes=5, md5=md5, content_type="text/plain")
    assert request.headers == {"Content-Length": "5", "Content-MD5": md5, "Content-Type": "text/plain"}
    unsized = replace(request, headers={k: v for k, v in request.headers.items() if k != "Content-Length"})
    other_type = replace(request, headers={**request.headers, "Content-Type": "text/html"})
    assert await sent(client, request, b"wrong") == HTTPStatus.BAD_REQUEST
    assert await sent(client, unsized, b"longer than that") == HTTPStatus.FORBIDDEN
    assert await sent(client, other_type, b"right") == HTTPStatus.FORBIDDEN
    assert await strict.store.head("k") is None
    assert await sent(client, request, b"right") == HTTPStatus.OK
    head = await strict.store.head("k")
    assert head is not None
    assert (head.size_bytes, head.content_type) == (5, "text/plain")


async def test_a_url_is_for_its_method_its_key_and_its_time(strict: Case, client: aiohttp.ClientSession) -> None:
    await strict.store.put("mine", b"x", "")
    await strict.store.put("other", b"x", "")
    put_url, get_url = (
        strict.store.sign_put("mine", 60, public=True).url,
        strict.store.sign_get("mine", 60, public=True),
    )
    assert (await fetched(client, put_url))[0] == HTTPStatus.FORBIDDEN
    assert await sent(client, SignedRequest(get_url, {}), b"y") == HTTPStatus.FORBIDDEN
    assert (await fetched(client, get_url.replace("mine?", "other?")))[0] == HTTPStatus.FORBIDDEN
    assert await sent(client, SignedRequest(put_url.replace("mine?", "other?"), {}), b"y") == HTTPStatus.FORBIDDEN
    assert (await fetched(client, get_url.replace("X-Amz-Expires=60", "X-Amz-Expires=6000")))[0] == HTTPStatus.FORBIDDEN
    assert await strict.store.get("other", 10) == b"x"


async def test_an_expired_url_is_refused(strict: Case, client: aiohttp.ClientSession) -> None:
    request = strict.store.sign_put("late", 1, public=True)
    await asyncio.sleep(2.1)
    # 400 is what rclone says, 403 what others do.
    assert await sent(client, request, b"x") in {HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN}
    assert await strict.store.head("late") is None


async def test_urls_for_outside_name_the_public_endpoint(case: Case) -> None:
    store = S3Store(replace(case.address, public_endpoint="files.example.org", secure=True))
    urls = [store.sign_get("k", 60, public=True), store.sign_put("k", 60, public=True).url]
    assert all(url.startswith(f"https://files.example.org/{case.address.bucket}/k?") for url in urls)
    assert store.sign_get("k", 60, public=False).startswith(f"https://{case.address.endpoint}/")
    await store.close()


async def test_a_wrong_secret_is_named_as_such(strict: Case) -> None:
    store = S3Store(replace(strict.address, secret_key="another"))
    for attempt in [store.check(), store.head("k"), store.put("k", b"", ""), store.put_stream("k", chunks_of(), 0)]:
        with pytest.raises(Forbidden, match="AccessKey and SecretKey"):
            await attempt
    await store.close()


async def test_a_missing_bucket_is_named_as_such(case: Case) -> None:
    store = S3Store(replace(case.address, bucket="no-such-bucket"))
    for attempt in [
        store.check(),
        store.put("k", b"", ""),
        store.get("k", 1),
        store.put_stream("k", chunks_of(b"1"), 1),
    ]:
        with pytest.raises(NotFound, match="no bucket 'no-such-bucket'"):
            await attempt
    await store.close()


async def test_a_server_that_does_not_answer_is_unavailable_and_nothing_signed_is_told(case: Case) -> None:
    store = S3Store(replace(case.address, endpoint=f"127.0.0.1:{free_port()}"))
    attempts = [
        store.check(),
        store.head("k"),
        store.put("k", b"", ""),
        store.put_stream("k", chunks_of(b"1"), 1),
        store.get("k", 1),
        store.copy("k", "l"),
        store.delete(["k"]),
        keys_below(store, ""),
    ]
    for attempt in attempts:
        with pytest.raises(StoreUnavailable, match="does not answer") as caught:
            await attempt
        told: BaseException | None = caught.value
        while told is not None:
            assert "Signature" not in str(told)
            assert case.address.secret_key not in str(told)
            told = told.__cause__
    await store.close()


async def test_signed_addresses_and_secrets_do_not_show_in_what_is_printed(case: Case) -> None:
    assert "Signature" not in repr(case.store.sign_put("k", 60, public=True))
    assert case.address.secret_key not in repr(case.address)


PART = 5 * MB
"""The smallest part that every server takes, but for the last one."""


async def sent_part(client: aiohttp.ClientSession, store: Store, upload: Multipart, number: int, content: bytes) -> int:
    request = store.sign_part(upload, number, 60, public=True, size_bytes=len(content))
    return await sent(client, request, io.BytesIO(content))


@pytest.mark.parametrize("key", ["run/edge/0", "at-the-top", "grüße/a b+c%.bin"])
async def test_parts_become_one_object_when_they_are_completed_and_not_before(
    store: Store, client: aiohttp.ClientSession, key: str
) -> None:
    upload = await store.begin_multipart(key, "image/tiff")
    assert await store.list_parts(upload) == []
    for number, content in enumerate([b"a" * PART, b"b" * PART, b"c"], start=1):
        assert await sent_part(client, store, upload, number, content) == HTTPStatus.OK
    parts = await store.list_parts(upload)
    assert [(part.number, part.size_bytes) for part in parts] == [(1, PART), (2, PART), (3, 1)]
    assert await store.head(key) is None
    head = await store.complete_multipart(upload, parts)
    assert (head.key, head.size_bytes, head.content_type) == (key, 2 * PART + 1, "image/tiff")
    assert head == await store.head(key)
    assert await store.get(key, 3 * PART) == b"a" * PART + b"b" * PART + b"c"
    assert await keys_below(store, "") == [key]


async def test_parts_may_come_in_any_order_and_twice(store: Store, client: aiohttp.ClientSession) -> None:
    upload = await store.begin_multipart("k")
    for number in (2, 1, 2, 1):
        assert await sent_part(client, store, upload, number, bytes([number]) * PART) == HTTPStatus.OK
    await store.complete_multipart(upload, await store.list_parts(upload))
    assert await store.get("k", 2 * PART) == b"\1" * PART + b"\2" * PART


async def test_all_parts_are_listed_over_many_pages(case: Case, client: aiohttp.ClientSession) -> None:
    assert isinstance(case.store, S3Store)
    case.store.parts_a_page = case.store.keys_a_page = 2
    upload = await case.store.begin_multipart("k")
    for number in range(1, 13):
        await sent_part(client, case.store, upload, number, b"x" * number)
    assert [part.number for part in await case.store.list_parts(upload)] == list(range(1, 13))
    await case.store.abort_multipart(upload)


async def test_of_an_aborted_upload_nothing_is_left(store: Store, client: aiohttp.ClientSession) -> None:
    upload = await store.begin_multipart("k")
    await sent_part(client, store, upload, 1, b"x")
    for _ in range(2):
        await store.abort_multipart(upload)
    assert await keys_below(store, "") == []
    with pytest.raises(NotFound):
        await store.list_parts(upload)
    # moto breaks down over it.
    with pytest.raises((NotFound, StoreUnavailable)):
        await store.complete_multipart(upload, [Part(1, 1, '"e"')])
    assert await store.head("k") is None


async def test_two_uploads_of_one_key_do_not_meet(store: Store, client: aiohttp.ClientSession) -> None:
    first, second = await store.begin_multipart("k"), await store.begin_multipart("k")
    await sent_part(client, store, first, 1, b"first")
    await sent_part(client, store, second, 1, b"other one")
    assert [part.size_bytes for part in await store.list_parts(first)] == [5]
    await store.complete_multipart(first, await store.list_parts(first))
    await store.abort_multipart(second)
    assert await store.get("k", 10) == b"first"


async def test_a_signed_part_has_the_size_that_was_signed(strict: Case, client: aiohttp.ClientSession) -> None:
    upload = await strict.store.begin_multipart("k")
    request = strict.store.sign_part(upload, 1, 60, public=True, size_bytes=5)
    assert request.headers == {"Content-Length": "5"}
    assert await sent(client, replace(request, headers={}), b"longer than that") == HTTPStatus.FORBIDDEN
    assert await sent(client, request, b"right") == HTTPStatus.OK
    await strict.store.abort_multipart(upload)


@pytest.fixture
async def hints(store: Store) -> AsyncIterator[asyncio.Queue[str]]:
    """The hints of the store, from when it has begun to give them."""
    watch = store.watch()
    if watch is None:
        pytest.skip("this store cannot tell")
    hints: asyncio.Queue[str] = asyncio.Queue()

    async def listen() -> None:
        async for key in watch:
            hints.put_nowait(key)

    listening = asyncio.create_task(listen())
    while hints.empty():
        await store.put("first", b"", "")
        await asyncio.sleep(0.05)
    yield hints
    listening.cancel()
    await asyncio.wait([listening])


async def awaited(hints: asyncio.Queue[str], *keys: str) -> None:
    missing = set(keys)
    async with asyncio.timeout(10):
        while missing:
            missing.discard(await hints.get())


async def test_a_watch_tells_what_clients_and_the_store_itself_write(
    store: Store, hints: asyncio.Queue[str], client: aiohttp.ClientSession
) -> None:
    for key in KEYS:
        assert await sent(client, store.sign_put(key, 60, public=True), b"x") == HTTPStatus.OK
    await awaited(hints, *KEYS)
    await store.copy(KEYS[0], "copied/to/here")
    await store.put_stream("streamed/to/here", chunks_of(b"1"), 1)
    await awaited(hints, "copied/to/here", "streamed/to/here")


async def test_a_watch_tells_an_object_that_is_written_again(store: Store, hints: asyncio.Queue[str]) -> None:
    for content in [b"1", b"2"]:
        await store.put("again", content, "")
        await awaited(hints, "again")


async def test_a_watch_keeps_up_with_many_at_once(store: Store, hints: asyncio.Queue[str]) -> None:
    keys = [f"run-{n}/edge/0" for n in range(50)]
    await asyncio.gather(*(store.put(key, b"x", "") for key in keys))
    await awaited(hints, *keys)


async def test_an_upload_is_told_when_it_is_whole_and_not_before(store: Store, hints: asyncio.Queue[str]) -> None:
    looked, told = asyncio.Event(), []

    async def source() -> AsyncIterator[bytes]:
        yield b"x" * MB
        yield b"x" * MB
        await store.put("meanwhile", b"", "")
        await looked.wait()
        yield b"x" * MB

    writing = asyncio.create_task(store.put_stream("slow", source(), 3 * MB))
    while "meanwhile" not in told:
        told.append(await hints.get())
    assert set(told) <= {"first", "meanwhile"}
    looked.set()
    await writing
    await awaited(hints, "slow")
