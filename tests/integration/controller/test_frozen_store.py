"""A store that a flow brings and that stops answering is that flow's trouble alone."""

import asyncio
import os
import signal

import pytest

from tests.support.controller import REFERENCE, ControllerUnderTest
from tests.support.s3_servers import STRANGER, an_rclone, processes_naming

pytestmark = pytest.mark.integration


async def test_uploads_are_noticed_while_the_stores_of_many_flows_hang(controller: ControllerUnderTest) -> None:
    with an_rclone(STRANGER) as server:
        bucket = server.new_bucket()
        store = {
            "Name": "other",
            "Type": "s3",
            "Params": {
                "Endpoint": bucket.endpoint,
                "BucketName": bucket.bucket,
                "AccessKey": bucket.access_key,
                "SecretKey": bucket.secret_key,
                "Secure": False,
            },
        }
        flow = REFERENCE["Flow"] | {"Stores": [store], "DefaultDataWell": {"Store": "other"}}
        for _ in range(20):
            await controller.post("/api/v1/flow/test", REFERENCE | {"Flow": flow})
        frozen = processes_naming(bucket.endpoint)
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(1)
            run = await controller.post("/api/v1/flow/test", REFERENCE)
            async with controller.http.put(run["WaitingURLs"][0]["PutURL"], data=b"abc") as response:
                assert response.status == 200
            while (await controller.get(f"/api/v1/runs/{run['ID']}"))["Status"] == "WAITING":
                assert frozen
                await asyncio.sleep(0.05)
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)
