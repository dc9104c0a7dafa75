"""The looks go on: one run that cannot be helped, or a fault that nobody foresaw, holds up no other."""

import asyncio
import logging

import pytest

from pupload.db.sql import SQL
from pupload.run.state import RunID
from tests.support.controller import REFERENCE, ControllerUnderTest

pytestmark = pytest.mark.integration


async def test_uploads_are_still_noticed_after_a_fault_that_nobody_foresaw(
    controller: ControllerUnderTest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    worker = await controller.worker()
    run = await controller.post("/api/v1/flow/test", REFERENCE)
    broken = asyncio.Event()

    async def break_down(*_: object) -> None:
        broken.set()
        raise RuntimeError("nobody foresaw this")

    with monkeypatch.context() as patch, caplog.at_level(logging.CRITICAL, "pupload.controller.app"):
        patch.setattr(controller.running.parts.uploads, "_look", break_down)
        await broken.wait()
    async with controller.http.put(run["WaitingURLs"][0]["PutURL"], data=b"abc") as response:
        assert response.status == 200
    assert len(await worker.claim(wait_s=20)) == 1


async def test_a_run_that_cannot_be_ended_holds_up_no_other(
    controller: ControllerUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = [(await controller.post("/api/v1/flow/test", REFERENCE))["ID"] for _ in range(2)]
    service = controller.running.parts.service
    apply = service.apply

    async def apply_to_others(run_id: RunID, *rest: object) -> object:
        if run_id == first:
            raise KeyError("its plan cannot be read")
        return await apply(run_id, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(service, "apply", apply_to_others)
    async with service.database.connection() as connection:
        await connection.execute("UPDATE runs SET deadline = now() - interval '1 s'")
        async with asyncio.timeout(15):
            status = "SELECT status FROM runs WHERE id = $1"
            while await connection.fetchval(status, second) != "ERROR":  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.05)
        header = await connection.fetchrow(SQL["run_header"], first)
    assert header is not None
    assert header["status"] == "WAITING"
