"""MinIO's notifications: as the stand-in speaks them, and as a real MinIO does where its image answers."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import urllib3
from docker.errors import DockerException
from testcontainers.community.minio import MinioContainer
from testcontainers.core.config import testcontainers_config

from pupload.errors import Forbidden, NotFound, StoreUnavailable
from pupload.stores import minio as minio_store
from pupload.stores.base import StoreAddress
from pupload.stores.clients import Clients
from pupload.stores.minio import MinioStore
from tests.support.minio_stand_in import MinioStandIn
from tests.support.s3_servers import S3Server, at, free_port
from tests.support.until import until

pytestmark = pytest.mark.integration


@asynccontextmanager
async def a_store(rclone: S3Server, stand_in: MinioStandIn) -> AsyncIterator[MinioStore]:
    address = rclone.new_bucket("minio")
    async with stand_in.serving():
        store = MinioStore(at(address, stand_in.endpoint))
        yield store
        await store.close()


def watching() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("watch-")]


async def no_thread_watches() -> None:
    await until(lambda: not watching())


async def two_hints(store: MinioStore, key: str) -> set[str]:
    """The first two hints of the store when `key` is written over and over."""
    watch = store.watch()
    hint = asyncio.ensure_future(anext(watch))
    while not hint.done():
        await store.put(key, b"x", "")
        await asyncio.wait([hint], timeout=0.05)
    hints = {await hint, await anext(watch)}
    await watch.aclose()
    return hints


@pytest.mark.parametrize("encoded_keys", [False, True])
async def test_keys_are_told_by_old_and_new_releases(rclone: S3Server, encoded_keys: bool) -> None:
    async with a_store(rclone, MinioStandIn(rclone.endpoint, encoded_keys=encoded_keys)) as store:
        # One hint is the key as it came, the other what it is if it came encoded.
        assert "a b+c/100%/é" in await two_hints(store, "a b+c/100%/é")


async def test_a_watch_lives_through_silence(rclone: S3Server) -> None:
    async with a_store(rclone, MinioStandIn(rclone.endpoint, blank_s=0.01)) as store:
        watch = store.watch()
        hint = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0.5)
        await store.put("after/silence", b"x", "")
        assert await hint == "after/silence"
        await watch.aclose()


async def test_whoever_stops_listening_leaves_no_thread_and_no_connection(rclone: S3Server) -> None:
    stand_in = MinioStandIn(rclone.endpoint, blank_s=0.05)
    async with a_store(rclone, stand_in) as store:
        watch = store.watch()
        listening = asyncio.ensure_future(anext(watch))
        await until(lambda: bool(stand_in.listeners))
        listening.cancel()
        await asyncio.wait([listening])
        await no_thread_watches()
        await until(lambda: not stand_in.listeners)


async def test_a_server_that_ends_the_notifications_breaks_the_watch(rclone: S3Server) -> None:
    stand_in = MinioStandIn(rclone.endpoint, blank_s=0.05)
    async with a_store(rclone, stand_in) as store:
        listening = asyncio.ensure_future(anext(store.watch()))
        await until(lambda: bool(stand_in.listeners))
        stand_in.end_listeners()
        with pytest.raises(StoreUnavailable, match="listen"):
            await listening
    await no_thread_watches()


async def test_a_server_that_falls_silent_breaks_the_watch(rclone: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minio_store, "_LIMITS", urllib3.Timeout(connect=3, read=0.2))
    async with a_store(rclone, MinioStandIn(rclone.endpoint, blank_s=60)) as store:
        with pytest.raises(StoreUnavailable, match="listen"):
            await anext(store.watch())


async def test_a_watch_says_why_it_cannot_begin(rclone: S3Server) -> None:
    async with a_store(rclone, MinioStandIn(rclone.endpoint)) as store:
        wrong = {
            StoreUnavailable: replace(store.address, endpoint=f"127.0.0.1:{free_port()}"),
            Forbidden: replace(store.address, secret_key="another"),
            NotFound: replace(store.address, bucket="no-such-bucket"),
        }
        for error, address in wrong.items():
            other = MinioStore(address)
            with pytest.raises(error):
                await anext(other.watch())
            await other.close()
    await no_thread_watches()


@pytest.fixture
def real_minio() -> Iterator[StoreAddress]:
    """A bucket in a real MinIO."""
    testcontainers_config.ryuk_disabled = True
    container = MinioContainer()
    try:
        container.start()
    except DockerException as error:
        pytest.skip(f"no MinIO image answers here ({type(error).__name__})")
    try:
        config = container.get_config()
        address = StoreAddress(
            "real", "minio", config["endpoint"], "bucket", config["access_key"], config["secret_key"], secure=False
        )
        clients = Clients(address)
        clients.asking().create_bucket(Bucket="bucket")
        clients.close()
        yield address
    finally:
        container.stop()


async def test_a_real_minio_tells_what_is_written(real_minio: StoreAddress) -> None:
    store = MinioStore(real_minio)
    assert "a b+c/100%/é" in await two_hints(store, "a b+c/100%/é")
    await store.close()
    await no_thread_watches()
