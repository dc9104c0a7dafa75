"""The disk of the database is full: nothing new is taken, nothing is lost, and it goes on once there is room."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from pupload.db.embedded import embedded_postgres
from pupload.stores.base import Store
from tests.integration.controller.test_database_faults import answered, claimed, finished, posted, put
from tests.support.controller import REFERENCE, ControllerUnderTest, a_controller
from tests.support.small_disk import SmallDisk, a_small_disk, only_root_mounts
from tests.support.until import until

pytestmark = [pytest.mark.integration, only_root_mounts]

_MEGABYTE_OF_LOG = "SELECT pg_logical_emit_message(false, 'noise', repeat('x', 1000000))"
"""What the server must write before anything that changes. Source: PostgreSQL, 9.28.6."""


@pytest.fixture(scope="module")
def disk() -> Iterator[SmallDisk]:
    with tempfile.TemporaryDirectory(prefix="pup-pg-") as folder, a_small_disk(Path(folder), "size=160m") as disk:
        yield disk


@pytest.fixture(scope="module")
def dsn(disk: SmallDisk) -> Iterator[str]:
    """The server that `pup dev` has, over that disk."""
    with embedded_postgres(disk.place / "data") as dsn:
        yield dsn


@pytest.fixture
async def controller(disk: SmallDisk, dsn: str, store: Store, tmp_path: Path) -> AsyncIterator[ControllerUnderTest]:
    async with a_controller(dsn, store, tmp_path) as running:
        yield running
        disk.empty()


async def refused(controller: ControllerUnderTest, accepted: list[str]) -> Any:
    """The first answer that takes no run; those that were taken before are added to `accepted`."""
    while True:
        async with controller.http.post(f"{controller.url}/api/v1/flow/test", json=REFERENCE) as response:
            if response.status != 200:
                assert (response.status, response.headers["Retry-After"]) == (503, "1"), await response.text()
                return (await response.json())["error"]
            accepted.append((await response.json())["ID"])


async def test_nothing_new_is_taken_while_the_database_has_no_room_and_nothing_is_lost(
    controller: ControllerUnderTest, disk: SmallDisk
) -> None:
    worker = await controller.worker()
    run = await posted(controller)
    await put(controller, run)
    held = (await claimed(worker))["Ref"]
    accepted = [run["ID"]]
    disk.fill()
    error = await refused(controller, accepted)
    assert error["Code"] == "DATABASE_UNAVAILABLE"
    assert "the database has no room for this" in error["Message"]
    assert "No space left on device" in error["Message"]
    # What only changes a row finds its place: the worker keeps what it holds.
    assert (await answered(controller, "GET", f"/api/v1/runs/{run['ID']}"))["Status"] == "RUNNING"
    disk.empty()
    await finished(worker, {"Ref": held, "Outcome": "failed", "Reason": "type", "Message": "no"})
    accepted.append((await posted(controller))["ID"])
    runs = (await controller.get("/api/v1/runs?limit=100"))["Runs"]
    assert {each["ID"] for each in runs} == set(accepted)
    assert {each["Status"] for each in runs if each["ID"] != run["ID"]} == {"WAITING"}


async def test_a_database_that_ends_for_want_of_room_is_back_when_there_is_some(
    controller: ControllerUnderTest, disk: SmallDisk, dsn: str
) -> None:
    """Without room for its log the server gives up, and at the next start again."""
    run = await posted(controller)
    disk.fill()
    connection = await asyncpg.connect(dsn)
    with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        while True:
            await connection.execute(_MEGABYTE_OF_LOG)
    connection.terminate()
    async with controller.http.get(f"{controller.url}/readyz") as response:
        assert (response.status, (await response.json())["Error"]["Code"]) == (503, "DATABASE_UNAVAILABLE")
    # It ends as soon as it has begun, and is begun again.
    await until(lambda: not (disk.place / "data" / "postmaster.pid").exists())
    disk.empty()
    assert (await answered(controller, "GET", f"/api/v1/runs/{run['ID']}"))["Status"] == "WAITING"
    await posted(controller)
