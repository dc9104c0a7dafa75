"""An engine that goes away under a running worker."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pupload.config import WorkerConfig
from pupload.containers import docker
from pupload.errors import EngineUnavailable
from pupload.flow.plan import Reason
from pupload.protocol import Outcome
from tests.integration.worker.conftest import serving
from tests.support.engine_proxy import EngineProxy
from tests.support.fake_controller import FakeController, an_assignment, shell

pytestmark = pytest.mark.integration


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[EngineProxy]:
    async with EngineProxy(tmp_path / "docker.sock") as proxy:
        yield proxy


@pytest.fixture
async def behind_proxy(config: WorkerConfig, proxy: EngineProxy) -> AsyncIterator[None]:
    """A worker that reaches the engine through the proxy only."""
    async with serving(config.model_copy(update={"docker_host": proxy.address})):
        yield
        proxy.start()


@pytest.mark.usefixtures("behind_proxy")
async def test_connections_that_break_cost_neither_the_exit_nor_the_output(
    controller: FakeController, proxy: EngineProxy
) -> None:
    node = an_assignment(*shell("echo before; sleep 2; echo after; exit 3"))
    await controller.offer(node)
    await controller.until(lambda: bool(controller.lines))
    proxy.cut()
    finish = await controller.finish_of(node)
    assert (finish.reason, finish.exit_code) == (Reason.EXIT, 3)
    assert [line for line in controller.text(finish) if line in {"before", "after"}] == ["before", "after"]


@pytest.mark.usefixtures("behind_proxy")
async def test_an_engine_that_is_away_for_a_moment_costs_nothing(
    controller: FakeController, proxy: EngineProxy
) -> None:
    node = an_assignment(*shell("echo up; sleep 1"))
    await controller.offer(node)
    await controller.until(lambda: bool(controller.lines))
    proxy.stop()
    await asyncio.sleep(1.5)
    proxy.start()
    assert (await controller.finish_of(node)).outcome is Outcome.SUCCEEDED


@pytest.mark.usefixtures("behind_proxy")
async def test_an_engine_that_stays_away_is_the_infrastructure_s_fault(
    controller: FakeController, proxy: EngineProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "UNREACHABLE_S", 1.0)
    node = an_assignment(*shell("echo up; sleep 1"))
    await controller.offer(node)
    await controller.until(lambda: bool(controller.lines))
    proxy.stop()
    finish = await controller.finish_of(node)
    assert (finish.outcome, finish.reason) == (Outcome.FAILED, Reason.INFRA)
    assert "the Docker engine did not answer to inspect" in finish.message
    proxy.start()


async def test_every_call_to_a_frozen_engine_has_its_deadline(
    proxy: EngineProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await docker.Engine.connect(proxy.address)
    proxy.freeze()
    try:
        with pytest.raises(EngineUnavailable, match=r"did not answer to ping in 0.2 s"):
            await engine.call("ping", lambda client: client.ping(), 0.2)
    finally:
        proxy.cut()
        await engine.close()
