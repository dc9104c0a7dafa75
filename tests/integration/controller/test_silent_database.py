"""A database that is there and says nothing: a firewall has forgotten its connections, or it stands still itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pupload.controller import signals
from pupload.controller.routes import server
from pupload.db import pool
from pupload.protocol import AttemptRef
from pupload.stores.base import Store
from tests.integration.controller.test_database_faults import answered, claimed, finished, posted, put
from tests.support.controller import ControllerUnderTest, HandWorker, a_controller
from tests.support.database_proxy import DatabaseProxy

pytestmark = pytest.mark.integration

_FOR_GOOD_S = 600.0


@dataclass(frozen=True, slots=True)
class Scene:
    """A controller that reaches its database through the proxy, and a worker of it that holds an attempt."""

    controller: ControllerUnderTest
    proxy: DatabaseProxy
    worker: HandWorker
    held: AttemptRef
    run_id: str

    async def told(self, path: str) -> tuple[int, str]:
        async with self.controller.http.get(self.controller.url + path) as response:
            return response.status, await response.text()

    async def end_well(self) -> None:
        """The attempt is still the worker's, and new runs are taken."""
        ref = self.held.wire()
        await finished(self.worker, {"Ref": ref, "Outcome": "failed", "Reason": "type", "Message": "no"})
        assert (await answered(self.controller, "GET", f"/api/v1/runs/{self.run_id}"))["Error"]["Code"] == "NODE_TYPE"
        await posted(self.controller)


@asynccontextmanager
async def a_scene(dsn: str, store: Store, folder: Path, **settings: Any) -> AsyncIterator[Scene]:
    async with DatabaseProxy(folder, dsn) as proxy, a_controller(proxy.dsn, store, folder, **settings) as controller:
        worker = await controller.worker()
        run = await posted(controller)
        await put(controller, run)
        held = AttemptRef.model_validate((await claimed(worker))["Ref"])
        yield Scene(controller, proxy, worker, held, run["ID"])
        proxy.thaw()


async def test_one_silent_connection_is_told_as_503_and_the_others_are_not_waited_for(
    database_dsn: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_ANSWER_S", 1.0)
    async with a_scene(database_dsn, store, tmp_path) as scene:
        # All but the one that listens; new ones are as they should be.
        assert scene.proxy.silence("pupload") > 1
        status, text = await scene.told("/api/v1/runs")
        assert (status, "does not answer in time" in text) == (503, True), text
        assert (await scene.told("/api/v1/runs"))[0] == 200
        await scene.end_well()


async def test_a_session_that_falls_silent_while_it_listens_makes_all_others_anew(
    database_dsn: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before a request that waits on one of them would have noticed: in time for the beats."""
    monkeypatch.setattr(pool, "_ANSWER_S", _FOR_GOOD_S)
    monkeypatch.setattr(pool, "_SILENT_S", 0.2)
    monkeypatch.setattr(signals, "_PROBE_S", 0.3)
    # The looks alone have all of so few in use, long before that.
    async with a_scene(database_dsn, store, tmp_path, notifications=True, database_pool=2) as scene:
        assert scene.proxy.silence("pupload") == 2
        assert scene.proxy.silence("pupload-listen") == 1
        async with asyncio.timeout(30):
            while True:
                try:
                    async with asyncio.timeout(1):
                        assert (await scene.worker.beat([scene.held]))["Lost"] == []
                        break
                except TimeoutError:
                    continue
        await scene.end_well()


async def test_a_database_that_stands_still_is_told_and_goes_on_where_it_was(
    database_dsn: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_ANSWER_S", 1.0)
    monkeypatch.setattr(server, "_PATIENCE_S", 0.5)
    monkeypatch.setattr(pool, "_CONNECT_S", 0.5)
    async with a_scene(database_dsn, store, tmp_path) as scene:
        scene.proxy.freeze()
        answers = await asyncio.gather(*(scene.told(path) for path in ("/readyz", "/api/v1/runs", "/healthz")))
        assert [status for status, _ in answers] == [503, 503, 200]
        async with scene.worker.http.post(f"{scene.controller.url}/api/v1/flow/test", json={}) as response:
            assert response.status in {400, 503}
        scene.proxy.thaw()
        await answered(scene.controller, "GET", "/readyz")
        await scene.end_well()
