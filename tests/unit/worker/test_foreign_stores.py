"""A worker's transfers with a store that a flow named: no connection to where users may not send us."""

import base64
import hashlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pupload.protocol import ObjectRef, SignedPut
from pupload.web.addresses import read_allowed
from pupload.worker.source import Source
from pupload.worker.transfer import TransferFailed, Transfers
from tests.support.web_server import Reply, WebServer, a_web_server, redirect


@pytest.fixture
def inner() -> Iterator[WebServer]:
    """What only this machine can reach."""
    with a_web_server() as server:
        yield server


@pytest.fixture
def outer() -> Iterator[WebServer]:
    """A stranger's store, where this worker may ask it."""
    with a_web_server("127.0.0.2") as server:
        yield server


@asynccontextmanager
async def transfers(outer: WebServer) -> AsyncIterator[Transfers]:
    made = Transfers(retry_for_s=0.0, allowed=read_allowed([f"127.0.0.2:{outer.port}"]))
    try:
        yield made
    finally:
        await made.close()


async def get(made: Transfers, url: str, folder: Path, *, foreign: bool) -> bytes:
    async def renewed() -> str:
        return url

    target = folder / "got"
    await made.fetch(ObjectRef(url=url, size_bytes=3, foreign=foreign), target, renewed)
    return target.read_bytes()


async def put(made: Transfers, url: str, *, foreign: bool) -> None:
    md5 = base64.b64encode(hashlib.md5(b"abc", usedforsecurity=False).digest()).decode()
    signed = SignedPut(edge="out", url=url, headers={"Content-MD5": md5}, key="k", foreign=foreign)

    async def renewed() -> SignedPut:
        return signed

    with tempfile.TemporaryFile() as file:
        file.write(b"abc")
        file.flush()
        await made.put(Source(file.fileno(), 3, b"abc"), signed, renewed)


async def test_a_foreign_store_inside_is_never_asked_and_not_again(
    inner: WebServer, outer: WebServer, tmp_path: Path
) -> None:
    async with transfers(outer) as made:
        for url in (f"{inner.url}/a?secret", f"http://localhost:{inner.port}/a?secret", "http://127.0.0.2:22/a?secret"):
            for asked in (get(made, url, tmp_path, foreign=True), put(made, url, foreign=True)):
                with pytest.raises(TransferFailed, match="is not asked") as failed:
                    await asked
                assert failed.value.final
                assert "secret" not in str(failed.value)
    assert inner.seen == []


async def test_a_foreign_store_that_redirects_is_not_followed(
    inner: WebServer, outer: WebServer, tmp_path: Path
) -> None:
    url = outer.on("/a", redirect(f"{inner.url}/a", 307))
    async with transfers(outer) as made:
        for asked in (get(made, url, tmp_path, foreign=True), put(made, url, foreign=True)):
            with pytest.raises(TransferFailed):
                await asked
    assert inner.seen == []


async def test_what_may_be_asked_is_asked(inner: WebServer, outer: WebServer, tmp_path: Path) -> None:
    async with transfers(outer) as made:
        assert await get(made, outer.on("/a", Reply(body=b"abc")), tmp_path, foreign=True) == b"abc"
        await put(made, outer.url + "/a", foreign=True)
        assert await get(made, inner.on("/a", Reply(body=b"xyz")), tmp_path, foreign=False) == b"xyz"
    assert [seen.method for seen in outer.seen] == ["GET", "PUT"]
