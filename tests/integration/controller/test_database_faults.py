"""The database goes away in the middle: requests are refused for a moment, and everything goes on by itself."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from pupload.stores.base import Store
from tests.support.controller import REFERENCE, ControllerUnderTest, HandWorker, a_controller
from tests.support.follower import a_follower
from tests.support.private_postgres import PrivatePostgres, a_private_postgres

pytestmark = pytest.mark.integration

_BLOCKED_BY_US = (
    "SELECT count(*) FROM pg_stat_activity WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid))"
    " AND query LIKE '%last_seq%'"
)


@pytest.fixture(scope="module")
def server() -> Iterator[PrivatePostgres]:
    with a_private_postgres() as server:
        yield server


@pytest.fixture
async def dsn(server: PrivatePostgres) -> AsyncIterator[str]:
    async with server.database() as dsn:
        yield dsn


@pytest.fixture
async def controller(dsn: str, store: Store, tmp_path: Path, notifications: bool) -> AsyncIterator[ControllerUnderTest]:
    async with a_controller(dsn, store, tmp_path, notifications=notifications) as running:
        yield running


async def answered(controller: ControllerUnderTest, method: str, path: str, body: Any = None) -> Any:
    """The answer, asked for again while the database is away; anything else than 200 and 503 is a fault."""
    async with asyncio.timeout(30):
        while True:
            async with controller.http.request(method, controller.url + path, json=body) as response:
                assert response.status in {200, 503}, await response.text()
                if response.status == 200:
                    return await response.json()
                assert response.headers["Retry-After"]
            await asyncio.sleep(0.05)


async def posted(controller: ControllerUnderTest, body: Any = REFERENCE) -> Any:
    return await answered(controller, "POST", "/api/v1/flow/test", body)


async def put(controller: ControllerUnderTest, run: Any) -> None:
    async with controller.http.put(run["WaitingURLs"][0]["PutURL"], data=b"abc") as response:
        assert response.status == 200


async def claimed(worker: HandWorker) -> Any:
    """The first attempt that the worker gets, however often it must ask."""
    body = {"Instance": worker.instance, "Free": worker.capacity(), "Most": 1, "WaitS": 2}
    headers = {"Authorization": f"Bearer {worker.token}"}
    async with asyncio.timeout(60):
        while True:
            async with worker.http.post(f"{worker.url}/api/v1/worker/claim", json=body, headers=headers) as response:
                assert response.status in {200, 503}, await response.text()
                if response.status == 200 and (found := (await response.json())["Assignments"]):
                    return found[0]


async def finished(worker: HandWorker, body: Any) -> None:
    """The finish was accepted, sent again while the database is away."""
    headers = {"Authorization": f"Bearer {worker.token}"}
    async with asyncio.timeout(60):
        while True:
            async with worker.http.post(f"{worker.url}/api/v1/worker/finish", json=body, headers=headers) as response:
                assert response.status in {200, 503}, await response.text()
                if response.status == 200:
                    return


async def test_requests_are_refused_for_a_moment_and_never_fail(
    controller: ControllerUnderTest, server: PrivatePostgres
) -> None:
    run = await posted(controller)
    over = asyncio.Event()

    async def ask() -> None:
        while not over.is_set():
            await answered(controller, "GET", f"/api/v1/runs/{run['ID']}")
            await posted(controller)
            await answered(controller, "GET", "/api/v1/runs")

    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(ask()) for _ in range(3)]
        for _ in range(4):
            await asyncio.sleep(0.2)
            assert await server.end_sessions() > 0
        over.set()
        await asyncio.gather(*asking)


async def test_followers_go_on_where_they_were(controller: ControllerUnderTest, server: PrivatePostgres) -> None:
    worker = await controller.worker()
    run = await posted(controller)
    async with a_follower(controller, run["ID"]) as follower:
        await follower.until("waiting_uploads")
        await server.end_sessions()
        await put(controller, run)
        assignment = await claimed(worker)
        await follower.until("node_started")
        await server.end_sessions()
        await answered(controller, "POST", f"/api/v1/runs/{run['ID']}/cancel")
        await finished(worker, {"Ref": assignment["Ref"], "Outcome": "failed", "Reason": "cancelled"})
    assert follower.types[-1] == "run_cancelled"


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_restart_of_the_server_loses_nothing(
    controller: ControllerUnderTest, server: PrivatePostgres, mode: str
) -> None:
    worker = await controller.worker()
    waiting, ready = await posted(controller), await posted(controller)
    await put(controller, ready)
    held = await claimed(worker)
    async with a_follower(controller, waiting["ID"]) as follower:
        await follower.until("waiting_uploads")
        await server.restart(mode)
        await put(controller, waiting)
        late = await claimed(worker)
        assert late["Ref"]["RunID"] == waiting["ID"]
        await follower.until("node_started")
        await answered(controller, "POST", f"/api/v1/runs/{waiting['ID']}/cancel")
        await finished(worker, {"Ref": late["Ref"], "Outcome": "failed", "Reason": "cancelled"})
    await finished(worker, {"Ref": held["Ref"], "Outcome": "failed", "Reason": "type", "Message": "no"})
    ended = await answered(controller, "GET", f"/api/v1/runs/{ready['ID']}")
    assert ended["Error"]["Code"] == "NODE_TYPE"


async def test_hints_come_again_after_their_connection_was_ended(dsn: str, store: Store, tmp_path: Path) -> None:
    async with a_controller(dsn, store, tmp_path, notifications=True):
        connection = await asyncpg.connect(dsn)
        try:
            first = await listening(connection)
            await connection.execute("SELECT pg_terminate_backend($1)", first)
            assert await listening(connection, but=first)
        finally:
            await connection.close()


async def listening(connection: "asyncpg.Connection[asyncpg.Record]", but: int = 0) -> int:
    """The session that listens, once there is one."""
    async with asyncio.timeout(15):
        while True:
            found: int | None = await connection.fetchval(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'pupload-listen' AND pid <> $1"
                " AND query LIKE 'LISTEN%'",
                but,
            )
            if found is not None:
                return found
            await asyncio.sleep(0.01)


async def test_a_session_that_ends_within_a_finish_leaves_it_undone_and_repeatable(
    controller: ControllerUnderTest, server: PrivatePostgres, dsn: str
) -> None:
    worker = await controller.worker()
    run = await posted(controller)
    await put(controller, run)
    finish = {"Ref": (await claimed(worker))["Ref"], "Outcome": "failed", "Reason": "type", "Message": "no"}
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM runs FOR UPDATE")
            cut_off = asyncio.create_task(worker.call("finish", finish, expect=503))
            await until_blocked(connection)
            await server.end_sessions("pupload")
            await cut_off
    finally:
        await connection.close()
    await finished(worker, finish)
    await worker.call("finish", finish, expect=409)
    assert (await controller.get(f"/api/v1/runs/{run['ID']}"))["Error"]["Code"] == "NODE_TYPE"


async def until_blocked(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Returns when another session waits for what this one holds."""
    async with asyncio.timeout(15):
        while not await connection.fetchval(_BLOCKED_BY_US):
            await asyncio.sleep(0.01)
            # Within a transaction PostgreSQL shows the sessions as they were at the first look.
            await connection.execute("SELECT pg_stat_clear_snapshot()")
