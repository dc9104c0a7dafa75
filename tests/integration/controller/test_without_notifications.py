"""With notifications off nothing listens: polling alone keeps everything right."""

import asyncio

import pytest

from tests.support.controller import REFERENCE, ControllerUnderTest
from tests.support.follower import a_follower

pytestmark = pytest.mark.integration

_LISTENING = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pupload-listen'"
)


async def test_nobody_listens_unless_told_to(controller: ControllerUnderTest, notifications: bool) -> None:
    await controller.worker()
    async with asyncio.timeout(15), controller.running.parts.service.database.connection() as connection:
        while await connection.fetchval(_LISTENING) != int(notifications):  # noqa: ASYNC110 - no event to wait for
            await asyncio.sleep(0.01)


async def test_a_follower_sees_every_event_of_a_run_that_fails_and_is_retried(controller: ControllerUnderTest) -> None:
    worker = await controller.worker()
    definition = REFERENCE["NodeDefs"][0] | {"Retry": {"Delay": "100ms"}, "MaxAttempts": 2}
    run = await controller.post("/api/v1/flow/test", REFERENCE | {"NodeDefs": [definition]})
    async with a_follower(controller, run["ID"]) as follower:
        async with controller.http.put(run["WaitingURLs"][0]["PutURL"], data=b"abc") as response:
            assert response.status == 200
        for attempt in (1, 2):
            (assignment,) = await worker.claim(wait_s=20)
            assert assignment.ref.attempt == attempt
            await worker.finish(assignment.ref, outcome="failed", reason="exit", message="exit 3", exit_code=3)
    assert [kind for kind in follower.types if kind.startswith(("node", "run"))] == [
        *("run_started", "node_queued", "node_started", "node_retrying", "node_started", "node_failed", "run_failed"),
    ]
