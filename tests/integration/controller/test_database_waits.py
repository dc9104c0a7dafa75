"""A database that lets one wait: for a lock, for a connection, for a session that has fallen silent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from pupload.controller import signals
from pupload.db import pool
from pupload.db.pool import Connection, open_database
from pupload.stores.base import Store
from tests.integration.controller.test_database_faults import listening
from tests.support.controller import REFERENCE, ControllerUnderTest, a_controller
from tests.support.database_proxy import DatabaseProxy
from tests.support.follower import a_follower

pytestmark = pytest.mark.integration


@asynccontextmanager
async def locked(dsn: str, tables: str) -> AsyncIterator[None]:
    """Nobody else reads or writes these tables, as long as the block."""
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


async def asked(controller: ControllerUnderTest) -> tuple[int, Any]:
    """Status and answer of a request for a run."""
    async with controller.http.post(f"{controller.url}/api/v1/flow/test", json=REFERENCE) as response:
        return response.status, await response.json()


async def test_who_needs_a_lock_that_is_held_for_a_moment_waits(
    database_dsn: str, store: Store, tmp_path: Path
) -> None:
    async with a_controller(database_dsn, store, tmp_path) as controller:
        worker = await controller.worker()
        run = await controller.post("/api/v1/flow/test", REFERENCE)
        async with controller.http.put(run["WaitingURLs"][0]["PutURL"], data=b"abc") as response:
            assert response.status == 200
        (assignment,) = await worker.claim(wait_s=10)
        async with locked(database_dsn, "runs, attempts, events"):
            waiting = [
                asyncio.create_task(asked(controller)),
                asyncio.create_task(worker.beat([assignment.ref])),
            ]
            await asyncio.wait(waiting, timeout=1)
            assert not any(each.done() for each in waiting)
        (status, _), beat = await asyncio.gather(*waiting)
        assert (status, beat["Lost"]) == (200, [])
        await worker.finish(assignment.ref, outcome="failed", reason="type", message="no")
        assert (await controller.get(f"/api/v1/runs/{run['ID']}"))["Error"]["Code"] == "NODE_TYPE"


async def test_a_lock_that_nobody_gives_back_is_told_as_503_and_nothing_is_half_done(
    database_dsn: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(pool._SERVER_SETTINGS, "lock_timeout", "100ms")
    async with a_controller(database_dsn, store, tmp_path) as controller:
        async with (
            locked(database_dsn, "events"),
            controller.http.post(f"{controller.url}/api/v1/flow/test", json=REFERENCE) as response,
        ):
            assert (response.status, bool(response.headers["Retry-After"])) == (503, True)
        assert (await controller.get("/api/v1/runs"))["Runs"] == []
        assert (await asked(controller))[0] == 200


async def test_who_only_reads_what_nobody_gives_back_is_told_503_too(
    database_dsn: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(pool._SERVER_SETTINGS, "lock_timeout", "100ms")
    async with a_controller(database_dsn, store, tmp_path) as controller:
        async with (
            locked(database_dsn, "runs"),
            controller.http.get(f"{controller.url}/api/v1/runs") as response,
        ):
            assert (response.status, bool(response.headers["Retry-After"])) == (503, True)
        assert (await controller.get("/api/v1/runs"))["Runs"] == []


async def test_a_transaction_that_a_deadlock_broke_is_done_again(database_dsn: str) -> None:
    database = await open_database(database_dsn, 4)
    held = {1: asyncio.Event(), 2: asyncio.Event()}
    begun: list[int] = []

    async def both(first: int, then: int) -> None:
        async def work(connection: Connection) -> None:
            begun.append(first)
            await connection.execute("UPDATE duel SET hits = hits + 1 WHERE id = $1", first)
            held[first].set()
            await held[then].wait()
            await connection.execute("UPDATE duel SET hits = hits + 1 WHERE id = $1", then)

        await database.transact(work)

    try:
        async with database.connection() as connection:
            await connection.execute("CREATE TABLE duel (id int PRIMARY KEY, hits int)")
            await connection.execute("INSERT INTO duel VALUES (1, 0), (2, 0)")
        await asyncio.gather(both(1, 2), both(2, 1))
        async with database.connection() as connection:
            assert [row["hits"] for row in await connection.fetch("SELECT hits FROM duel ORDER BY id")] == [2, 2]
        assert len(begun) == 3
    finally:
        await database.close()


@pytest.mark.parametrize("way", ["read", "transact"])
async def test_a_table_that_a_newer_controller_changed_is_read_anew(database_dsn: str, way: str) -> None:
    database = await open_database(database_dsn, 3)
    try:
        for column in ("one", "two"):
            async with database.connection() as connection:
                await connection.execute(f"ALTER TABLE runs ADD COLUMN {column} int")
            assert column in await getattr(database, way)(_columns_of_runs)
    finally:
        await database.close()


async def _columns_of_runs(connection: Connection) -> list[str]:
    # A row even where there is no run.
    row = await connection.fetchrow("SELECT r.* FROM (SELECT) AS nothing LEFT JOIN runs AS r ON true")
    assert row is not None
    return list(row.keys())


async def test_who_gives_up_between_two_messages_of_a_statement_leaves_nothing_open(database_dsn: str) -> None:
    """The driver has prepared it, and would run it next: the server waits for that, in a transaction."""
    database = await open_database(database_dsn, 1)

    async def asking() -> None:
        async with database.connection() as connection:
            await connection.fetch("SELECT FROM runs WHERE id = $1", "run_1")

    try:
        task: Any = asyncio.create_task(asking())
        # Until its answer is there, and it has not been told.
        while task._fut_waiter is None or not task._fut_waiter.done():  # noqa: ASYNC110 - the driver tells of no step
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert "id" in await database.read(_columns_of_runs)
    finally:
        await database.close()


async def test_more_requests_than_connections_wait_for_each_other(
    database_dsn: str, store: Store, tmp_path: Path
) -> None:
    async with a_controller(database_dsn, store, tmp_path, database_pool=2) as controller:
        answers = await asyncio.gather(*(asked(controller) for _ in range(30)))
        assert {status for status, _ in answers} == {200}
        assert len({run["ID"] for _, run in answers}) == 30


async def test_a_listening_session_that_falls_silent_is_noticed_and_nobody_waits_for_it(
    database_dsn: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver notices nothing: the peer is there and says no more."""
    monkeypatch.setattr(signals, "_PROBE_S", 0.3)
    monkeypatch.setattr(signals, "_QUIET_POLL_S", 0.5)
    async with (
        DatabaseProxy(tmp_path, database_dsn) as proxy,
        a_controller(proxy.dsn, store, tmp_path, notifications=True) as controller,
    ):
        direct = await asyncpg.connect(database_dsn)
        try:
            first = await listening(direct)
            worker = await controller.worker()
            run = await controller.post("/api/v1/flow/test", REFERENCE)
            async with a_follower(controller, run["ID"]) as follower:
                await follower.until("waiting_uploads")
                assert proxy.silence("pupload-listen") == 1
                async with controller.http.put(run["WaitingURLs"][0]["PutURL"], data=b"abc") as response:
                    assert response.status == 200
                (assignment,) = await worker.claim(wait_s=20)
                await worker.finish(assignment.ref, outcome="failed", reason="type", message="no")
            assert await listening(direct, but=first)
        finally:
            await direct.close()
