"""API keys: no call without one from the first one on; the worker's side and signed URLs need none."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from yarl import URL

from pupload.cli import keys as commands
from pupload.controller.keys import add_key, list_keys, revoke_key
from pupload.errors import Conflict, InvalidRequest, NotFound
from pupload.stores.base import Store
from tests.support.controller import REFERENCE, ControllerUnderTest, a_controller

pytestmark = pytest.mark.integration


@pytest.fixture
async def controller(database_dsn: str, store: Store, tmp_path: Path) -> AsyncIterator[ControllerUnderTest]:
    """A controller that wants keys."""
    async with a_controller(database_dsn, store, tmp_path, require_keys=True) as running:
        yield running


async def a_key(controller: ControllerUnderTest, name: str = "first", **how: object) -> str:
    async with controller.running.parts.service.database.connection() as connection:
        key, _ = await add_key(connection, name, **how)  # type: ignore[arg-type]
    return key


async def asked(controller: ControllerUnderTest, headers: dict[str, str], path: str = "/api/v1/runs") -> int:
    async with controller.http.get(controller.url + path, headers=headers) as response:
        return response.status


@pytest.mark.parametrize(
    "path", ["/api/v1/runs", "/api/v1/flow/status/run_x", "/api/v1/tiers", "/api/v1/workers", "/api/v1/account"]
)
async def test_without_a_key_nothing_is_told(controller: ControllerUnderTest, path: str) -> None:
    await a_key(controller)
    assert await asked(controller, {}, path) == 401


async def test_the_reference_route_too_wants_a_key(controller: ControllerUnderTest) -> None:
    key = await a_key(controller)
    refused = await controller.post("/api/v1/flow/test", REFERENCE, expect=401)
    assert refused["error"]["Code"] == "UNAUTHORIZED"
    run = await controller.post("/api/v1/flow/test", REFERENCE, headers={"X-API-Key": key})
    assert run["Status"] == "WAITING"


async def test_a_key_may_come_in_three_ways(controller: ControllerUnderTest) -> None:
    key = await a_key(controller)
    ways = [{"Authorization": f"Bearer {key}"}, {"Authorization": key}, {"X-API-Key": key}]
    assert [await asked(controller, way) for way in ways] == [200, 200, 200]


async def test_a_wrong_secret_under_a_right_id_opens_nothing(controller: ControllerUnderTest) -> None:
    key = await a_key(controller)
    for wrong in (key[:-1] + ("0" if key[-1] != "0" else "1"), key.upper(), "pup__", "pup_", "x", "pup_%00_a"):
        assert await asked(controller, {"X-API-Key": wrong}) == 401


@pytest.mark.parametrize("path", ["/api/v1/runs", "/api/v1/worker/hello"])
async def test_a_key_that_is_no_text_opens_nothing(controller: ControllerUnderTest, path: str) -> None:
    url = URL(controller.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode())
    writer.write(b"Authorization: Bearer pup_\xff_\xff\r\nContent-Length: 2\r\n\r\n{}")
    assert b" 401 " in await reader.readline()
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("account", ["a/b", "child:run_1", " a", "a" * 64])
async def test_an_account_is_a_name_that_cannot_run_into_what_stands_behind_it(
    controller: ControllerUnderTest, account: str
) -> None:
    async with controller.running.parts.service.database.connection() as connection:
        with pytest.raises(InvalidRequest):
            await add_key(connection, "second", account=account)


async def test_a_revoked_and_an_expired_key_open_nothing(controller: ControllerUnderTest) -> None:
    revoked, expired = await a_key(controller), await a_key(controller, "short", lifetime=timedelta(microseconds=1))
    async with controller.running.parts.service.database.connection() as connection:
        await revoke_key(connection, "first")
        with pytest.raises(NotFound):
            await revoke_key(connection, "first")
    assert [await asked(controller, {"X-API-Key": key}) for key in (revoked, expired)] == [401, 401]


async def test_a_command_returns_when_all_servers_do_as_it_says(
    database_dsn: str,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They remember for a while that there is no key, or that one is good."""
    monkeypatch.setenv("PUPLOAD_DATABASE_URL", database_dsn)
    async with a_controller(database_dsn, store, tmp_path) as controller:
        assert await asked(controller, {}) == 200
        await asyncio.to_thread(commands.create, "first", "", None, (), None)
        assert await asked(controller, {}) == 401
        key = {"X-API-Key": capsys.readouterr().out.strip()}
        assert await asked(controller, key) == 200
        await asyncio.to_thread(commands.revoke, "first", None)
        assert await asked(controller, key) == 401


async def test_health_is_told_to_everybody(controller: ControllerUnderTest) -> None:
    await a_key(controller)
    assert [await asked(controller, {}, path) for path in ("/healthz", "/readyz")] == [200, 200]


async def test_workers_have_their_own_tokens(controller: ControllerUnderTest) -> None:
    await a_key(controller)
    await controller.worker()


async def test_only_a_digest_is_kept(controller: ControllerUnderTest) -> None:
    key = await a_key(controller)
    async with controller.running.parts.service.database.connection() as connection:
        rows = await connection.fetch("SELECT k::text AS row FROM api_keys k")
        (listed,) = await list_keys(connection)
        with pytest.raises(Conflict):
            await add_key(connection, "first")
    assert key.rpartition("_")[2] not in "".join(row["row"] for row in rows)
    assert (listed.name, listed.account) == ("first", f"acc_{listed.id}")


async def test_to_revoke_the_last_key_opens_nothing(database_dsn: str, store: Store, tmp_path: Path) -> None:
    async with a_controller(database_dsn, store, tmp_path) as controller:
        await a_key(controller)
        async with controller.running.parts.service.database.connection() as connection:
            await revoke_key(connection, "first")
    async with a_controller(database_dsn, store, tmp_path) as controller:
        assert await asked(controller, {}) == 401


async def test_keys_are_wanted_from_the_first_one_on(database_dsn: str, store: Store, tmp_path: Path) -> None:
    async with a_controller(database_dsn, store, tmp_path) as controller:
        assert await asked(controller, {}) == 200
        await a_key(controller)
    async with a_controller(database_dsn, store, tmp_path) as controller:
        assert await asked(controller, {}) == 401


async def test_beyond_loopback_keys_are_wanted_by_themselves(database_dsn: str, store: Store, tmp_path: Path) -> None:
    async with a_controller(database_dsn, store, tmp_path, host="0.0.0.0") as controller:
        assert "pup key create" in await controller.running.parts.keys.advice()
        assert await asked(controller, {}) == 401
        key = await a_key(controller)
        assert await controller.running.parts.keys.advice() == ""
        assert await asked(controller, {"X-API-Key": key}) == 200


async def test_a_key_may_be_made_for_a_part_alone(controller: ControllerUnderTest) -> None:
    await a_key(controller, scopes=["run:read", "files"])
    await a_key(controller, "operator", scopes=["admin"])
    async with controller.running.parts.service.database.connection() as connection:
        with pytest.raises(InvalidRequest, match="run:create"):
            await add_key(connection, "other", scopes=["run:all"])
        part, operator = await list_keys(connection)
    assert (part.scopes, part.account) == (("files", "run:read"), f"acc_{part.id}")
    assert (operator.scopes, operator.account) == (("admin",), "")
