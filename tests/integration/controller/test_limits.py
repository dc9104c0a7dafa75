"""Limits that hold over all controllers, because they are counted where runs and files are kept; and a flood."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from pupload.stores.base import Store
from tests.support.controller import REFERENCE, ControllerUnderTest, a_controller
from tests.support.flood import RUN, SETTINGS, flood, key_of
from tests.support.until import until_found

pytestmark = pytest.mark.integration

MB = 1024**2


async def asked(
    controller: ControllerUnderTest, path: str, body: Any = RUN, headers: Mapping[str, str] | None = None
) -> tuple[int, Any, str]:
    """Status, document, and when to come again."""
    how: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body}
    async with controller.http.post(controller.url + path, headers=headers, **how) as response:
        return response.status, await response.json(), response.headers.get("Retry-After", "")


async def rows(controller: ControllerUnderTest, table: str) -> int:
    async with controller.running.parts.service.database.connection() as connection:
        return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))


def refusals(answers: list[tuple[int, Any, str]], code: str) -> int:
    """How many were refused, each so and with a time to come again."""
    refused = [each for each in answers if each[0] == 429]
    assert all(each[1]["Error"]["Code"] == code and 1 <= int(each[2]) <= 60 for each in refused), refused
    return len(refused)


async def test_two_controllers_together_take_as_many_runs_as_an_account_may_have(
    database_dsn: str, store: Store, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        one, other = [
            await stack.enter_async_context(a_controller(database_dsn, store, tmp_path, active_runs=3))
            for _ in range(2)
        ]
        key = {"Idempotency-Key": "first"}
        status, first, _ = await asked(one, "/api/v1/runs", headers=key)
        assert status == 202
        answers = await asyncio.gather(*(asked(each, "/api/v1/runs") for each in (one, other) for _ in range(10)))
        assert refusals(answers, "TOO_MANY_RUNS") == 18
        assert await rows(one, "runs") == 3
        status, again, _ = await asked(other, "/api/v1/runs", headers=key)
        assert (status, again["ID"]) == (202, first["ID"])
        await one.post(f"/api/v1/runs/{first['ID']}/cancel")

        async def taken() -> bool:
            return (await asked(other, "/api/v1/runs"))[0] == 202

        assert await until_found(taken)
        assert await rows(one, "runs") == 4


async def test_nodes_are_counted_over_all_runs(database_dsn: str, store: Store, tmp_path: Path) -> None:
    def of(nodes: int) -> Any:
        flow = RUN["Flow"] | {"Nodes": [{"ID": f"n{n}", "Uses": "test/nothing"} for n in range(nodes)]}  # type: ignore[operator]
        return RUN | {"Flow": flow}

    async with a_controller(database_dsn, store, tmp_path, active_nodes=10) as controller:
        status, told, _ = await asked(controller, "/api/v1/runs", of(11))
        assert (status, told["Error"]["Code"]) == (422, "TOO_MANY_NODES")
        assert (await asked(controller, "/api/v1/runs", of(7)))[0] == 202
        assert refusals([await asked(controller, "/api/v1/runs", of(4))], "TOO_MANY_NODES") == 1
        assert await rows(controller, "run_nodes") == 7


async def test_bytes_and_open_uploads_of_an_account_have_their_measure(
    database_dsn: str, store: Store, tmp_path: Path
) -> None:
    async with a_controller(database_dsn, store, tmp_path, stored_bytes=1000, open_uploads=2) as controller:
        files = await asyncio.gather(*(asked(controller, "/api/v1/files", bytes(400)) for _ in range(6)))
        assert refusals(files, "STORAGE_FULL") == 4
        assert await rows(controller, "files") == 2
        kept = next(told["ID"] for status, told, _ in files if status == 201)
        async with controller.http.delete(f"{controller.url}/api/v1/files/{kept}") as response:
            assert response.status < 300
        assert (await asked(controller, "/api/v1/files", bytes(400)))[0] == 201

        run = await controller.post("/api/v1/flow/test", REFERENCE)
        path = f"/api/v1/runs/{run['ID']}/uploads/input-image"
        begun = await asyncio.gather(*(asked(controller, path, {"Size": 20 * MB}) for _ in range(5)))
        assert refusals(begun, "TOO_MANY_UPLOADS") == 3
        assert await rows(controller, "upload_sessions") == 2


async def test_who_keeps_too_much_begins_no_run_with_a_session(database_dsn: str, store: Store, tmp_path: Path) -> None:
    async with a_controller(database_dsn, store, tmp_path, stored_bytes=1000) as controller:
        session = await controller.post("/api/v1/sessions", {}, expect=201)
        async with controller.running.parts.service.database.connection() as connection:
            await connection.execute("UPDATE sessions SET size_bytes = 2000")
        await controller.running.parts.files.hoarders()
        refused = [await asked(controller, "/api/v1/runs", RUN | {"SessionID": session["ID"]})]
        assert refusals(refused, "STORAGE_FULL") == 1
        assert (await asked(controller, "/api/v1/flow/test"))[0] == 200


async def test_wrong_keys_are_slowed_down_and_a_right_one_beside_them_is_not(
    database_dsn: str, store: Store, tmp_path: Path
) -> None:
    async with a_controller(database_dsn, store, tmp_path, wrong_keys_per_min=5) as controller:
        right = await key_of(controller, "mine")

        async def status(headers: Mapping[str, str]) -> tuple[int, str]:
            async with controller.http.get(f"{controller.url}/api/v1/account", headers=headers) as response:
                return response.status, response.headers.get("Retry-After", "")

        wrong = [{"X-API-Key": f"pup_{n:012x}_{'0' * 64}"} for n in range(20)]
        assert [(await status(each))[0] for each in wrong] == [401] * 5 + [429] * 15
        answers = await asyncio.gather(*(status(each) for each in [*wrong, right, *wrong]))
        assert answers[20] == (200, "")
        assert {each[0] for each in answers[:20]} == {429}
        assert all(1 <= int(wait) <= 12 for code, wait in answers if code == 429)


async def test_one_key_does_not_take_what_another_is_to_have(database_dsn: str, store: Store, tmp_path: Path) -> None:
    settings = {"requests_at_once": 3, "requests_per_s": 0.1, "requests_burst": 8}
    async with a_controller(database_dsn, store, tmp_path, **settings) as controller:
        one, other = await key_of(controller, "one"), await key_of(controller, "other")
        status, run, _ = await asked(controller, "/api/v1/runs", headers=one)
        assert status == 202
        url = f"{controller.url}/api/v1/runs/{run['ID']}"
        async with AsyncExitStack() as streams:
            for _ in range(3):
                stream = await streams.enter_async_context(controller.http.get(f"{url}/events", headers=one))
                assert stream.status == 200
            assert refusals([await asked(controller, "/api/v1/runs", headers=one)], "TOO_MANY_AT_ONCE") == 1
            assert (await asked(controller, "/api/v1/runs", headers=other))[0] == 202
        codes = set()
        for _ in range(10):
            async with controller.http.get(url, headers=one) as response:
                codes.add(response.status)
        assert 429 in codes
        assert (await asked(controller, "/api/v1/runs", headers=other))[0] == 202
        # Workers are never told to wait.
        worker = await controller.worker()
        for _ in range(30):
            await worker.claim(wait_s=0.0)


async def test_a_flood_is_refused_and_all_that_was_accepted_ends(
    database_dsn: str, store: Store, tmp_path: Path
) -> None:
    async with a_controller(database_dsn, store, tmp_path, **SETTINGS) as controller:
        came = await flood(controller, rounds=2, patient=2)
        async with controller.running.parts.service.database.connection() as connection:
            counted = await connection.fetch("SELECT account, count(*) AS runs FROM runs GROUP BY account")
            stored = {row["account"]: row["runs"] for row in counted}
            states = {row["status"] for row in await connection.fetch("SELECT DISTINCT status FROM runs")}
    assert stored == {"greedy": len(came.accepted), "calm": len(came.patient)}
    assert states == {"COMPLETE"}
    assert came.told.keys() <= {"TOO_MANY_RUNS", "RATE_LIMITED"}
    assert came.told.total() > 100
    assert came.hasty == 0
    assert len(came.patient) == 2
    assert came.memory_after < 1.1 * came.memory_before + 30 * MB


async def test_the_nodes_of_flows_that_a_run_calls_are_its_own(database_dsn: str, store: Store, tmp_path: Path) -> None:
    def calling(reference: str, times: int) -> Any:
        return {"Flow": {"Nodes": [{"ID": f"n{n}", "Uses": reference} for n in range(times)]}, "NodeDefs": []}

    async with a_controller(database_dsn, store, tmp_path, active_nodes=100) as controller:
        four = calling("test/nothing", 4) | {"NodeDefs": RUN["NodeDefs"]}
        for name, body in (("four", four), ("twenty", calling("flow/four", 4)), ("many", calling("flow/twenty", 9))):
            async with controller.http.put(f"{controller.url}/api/v1/flows/{name}", json=body) as response:
                assert response.status == 200
        many = await controller.post("/api/v1/flows/many/runs", {}, expect=422)
        assert many["Error"]["Code"] == "TOO_MANY_NODES"
        assert "189" in many["Error"]["Message"]
        for _ in range(5):
            await controller.post("/api/v1/flows/twenty/runs", {}, expect=202)
        answers = [await asked(controller, "/api/v1/flows/twenty/runs", {})]
        assert refusals(answers, "TOO_MANY_NODES") == 1
        parts = controller.running.parts

        async def called() -> bool:
            return await rows(controller, "runs") == 25

        assert await until_found(called)
        async with parts.service.database.connection() as connection:
            assert await connection.fetchval("SELECT sum(nodes) FROM runs") == 100
