"""Two controllers on one database and one store: nobody can tell which of them answers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pupload.stores.base import Store
from tests.support.controller import REFERENCE, ControllerUnderTest, HandWorker, a_controller
from tests.support.follower import a_follower

pytestmark = pytest.mark.integration


@dataclass
class Pair:
    """Two controllers; `stop_one` ends the first."""

    one: ControllerUnderTest
    other: ControllerUnderTest
    first: AsyncExitStack

    async def stop_one(self) -> None:
        await self.first.aclose()


@pytest.fixture
async def pair(database_dsn: str, store: Store, tmp_path: Path, notifications: bool) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as first, AsyncExitStack() as second:
        one, other = [
            await stack.enter_async_context(a_controller(database_dsn, store, tmp_path, notifications=notifications))
            for stack in (first, second)
        ]
        yield Pair(one, other, first)


def at(worker: HandWorker, controller: ControllerUnderTest) -> HandWorker:
    """The same worker, speaking to this controller."""
    return replace(worker, url=controller.url, http=controller.http)


async def uploaded(controller: ControllerUnderTest, body: Any = REFERENCE) -> str:
    """The id of a run whose input lies in the store, of which nobody was told."""
    run = await controller.post("/api/v1/flow/test", body)
    for waiting in run["WaitingURLs"]:
        async with controller.http.put(waiting["PutURL"], data=b"abc") as response:
            assert response.status == 200
    return str(run["ID"])


async def test_a_run_goes_back_and_forth_between_them(pair: Pair) -> None:
    worker = await pair.one.worker()
    run_id = await uploaded(pair.one)
    async with a_follower(pair.other, run_id) as follower:
        (assignment,) = await at(worker, pair.other).claim(wait_s=10)
        await follower.until("node_started")
        found = await at(worker, pair.other).upload_output(assignment, b"result", "text/plain")
        await at(worker, pair.one).finish(assignment.ref, outputs=[found])
    assert follower.types[-1] == "run_completed"
    for controller in (pair.one, pair.other):
        run = await controller.get(f"/api/v1/runs/{run_id}")
        assert (run["Status"], run["Artifacts"]["output-image"]["SHA256"]) == ("COMPLETE", found.sha256)


async def test_a_cancel_on_one_reaches_a_beat_held_by_the_other(pair: Pair) -> None:
    worker = await pair.one.worker()
    run_id = await uploaded(pair.one)
    (assignment,) = await worker.claim(wait_s=10)
    beat = asyncio.create_task(at(worker, pair.other).beat([assignment.ref], wait_s=5))
    await pair.one.post(f"/api/v1/runs/{run_id}/cancel")
    assert [order["Reason"] for order in (await beat)["Stop"]] == ["cancelled"]
    await at(worker, pair.other).finish(assignment.ref, outcome="failed", reason="cancelled", message="stopped")
    assert (await pair.one.get(f"/api/v1/runs/{run_id}"))["Status"] == "STOPPED"


async def test_a_claim_held_by_one_is_woken_by_an_upload_to_the_other(pair: Pair) -> None:
    worker = await pair.one.worker()
    run = await pair.other.post("/api/v1/flow/test", REFERENCE)
    claim = asyncio.create_task(at(worker, pair.one).claim(wait_s=20))
    async with pair.other.http.put(
        f"{pair.other.url}/api/v1/runs/{run['ID']}/inputs/input-image", data=b"abc"
    ) as response:
        assert response.status == 204
    assert len(await claim) == 1


async def test_the_other_goes_on_when_one_is_stopped(pair: Pair) -> None:
    worker = await pair.one.worker()
    run_id = await uploaded(pair.one)
    (assignment,) = await worker.claim(wait_s=10)
    awaited = await pair.one.post("/api/v1/flow/test", REFERENCE)
    url = pair.one.url
    held = asyncio.create_task(worker.claim(wait_s=20))
    await pair.stop_one()
    with pytest.raises(Exception, match=r"Connection|disconnected|closed|connect"):
        await held
    survivor = at(worker, pair.other)
    assert survivor.url != url
    assert (await survivor.beat([assignment.ref]))["Lost"] == []
    found = await survivor.upload_output(assignment, b"result", "text/plain")
    await survivor.finish(assignment.ref, outputs=[found])
    assert (await pair.other.get(f"/api/v1/runs/{run_id}"))["Status"] == "COMPLETE"
    async with pair.other.http.put(awaited["WaitingURLs"][0]["PutURL"], data=b"abc") as response:
        assert response.status == 200
    assert [each.ref.run_id for each in await survivor.claim(wait_s=10)] == [awaited["ID"]]


async def test_a_worker_that_restarts_at_the_other_gets_its_work_anew(pair: Pair) -> None:
    worker = await pair.one.worker()
    run_id = await uploaded(pair.one)
    (first,) = await worker.claim(wait_s=10)
    again = replace(at(worker, pair.other), instance="two")
    await again.hello()
    (second,) = await again.claim(wait_s=20)
    assert (first.ref.attempt, second.ref.attempt) == (1, 2)
    await worker.finish(first.ref, outcome="failed", reason="exit", message="late", expect=409)
    found = await again.upload_output(second, b"result", "text/plain")
    await again.finish(second.ref, outputs=[found])
    assert (await pair.one.get(f"/api/v1/runs/{run_id}"))["NodeState"]["resize-1"]["Attempt"] == 2


async def test_an_instance_that_was_replaced_gets_no_work(pair: Pair) -> None:
    """What it would be given, it would lose at once, and a restart would be charged for it."""
    worker = await pair.one.worker()
    await replace(at(worker, pair.other), instance="two").hello()
    run_id = await uploaded(pair.one)
    await replace(worker, instance="two").claim(wait_s=20)
    second = await uploaded(pair.one)
    await pair.one.post(f"/api/v1/runs/{second}/uploads/input-image/complete")
    body = {"Instance": "one", "Free": worker.capacity(), "Most": 1, "WaitS": 1}
    refused = await worker.call("claim", body, expect=409)
    assert refused["Error"]["Code"] == "REPLACED"
    for run in (run_id, second):
        assert (await pair.other.get(f"/api/v1/runs/{run}"))["NodeState"]["resize-1"]["Attempt"] == int(run == run_id)


async def test_one_key_sent_to_both_makes_one_run(pair: Pair) -> None:
    headers = {"Idempotency-Key": "once"}
    both = (pair.one, pair.other) * 5
    runs = await asyncio.gather(*(each.post("/api/v1/flow/test", REFERENCE, headers=headers) for each in both))
    assert len({run["ID"] for run in runs}) == 1
    assert len((await pair.one.get("/api/v1/runs"))["Runs"]) == 1
