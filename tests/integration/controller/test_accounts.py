"""What runs cost: refused before the start, ended in the middle, charged once."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pupload.controller.accounts import add_credit
from pupload.controller.keys import add_key
from pupload.flow.plan import Reason
from pupload.protocol import Outcome
from pupload.stores.base import Store
from tests.support.controller import ControllerUnderTest, a_controller

pytestmark = pytest.mark.integration

FLOW = {
    "Flow": {"Name": "paid", "Nodes": [{"ID": "work", "Uses": "x/y", "Outputs": [{"Name": "out", "Edge": "out"}]}]},
    "NodeDefs": [{"Publisher": "x", "Name": "y", "Image": "z", "Tier": "c-small", "MaxAttempts": 1}],
}
CREDITS_A_SECOND = 1000


@pytest.fixture
async def controller(database_dsn: str, store: Store, tmp_path: Path) -> AsyncIterator[ControllerUnderTest]:
    """A controller where a second of c-small costs a thousand credits and all else nothing."""
    prices = {"c-small": CREDITS_A_SECOND}
    async with a_controller(database_dsn, store, tmp_path, prices=prices, require_keys=True) as running:
        yield running


async def a_caller(controller: ControllerUnderTest, balance: int | None) -> dict[str, str]:
    """The headers of somebody with that balance."""
    async with controller.running.parts.service.database.connection() as connection:
        key, account = await add_key(connection, "payer")
        if balance is not None:
            await add_credit(connection, account, Decimal(balance))
    return {"X-API-Key": key}


async def told(controller: ControllerUnderTest, path: str, headers: dict[str, str]) -> Any:
    async with controller.http.get(controller.url + path, headers=headers) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def test_an_empty_account_begins_nothing(controller: ControllerUnderTest) -> None:
    payer = await a_caller(controller, 0)
    refused = await controller.post("/api/v1/flow/test", FLOW, expect=402, headers=payer)
    assert refused["error"]["Code"] == "INSUFFICIENT_CREDITS"
    assert (await told(controller, "/api/v1/runs", payer))["Runs"] == []


async def test_less_than_a_second_of_each_node_is_not_enough(controller: ControllerUnderTest) -> None:
    payer = await a_caller(controller, CREDITS_A_SECOND - 1)
    await controller.post("/api/v1/flow/test", FLOW, expect=402, headers=payer)


async def test_an_account_without_a_balance_is_not_counted(controller: ControllerUnderTest) -> None:
    payer = await a_caller(controller, None)
    await controller.post("/api/v1/flow/test", FLOW, headers=payer)
    account = await told(controller, "/api/v1/account", payer)
    assert (account["Balance"], account["Prices"]) == (None, {"c-small": float(CREDITS_A_SECOND)})


async def test_a_run_that_uses_up_the_balance_is_ended_and_says_so(controller: ControllerUnderTest) -> None:
    payer = await a_caller(controller, CREDITS_A_SECOND)
    worker = await controller.worker()
    run = await controller.post("/api/v1/flow/test", FLOW, headers=payer)
    (assignment,) = await worker.claim()
    answer: dict[str, Any] = {"Stop": []}
    while not answer["Stop"]:
        answer = await worker.beat([assignment.ref], wait_s=1.0)
    await worker.finish(assignment.ref, outcome=Outcome.FAILED, reason=Reason.CANCELLED, message="stopped")
    ended = await told(controller, f"/api/v1/runs/{run['ID']}", payer)
    assert (ended["Status"], ended["StatusReason"]) == ("ERROR", "quota")
    assert ended["Error"]["Code"] == "CREDITS_EXHAUSTED"
    assert (await told(controller, "/api/v1/account", payer))["Balance"] <= 0


async def test_an_attempt_is_charged_once(controller: ControllerUnderTest) -> None:
    payer = await a_caller(controller, 10**9)
    worker = await controller.worker()
    run = await controller.post("/api/v1/flow/test", FLOW, headers=payer)
    (assignment,) = await worker.claim()
    found = await worker.upload_output(assignment, b"result", "text/plain")
    await worker.finish(assignment.ref, outputs=[found])
    await worker.finish(assignment.ref, outputs=[found], expect=409)
    async with controller.running.parts.service.database.connection() as connection:
        row = await connection.fetchrow(
            "SELECT a.cost, r.spent, b.balance FROM attempts a JOIN runs r ON r.id = a.run_id"
            " JOIN accounts b ON b.id = r.account WHERE r.id = $1",
            run["ID"],
        )
    assert row is not None
    cost, spent, balance = row
    assert cost > 0
    assert (spent, balance) == (cost, 10**9 - cost)


async def test_what_the_infrastructure_lost_costs_nothing(controller: ControllerUnderTest) -> None:
    payer = await a_caller(controller, 10**9)
    worker = await controller.worker()
    await controller.post("/api/v1/flow/test", FLOW, headers=payer)
    (assignment,) = await worker.claim()
    await worker.finish(assignment.ref, outcome=Outcome.RELEASED)
    assert (await told(controller, "/api/v1/account", payer))["Balance"] == 10**9
