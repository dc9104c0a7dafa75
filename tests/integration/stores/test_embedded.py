"""The embedded store's server: found again, never two, never left behind, never open."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from pupload.errors import Defect, InvalidConfig, StoreUnavailable
from pupload.stores.embedded import EmbeddedStore
from pupload.stores.keeping import Keeping
from pupload.stores.rclone import environment, find_program
from tests.support.s3_servers import processes_naming
from tests.support.until import until

pytestmark = pytest.mark.integration


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[EmbeddedStore]:
    store = await EmbeddedStore.start(folder)
    try:
        yield store
    finally:
        await store.close()


@contextlib.contextmanager
def a_child(*command: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block at the latest."""
    with subprocess.Popen(
        command, env=environment or None, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def names_of_threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def alive(pid: int) -> bool:
    return pid in processes_naming("rclone")


async def status_of(url: str, method: str = "GET") -> int:
    async with aiohttp.ClientSession() as client, client.request(method, URL(url, encoded=True), data=b"") as answer:
        return answer.status


async def test_a_restart_keeps_objects_keys_and_urls(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        before = await store.put("a/b", b"kept", "")
        url = store.sign_get("a/b", 60, public=True)
        address = store.address
    async with running(tmp_path) as store:
        assert store.address == address
        assert await store.get("a/b", 10) == b"kept"
        assert (after := await store.head("a/b"))
        assert after.etag == before.etag
        assert await status_of(url) == HTTPStatus.OK


async def test_a_port_that_is_taken_by_now_is_left_for_another(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        await store.put("k", b"kept", "")
        port = store.server.keeping.port
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        async with running(tmp_path) as store:
            assert store.server.keeping.port != port
            assert await store.get("k", 10) == b"kept"


async def test_a_folder_in_use_is_refused_and_its_user_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        with pytest.raises(InvalidConfig, match=f"in use by process {os.getpid()}"):
            await EmbeddedStore.start(tmp_path)
        assert (await store.put("k", b"x", "")).size_bytes == 1


async def test_a_server_that_dies_is_started_again_at_its_place(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        await store.put("k", b"kept", "")
        first = store.server.keeping
        os.kill(first.pid, signal.SIGKILL)
        await until(lambda: store.server.keeping.pid != first.pid)
        await until(lambda: answers(first.port))
        assert await store.get("k", 10) == b"kept"
        assert store.server.keeping.port == first.port
        assert not alive(first.pid)


_PARENT = """
import asyncio, pathlib, sys
from pupload.stores.embedded import EmbeddedStore

async def main():
    store = await EmbeddedStore.start(pathlib.Path(sys.argv[1]))
    print(store.server.keeping.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_parts_that_have_arrived_outlive_their_server(tmp_path: Path) -> None:
    async with running(tmp_path) as store, aiohttp.ClientSession() as client:
        upload = await store.begin_multipart("k", "image/png")
        await put(client, store.sign_part(upload, 2, 60, public=True, size_bytes=3).url, b"two")
    async with running(tmp_path) as store, aiohttp.ClientSession() as client:
        assert [part.number for part in await store.list_parts(upload)] == [2]
        await put(client, store.sign_part(upload, 1, 60, public=True, size_bytes=3).url, b"one")
        await store.complete_multipart(upload, await store.list_parts(upload))
        assert await store.get("k", 10) == b"onetwo"


async def put(client: aiohttp.ClientSession, url: str, content: bytes) -> None:
    async with client.put(URL(url, encoded=True), data=content) as answer:
        assert answer.status == HTTPStatus.OK


async def test_the_server_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    with a_child(sys.executable, "-c", _PARENT, str(tmp_path)) as parent:
        assert parent.stdout is not None
        server = int(await asyncio.to_thread(parent.stdout.readline))
        assert alive(server)
        parent.kill()
    await until(lambda: not alive(server))


def recorded(folder: Path, pid: int) -> None:
    """Makes the folder say that its server is `pid`."""
    kept = folder / "store" / "server.json"
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"pid": pid}))


async def test_an_orphan_of_an_earlier_start_is_ended(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        kept, buckets = store.server.keeping, store.server.buckets
    command = [str(find_program()), "serve", "s3", "--addr", f"127.0.0.1:{kept.port}", str(buckets)]
    with a_child(*command, **environment(kept)) as orphan:
        recorded(tmp_path, orphan.pid)
        async with running(tmp_path) as store:
            assert await asyncio.to_thread(orphan.wait) == -signal.SIGKILL
            assert store.server.keeping.pid != orphan.pid


async def test_another_process_that_has_the_servers_old_number_is_left_alone(tmp_path: Path) -> None:
    async with running(tmp_path):
        pass
    with a_child("sleep", "60") as other:
        recorded(tmp_path, other.pid)
        async with running(tmp_path):
            assert other.poll() is None


async def test_keys_are_for_the_owner_alone_and_in_nobodys_arguments(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        kept, folder = store.server.keeping, store.server.folder
        assert len(kept.secret_key) > 40
        assert processes_naming(kept.secret_key) == processes_naming(kept.access_key) == []
        await store.put("k", b"x", "")
        modes = {path.name: path.stat().st_mode & 0o777 for path in [folder, folder / "server.json", folder / "lock"]}
        assert modes == {"store": 0o700, "server.json": 0o600, "lock": 0o600}
        assert (store.folder / "k").stat().st_mode & 0o077 == 0
        assert kept.secret_key not in repr(kept)


def test_a_server_without_keys_cannot_be_started() -> None:
    with pytest.raises(Defect, match="without keys"):
        environment(Keeping(port=1, access_key="id", secret_key=""))


async def test_nobody_reads_or_writes_without_a_signature(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        await store.put("k", b"x", "")
        url = store.sign_get("k", 60, public=True).partition("?")[0]
        refused = {HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN}
        for method in ["GET", "PUT", "DELETE"]:
            assert await status_of(url, method) in refused
            assert await status_of(url.rpartition("/")[0], method) in refused
        assert await store.get("k", 10) == b"x"


async def test_the_server_listens_on_one_loopback_address_alone(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.2", store.server.keeping.port)):
            pass


async def test_what_a_killed_upload_left_is_swept_at_the_next_start(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        await store.put("full/kept", b"x", "")
        (store.folder / "full" / ".rclone_temp_put_1").write_bytes(b"half")
        (store.folder / "left" / "deep").mkdir(parents=True)
        (store.folder / "left" / "deep" / ".rclone_temp_put_2").write_bytes(b"half")
    async with running(tmp_path) as store:
        found = sorted(str(path.relative_to(store.folder)) for path in store.folder.rglob("*"))
    assert found == ["full", "full/kept"]


async def test_a_damaged_record_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "server.json").write_text("{")
    with pytest.raises(InvalidConfig, match="delete it"):
        await EmbeddedStore.start(tmp_path)


async def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where a folder should be")
    with pytest.raises(InvalidConfig, match=f"{tmp_path}/store cannot hold"):
        await EmbeddedStore.start(tmp_path)


async def test_a_start_that_fails_leaves_the_folder_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pupload.stores.rclone.find_program", lambda: Path("/bin/false"))
    with pytest.raises(StoreUnavailable, match=r"does not start.*rclone\.log"):
        await EmbeddedStore.start(tmp_path)
    monkeypatch.undo()
    async with running(tmp_path) as store:
        await store.check()


async def test_closing_leaves_no_process_and_no_asyncio_work(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    async with running(tmp_path) as store:
        await store.put("k", b"x", "")
    assert processes_naming(str(tmp_path)) == []
    assert asyncio.all_tasks() == before


async def test_whoever_stops_listening_leaves_no_thread(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        listening = asyncio.ensure_future(anext(store.watch()))
        await until(lambda: "watch-default" in names_of_threads())
        listening.cancel()
        await asyncio.wait([listening])
        await until(lambda: "watch-default" not in names_of_threads())


async def test_a_watch_that_cannot_be_set_says_so(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        store.folder = tmp_path / "no such folder"
        with pytest.raises(StoreUnavailable, match="cannot be watched"):
            await anext(store.watch())
