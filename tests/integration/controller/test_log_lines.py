"""Log lines come when they come, maybe twice, maybe late; each is recorded once, in its order."""

import asyncio
import base64
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pupload.protocol import Assignment, Line, Lines, Outcome
from pupload.stores.base import Store
from pupload.worker.control import Control
from tests.support.controller import REFERENCE, ControllerUnderTest, HandWorker, a_controller

pytestmark = pytest.mark.integration


@pytest.fixture
async def controller(database_dsn: str, store: Store, tmp_path: Path) -> Any:
    async with a_controller(database_dsn, store, tmp_path) as running:
        yield running


@pytest.fixture
async def worker(controller: ControllerUnderTest) -> HandWorker:
    return await controller.worker()


@pytest.fixture
async def attempt(controller: ControllerUnderTest, worker: HandWorker) -> Assignment:
    run = await controller.post("/api/v1/flow/test", REFERENCE)
    async with controller.http.put(run["WaitingURLs"][0]["PutURL"], data=b"abc") as response:
        assert response.status == 200
    (assignment,) = await worker.claim(wait_s=10)
    return assignment


def lines(*texts: str) -> list[dict[str, str]]:
    return [{"At": "2026-01-01T00:00:00Z", "Stream": "stdout", "Text": text} for text in texts]


async def post(worker: HandWorker, attempt: Assignment, first: int | None, *texts: str, **more: Any) -> None:
    await worker.call("logs", {"Ref": attempt.ref.wire(), "First": first, "Lines": lines(*texts), **more}, expect=204)


async def recorded(controller: ControllerUnderTest, attempt: Assignment) -> list[str]:
    path = f"/api/v1/runs/{attempt.ref.run_id}/nodes/{attempt.ref.node_id}/logs"
    return [line["message"] for line in (await controller.get(path))["Logs"]]


async def test_a_post_that_is_repeated_adds_nothing(
    controller: ControllerUnderTest, worker: HandWorker, attempt: Assignment
) -> None:
    await post(worker, attempt, 0, "a", "b")
    await post(worker, attempt, 0, "a", "b")
    await post(worker, attempt, 2, "c", Progress=50)
    await post(worker, attempt, 0, "a", "b")
    await post(worker, attempt, 2, "c", Progress=50)
    assert await recorded(controller, attempt) == ["a", "b", "c"]


async def test_posts_that_overlap_add_what_is_new(
    controller: ControllerUnderTest, worker: HandWorker, attempt: Assignment
) -> None:
    await post(worker, attempt, 0, "a", "b")
    await post(worker, attempt, 1, "b", "c", "d")
    await post(worker, attempt, 4, "e")
    assert await recorded(controller, attempt) == ["a", "b", "c", "d", "e"]


async def test_one_post_that_comes_many_times_at_once_is_recorded_once(
    controller: ControllerUnderTest, worker: HandWorker, attempt: Assignment
) -> None:
    await asyncio.gather(*(post(worker, attempt, 0, "a", "b") for _ in range(8)))
    assert await recorded(controller, attempt) == ["a", "b"]


async def test_a_finish_adds_only_what_no_post_has_brought(
    controller: ControllerUnderTest, worker: HandWorker, attempt: Assignment
) -> None:
    await post(worker, attempt, 0, "a", "b")
    end = {"Outcome": "failed", "Reason": "exit", "FirstLine": 0, "Lines": lines("a", "b", "c")}
    await worker.call("finish", {"Ref": attempt.ref.wire(), **end})
    assert await recorded(controller, attempt) == ["a", "b", "c"]


async def test_a_finish_that_is_sure_of_its_lines_brings_all_of_them(
    controller: ControllerUnderTest, worker: HandWorker, attempt: Assignment
) -> None:
    await post(worker, attempt, 0, "again")
    end = {"Outcome": "failed", "Reason": "exit", "Lines": lines("again", "end")}
    await worker.call("finish", {"Ref": attempt.ref.wire(), **end})
    assert await recorded(controller, attempt) == ["again", "again", "end"]


async def test_a_worker_that_does_not_count_is_believed(
    controller: ControllerUnderTest, worker: HandWorker, attempt: Assignment
) -> None:
    await post(worker, attempt, None, "a")
    await post(worker, attempt, None, "a")
    await post(worker, attempt, 2, "b")
    assert await recorded(controller, attempt) == ["a", "a", "b"]


async def test_a_worker_may_say_more_at_once_than_a_user(
    controller: ControllerUnderTest, worker: HandWorker, attempt: Assignment
) -> None:
    said = [Line(at=datetime.now(UTC), stream="stdout", text="x" * 16_384)] * 300
    control = Control(worker.url, worker.token)
    try:
        await control.lines(Lines(ref=attempt.ref, first=0, lines=said))
    finally:
        await control.close()
    assert len(await recorded(controller, attempt)) == 300


async def kept_log(worker: HandWorker, attempt: Assignment, *texts: str) -> str:
    """The key under which the whole log of the attempt lies now."""
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines(*texts))
    md5 = base64.b64encode(hashlib.md5(content).digest()).decode()
    wish = {"Edge": "", "SizeBytes": len(content), "MD5": md5, "ContentType": "application/x-ndjson"}
    signed = (await worker.call("sign", {"Ref": attempt.ref.wire(), "Log": wish}))["Log"]
    async with worker.http.put(signed["URL"], data=content, headers=signed["Headers"]) as response:
        assert response.status == 200
    return str(signed["Key"])


async def test_a_long_log_is_read_in_pieces_and_in_order(
    controller: ControllerUnderTest, worker: HandWorker, attempt: Assignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pupload.controller.logs._PAGE", 3)
    failed: dict[str, Any] = {"outcome": Outcome.FAILED, "reason": "exit"}
    await post(worker, attempt, 0, *"abcdefgh")
    await worker.finish(attempt.ref, **failed)
    (second,) = await worker.claim(wait_s=30)
    await post(worker, second, 0, "only a part")
    await worker.finish(second.ref, **failed, log_key=await kept_log(worker, second, *"ijklmno"))
    (third,) = await worker.claim(wait_s=30)
    await post(worker, third, 0, *"pqr")
    await worker.finish(third.ref, **failed)
    assert "".join(await recorded(controller, attempt)) == "abcdefghijklmnopqr"


async def test_a_worker_does_not_say_which_object_a_log_is_read_from(
    controller: ControllerUnderTest, worker: HandWorker, attempt: Assignment, store: Store
) -> None:
    await store.put("run_other/secret", json.dumps(lines("another's")[0]).encode(), "text/plain")
    await kept_log(worker, attempt, "its own")
    await worker.finish(attempt.ref, outcome=Outcome.FAILED, reason="exit", final=True, log_key="run_other/secret")
    assert await recorded(controller, attempt) == ["its own"]


async def test_the_answer_about_a_run_holds_no_more_lines_than_can_be_borne(
    controller: ControllerUnderTest, worker: HandWorker, attempt: Assignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pupload.controller.views._LOG_BYTES", 1000)
    await post(worker, attempt, 0, *(f"{n} {'x' * 100}" for n in range(50)))
    run = await controller.get(f"/api/v1/runs/{attempt.ref.run_id}")
    told = [line["message"].split()[0] for line in run["NodeState"][attempt.ref.node_id]["Logs"]]
    assert told == [str(n) for n in range(50 - len(told), 50)]
    assert 0 < len(told) < 10
    assert len(await recorded(controller, attempt)) == 50
