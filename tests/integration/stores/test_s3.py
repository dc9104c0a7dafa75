"""What the S3 client does beyond the contract: copies in parts, nothing of the environment, imports when needed."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pupload.errors import InvalidConfig, StoreUnavailable
from pupload.stores.base import StoreAddress
from pupload.stores.clients import Clients
from pupload.stores.open import open_store
from pupload.stores.s3 import S3Store
from tests.support.s3_servers import S3Server

pytestmark = pytest.mark.integration

MB = 1 << 20


async def test_what_is_too_large_for_one_copy_is_copied_in_parts(moto: S3Server) -> None:
    store = S3Store(moto.new_bucket())
    store.largest_copy_bytes, store.copy_part_bytes = 6 * MB, 5 * MB
    content = bytes(range(256)) * (12 * MB // 256)
    await store.put("source", content, "image/tiff")
    copied = await store.copy("source", "target")
    assert (copied.size_bytes, copied.content_type) == (12 * MB, "image/tiff")
    assert copied.etag.endswith("-3")  # how S3 marks an object of three parts
    assert await store.get("target", 12 * MB) == content
    await store.close()


async def test_no_profile_file_or_proxy_of_the_environment_matters(
    rclone: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    address = rclone.new_bucket()
    broken = tmp_path / "config"
    broken.write_text("this is no configuration")
    for name, value in {
        "AWS_PROFILE": "nobody",
        "AWS_CONFIG_FILE": str(broken),
        "AWS_ACCESS_KEY_ID": "other",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "HTTP_PROXY": "http://127.0.0.1:1",
        "http_proxy": "http://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(name, value)
    store = S3Store(address)
    await store.check()
    await store.close()


async def test_an_endpoint_may_bring_its_own_scheme(rclone: S3Server) -> None:
    address = rclone.new_bucket()
    store = S3Store(replace(address, endpoint=f"http://{address.endpoint}", secure=True))
    await store.check()
    await store.close()


@asynccontextmanager
async def a_server_that_answers(answer: bytes) -> AsyncIterator[S3Store]:
    """A store whose server says the same to everything, and hangs up."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(say, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        store = S3Store(StoreAddress("faulty", "s3", f"127.0.0.1:{port}", "b", "a", "s", secure=False))
        yield store
        await store.close()


async def test_an_answer_that_is_cut_off_is_no_object() -> None:
    async with a_server_that_answers(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: x\r\n\r\nhalf") as store:
        with pytest.raises(StoreUnavailable, match="could not read k"):
            await store.get("k", 100)


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n", b"no HTTP at all\r\n\r\n"]
)
async def test_a_server_with_a_fault_of_its_own_is_unavailable(answer: bytes) -> None:
    async with a_server_that_answers(answer) as store:
        for attempt in [store.check(), store.head("k"), store.get("k", 1), store.put_stream("k", _one_byte(), 1)]:
            with pytest.raises(StoreUnavailable, match="could not"):
                await attempt


async def _one_byte() -> AsyncIterator[bytes]:
    yield b"x"


def test_clients_are_made_once(rclone: S3Server) -> None:
    clients = Clients(rclone.new_bucket())
    assert clients.asking() is clients.asking() is not clients.copying()
    clients.close()


@pytest.mark.parametrize(("kind", "loaded"), [("none", set()), ("s3", {"boto3"}), ("minio", {"boto3", "minio"})])
def test_a_kind_of_store_is_loaded_when_one_is_opened(kind: str, loaded: set[str]) -> None:
    script = f"""
import sys
from pupload.stores.base import StoreAddress
from pupload.stores.open import open_store
if {kind!r} != "none":
    open_store(StoreAddress("n", {kind!r}, "localhost", "bucket", "a", "s"))
print(*sorted({{"boto3", "minio", "watchfiles"}} & set(sys.modules)))
"""
    told = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert set(told.split()) == loaded


def test_a_type_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="use s3 or minio"):
        open_store(StoreAddress("n", "ftp", "localhost", "bucket", "a", "s"))
