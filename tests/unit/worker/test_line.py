"""Transfers on threads: one that nobody waits for any more ends at once, and what the store says early is heard."""

import asyncio
import contextlib
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from pupload.protocol import ObjectRef, SignedPut
from pupload.worker.source import Source
from pupload.worker.transfer import TransferFailed, Transfers

pytestmark = pytest.mark.unit

SIZE = 32 * 1024**2
HEAD = f"HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n".encode()
_ENOUGH_S = 5.0
"""Far less than a transfer waits for a silent store."""

Conversation = Callable[[socket.socket], None]


@contextlib.contextmanager
def store(*conversations: Conversation) -> Iterator[str]:
    """The URL of an object in a store that answers one connection after the other like this."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk() -> None:
            for conversation in conversations:
                with listener.accept()[0] as peer, contextlib.suppress(ConnectionError):
                    head(peer)
                    conversation(peer)

        talking = threading.Thread(target=talk)
        talking.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/object?secret"
        talking.join(_ENOUGH_S)
        assert not talking.is_alive()


def head(peer: socket.socket) -> None:
    while b"\r\n\r\n" not in peer.recv(65536, socket.MSG_PEEK):
        pass


def until_hung_up(peer: socket.socket) -> None:
    while peer.recv(65536):
        pass


def goes_silent(peer: socket.socket) -> None:
    peer.sendall(HEAD + bytes(SIZE // 2))
    until_hung_up(peer)


def reads_nothing(peer: socket.socket) -> None:
    _HEARD.set()
    _CUT.wait(_ENOUGH_S)
    until_hung_up(peer)


def refuses(peer: socket.socket) -> None:
    peer.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\nConnection: close\r\n\r\nexpired")
    # The sender is still busy when the connection is torn down with most of the body unread.


def hang_up(listener: socket.socket) -> None:
    listener.accept()[0].close()


def takes_all(peer: socket.socket) -> None:
    size = 0
    while size < SIZE:
        size += len(peer.recv(1 << 20))
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    until_hung_up(peer)


_HEARD, _CUT = threading.Event(), threading.Event()


@pytest.fixture(autouse=True)
def _anew() -> None:
    _HEARD.clear()
    _CUT.clear()


@pytest.fixture
async def transfers() -> AsyncIterator[Transfers]:
    transfers = Transfers(retry_for_s=0.0)
    yield transfers
    await transfers.close()


@pytest.fixture
def source() -> Iterator[Source]:
    with tempfile.TemporaryFile() as file:
        file.truncate(SIZE)
        yield Source(file.fileno(), SIZE)


def signed(url: str) -> SignedPut:
    return SignedPut(edge="out", url=url, headers={"Content-MD5": "of the bytes"}, key="k")


async def never() -> SignedPut:
    raise AssertionError


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


async def cancelled(work: asyncio.Task[object]) -> None:
    async with asyncio.timeout(_ENOUGH_S):
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work


async def test_a_download_that_is_cancelled_hangs_up_and_leaves_its_file_alone(
    transfers: Transfers, tmp_path: Path
) -> None:
    target, begun = tmp_path / "got", asyncio.Event()
    loop = asyncio.get_running_loop()

    async def renewed() -> str:
        raise AssertionError

    def tell(_: object) -> None:
        loop.call_soon_threadsafe(begun.set)

    with store(goes_silent) as url:
        work = asyncio.ensure_future(transfers.fetch(ObjectRef(url=url, size_bytes=SIZE), target, renewed, tell))
        await begun.wait()
        await cancelled(work)
    left = sizes(tmp_path)
    await asyncio.sleep(0.1)
    assert sizes(tmp_path) == left
    assert left.keys() == {"got.part"}


async def test_an_upload_that_is_cancelled_hangs_up(transfers: Transfers, source: Source) -> None:
    with store(reads_nothing) as url:
        work = asyncio.ensure_future(transfers.put(source, signed(url), never))
        await asyncio.to_thread(_HEARD.wait)
        await cancelled(work)
        _CUT.set()


async def test_a_url_that_is_refused_while_the_bytes_go_is_renewed(transfers: Transfers, source: Source) -> None:
    with store(refuses, takes_all) as url:
        asked = []

        async def renewed() -> SignedPut:
            asked.append(url)
            return signed(url)

        await transfers.put(source, signed(url), renewed)
        assert asked == [url]


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_what_breaks_off_is_told_without_the_url(transfers: Transfers, source: Source, scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        hanging_up = asyncio.ensure_future(asyncio.to_thread(hang_up, listener))
        url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/object?secret"
        with pytest.raises(TransferFailed, match="the store broke off") as failed:
            await transfers.put(source, signed(url), never)
        await hanging_up
    assert "secret" not in str(failed.value)
