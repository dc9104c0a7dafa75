"""An engine that goes away under a running worker."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from docker import APIClient

from pupload.config import WorkerConfig
from pupload.containers import docker
from pupload.errors import EngineUnavailable
from pupload.flow.plan import Reason
from pupload.protocol import Outcome
from pupload.worker.shop import attempt_name
from tests.integration.worker.conftest import serving
from tests.support.docker_images import BUSYBOX
from tests.support.engine_proxy import EngineProxy
from tests.support.fake_controller import FakeController, an_assignment, an_output, shell

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


@pytest.mark.usefixtures("behind_proxy")
@pytest.mark.parametrize(
    ("request_", "outcome"),
    [
        ("POST .*/start", Outcome.SUCCEEDED),
        ("POST .*/containers/create", Outcome.FAILED),
        ("DELETE .*", Outcome.SUCCEEDED),
    ],
)
async def test_what_was_done_unheard_leaves_nothing_and_costs_no_more_than_a_try(
    controller: FakeController, proxy: EngineProxy, request_: str, outcome: Outcome
) -> None:
    proxy.lose_answer(request_)
    await controller.offer(node := an_assignment(*shell("echo said")))
    finish = await controller.finish_of(node)
    assert (finish.outcome, finish.reason or Reason.INFRA) == (outcome, Reason.INFRA), finish


@pytest.mark.usefixtures("behind_proxy")
@pytest.mark.parametrize(
    ("request_", "outcome"),
    [
        ("POST .*/containers/create", Outcome.FAILED),
        ("POST .*/start", Outcome.FAILED),
        ("POST .*/wait", Outcome.SUCCEEDED),
        ("GET .*/containers/.*/json", Outcome.SUCCEEDED),
        ("DELETE .*", Outcome.SUCCEEDED),
    ],
)
async def test_a_fault_of_the_engine_s_own_is_named_and_the_infrastructure_s(
    controller: FakeController, proxy: EngineProxy, request_: str, outcome: Outcome
) -> None:
    proxy.refuse(request_)
    await controller.offer(node := an_assignment(*shell("echo said")))
    finish = await controller.finish_of(node)
    assert finish.outcome is outcome, finish
    if outcome is Outcome.FAILED:
        assert finish.reason is Reason.INFRA
        assert "a fault on order" in finish.message


@pytest.mark.usefixtures("behind_proxy")
async def test_a_slow_engine_is_waited_for(controller: FakeController, proxy: EngineProxy) -> None:
    proxy.delay_s = 0.4
    await controller.offer(node := an_assignment(*shell("echo ok > ${b}"), outputs=[an_output("b")]))
    assert (await controller.finish_of(node)).outcome is Outcome.SUCCEEDED
    proxy.delay_s = 0.0


@pytest.mark.usefixtures("worker")
async def test_a_container_of_somebody_else_is_left_alone_even_where_it_has_our_name(
    controller: FakeController, plain_engine: APIClient
) -> None:
    node = an_assignment(*shell("echo said"))
    body = plain_engine.create_host_config(network_mode="none")
    foreign = plain_engine.create_container(BUSYBOX, "true", name=attempt_name(node.ref), host_config=body)["Id"]
    try:
        await controller.offer(node)
        finish = await controller.finish_of(node)
        assert (finish.outcome, finish.reason) == (Outcome.FAILED, Reason.INFRA), finish
        assert "is held by a container that is not ours" in finish.message
        assert plain_engine.inspect_container(foreign)["State"]["Status"] == "created"
    finally:
        plain_engine.remove_container(foreign, v=True, force=True)


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
