"""Objects in a store that a called flow brings are the called run's, and others name them after it is gone."""

from collections.abc import Iterator
from typing import Any

import pytest

from pupload.stores.base import StoreAddress
from pupload.stores.open import open_store
from tests.integration.controller.test_called_flows import calling, copy, ended, keep, start, work
from tests.support.controller import ControllerUnderTest
from tests.support.flows import a_flow, documents
from tests.support.s3_servers import STRANGER, an_rclone

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def bucket() -> Iterator[StoreAddress]:
    """A bucket that the server does not know."""
    with an_rclone(STRANGER) as server:
        yield server.new_bucket()


async def a_call(controller: ControllerUnderTest, bucket: StoreAddress) -> tuple[str, str]:
    """A run that is over, and the run that it called, whose result is in the bucket."""
    params = {
        "Endpoint": bucket.endpoint,
        "BucketName": bucket.bucket,
        "AccessKey": bucket.access_key,
        "SecretKey": bucket.secret_key,
        "Secure": False,
    }
    well = {"Edge": "out", "Store": "theirs"}
    brought = [{"Name": "theirs", "Type": "s3", "Params": params}]
    await keep(controller, "child", documents(a_flow(Name="", Stores=brought, DataWells=[well])))
    await keep(controller, "parent", calling("flow/child"))
    parent = await start(controller, "parent", Inputs={"photo": "hello"})
    worker = await controller.worker()
    assignment = await work(worker)
    await copy(worker, assignment)
    await ended(controller, parent)
    return parent, assignment.ref.run_id


async def removed(controller: ControllerUnderTest, run_id: str) -> None:
    async with controller.http.delete(f"{controller.url}/api/v1/runs/{run_id}") as response:
        assert response.status == 204, await response.text()


async def result(controller: ControllerUnderTest, run_id: str) -> bytes:
    async with controller.http.get(f"{controller.url}/api/v1/runs/{run_id}/artifacts/result") as response:
        assert response.status == 200, await response.text()
        return await response.read()


async def replayed(controller: ControllerUnderTest, run_id: str) -> str:
    """A new run that keeps all of that one."""
    run: dict[str, Any] = await controller.post(f"/api/v1/runs/{run_id}/replay", {"FailedOnly": True}, expect=202)
    assert (await ended(controller, run["ID"]))["Status"] == "COMPLETE"
    return str(run["ID"])


async def test_the_callers_result_is_there_when_the_called_run_is_gone(
    controller: ControllerUnderTest, bucket: StoreAddress
) -> None:
    parent, child = await a_call(controller, bucket)
    await removed(controller, child)
    assert await result(controller, parent) == b"copied"
    await removed(controller, parent)


async def test_a_caller_goes_before_the_run_that_it_called(
    controller: ControllerUnderTest, bucket: StoreAddress
) -> None:
    parent, child = await a_call(controller, bucket)
    await removed(controller, parent)
    await removed(controller, child)


async def test_the_last_replay_that_names_the_object_takes_it_along_and_the_way_to_it(
    controller: ControllerUnderTest, bucket: StoreAddress
) -> None:
    parent, child = await a_call(controller, bucket)
    again = await replayed(controller, parent)
    await removed(controller, child)
    await removed(controller, parent)
    last = await replayed(controller, again)
    await removed(controller, again)
    assert await result(controller, last) == b"copied"
    await controller.running.parts.removal.unneeded_stores()
    assert await result(controller, last) == b"copied"
    await removed(controller, last)
    await controller.running.parts.removal.unneeded_stores()
    async with controller.running.parts.service.database.connection() as connection:
        assert await connection.fetch("SELECT store FROM left_stores") == []
    theirs = open_store(bucket)
    try:
        assert [head.key async for head in theirs.list(f"{child}/")] == []
    finally:
        await theirs.close()
