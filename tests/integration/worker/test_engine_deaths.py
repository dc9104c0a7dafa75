"""An engine that dies, freezes or fills up under a running worker; the engine is real, and the test's own."""

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from pupload.config import WorkerConfig
from pupload.containers import docker
from pupload.flow.plan import Reason
from pupload.protocol import Assignment, Outcome, ToolSheet
from tests.integration.worker.conftest import serving
from tests.integration.worker.test_recovery import ended, start_worker
from tests.support.fake_controller import FakeController, an_assignment, an_output, shell
from tests.support.private_engine import PrivateEngine, a_private_engine
from tests.support.s3_servers import processes_naming
from tests.support.until import until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def the_engine() -> Iterator[PrivateEngine]:
    with a_private_engine() as engine:
        yield engine


@pytest.fixture
def engine(the_engine: PrivateEngine) -> Iterator[PrivateEngine]:
    """A running engine; whatever was done to it, nothing of the test is left on it."""
    yield the_engine
    assert the_engine.containers() == []
    # The SDK leaves its socket to the garbage where an engine refuses it.
    gc.collect()


@pytest.fixture
def on_it(config: WorkerConfig, engine: PrivateEngine) -> WorkerConfig:
    return config.model_copy(update={"docker_host": engine.address, "janitor_s": 0.5})


@pytest.fixture
async def behind(on_it: WorkerConfig, engine: PrivateEngine) -> AsyncIterator[None]:
    """A worker on that engine; it ends once its janitor has found nothing more."""
    async with serving(on_it):
        yield
        async with asyncio.timeout(60):
            while await asyncio.to_thread(engine.containers):  # noqa: ASYNC110 - another process's doing
                await asyncio.sleep(0.1)


async def running(controller: FakeController, script: str, tools: ToolSheet | None = None) -> Assignment:
    """An attempt whose program has said something."""
    node = an_assignment(*shell(f"echo up; {script}"), tools=tools)
    said = len(controller.lines)
    await controller.offer(node)
    await controller.until(lambda: len(controller.lines) > said)
    return node


async def it_works(controller: FakeController) -> None:
    """What is offered now succeeds."""
    await controller.offer(node := an_assignment(*shell("echo ok > ${b}"), outputs=[an_output("b")]))
    finish = await controller.finish_of(node, 60)
    assert finish.outcome is Outcome.SUCCEEDED, finish


@pytest.mark.usefixtures("behind")
async def test_a_crash_that_takes_the_containers_along_is_the_infrastructure_s(
    controller: FakeController, engine: PrivateEngine
) -> None:
    node = await running(controller, "sleep 600")
    engine.kill()
    await asyncio.to_thread(engine.start)
    finish = await controller.finish_of(node, 60)
    assert (finish.outcome, finish.reason) == (Outcome.FAILED, Reason.INFRA), finish
    await it_works(controller)


@pytest.mark.usefixtures("behind")
@pytest.mark.parametrize("tools", [None, ToolSheet(tools="{}", results=None, exit_code=255)])
async def test_a_crash_between_an_exit_and_its_record_is_the_infrastructure_s(
    controller: FakeController, engine: PrivateEngine, tools: ToolSheet | None
) -> None:
    """The engine had asked for the exit code, and did not come to write it down: it says 255, as programs do."""
    node = await running(controller, "sleep 600", tools)
    engine.kill()
    engine.forget()
    await asyncio.to_thread(engine.start)
    finish = await controller.finish_of(node, 60)
    assert (finish.outcome, finish.reason, finish.exit_code) == (Outcome.FAILED, Reason.INFRA, 255), finish
    await it_works(controller)


@pytest.mark.usefixtures("behind")
async def test_a_crash_that_the_containers_outlive_costs_nothing(
    controller: FakeController, engine: PrivateEngine
) -> None:
    node = await running(controller, "sleep 5; echo done")
    engine.kill()
    await asyncio.to_thread(engine.start, "--live-restore")
    finish = await controller.finish_of(node, 60)
    assert finish.outcome is Outcome.SUCCEEDED, finish
    assert "done" in controller.text(finish)


@pytest.mark.usefixtures("behind")
async def test_an_engine_that_is_stopped_in_good_order_is_not_the_program_s_fault(
    controller: FakeController, engine: PrivateEngine
) -> None:
    """It ends its containers with TERM: an exit as of the program's own."""
    node = await running(controller, "sleep 600")
    engine.signal(signal.SIGTERM)
    await asyncio.to_thread(engine.wait)
    await asyncio.to_thread(engine.start)
    finish = await controller.finish_of(node, 60)
    assert (finish.outcome, finish.reason) == (Outcome.FAILED, Reason.INFRA), finish
    await it_works(controller)


@pytest.mark.usefixtures("behind")
async def test_an_engine_that_freezes_for_a_moment_costs_nothing(
    controller: FakeController, engine: PrivateEngine
) -> None:
    node = await running(controller, "sleep 1; echo done")
    engine.signal(signal.SIGSTOP)
    await asyncio.sleep(2)
    engine.signal(signal.SIGCONT)
    finish = await controller.finish_of(node)
    assert finish.outcome is Outcome.SUCCEEDED, finish


@pytest.mark.usefixtures("behind")
async def test_an_engine_that_stays_frozen_is_given_up_and_cleaned_up_later(
    controller: FakeController, engine: PrivateEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("UNREACHABLE_S", 1.0), ("CALL_S", 0.5), ("KILL_S", 0.5), ("REMOVAL_S", 0.5)):
        monkeypatch.setattr(docker, name, seconds)
    node = await running(controller, "sleep 600")
    engine.signal(signal.SIGSTOP)
    try:
        finish = await controller.finish_of(node, 60)
        assert (finish.outcome, finish.reason) == (Outcome.FAILED, Reason.INFRA), finish
        assert "the Docker engine did not answer" in finish.message
    finally:
        engine.signal(signal.SIGCONT)
        monkeypatch.undo()


@pytest.mark.usefixtures("behind")
async def test_an_engine_whose_disk_is_full_says_so_and_goes_on_when_there_is_room(
    controller: FakeController, engine: PrivateEngine
) -> None:
    await it_works(controller)
    await asyncio.to_thread(engine.fill)
    try:
        await controller.offer(node := an_assignment(*shell("echo up")))
        finish = await controller.finish_of(node, 60)
        assert (finish.outcome, finish.reason) == (Outcome.FAILED, Reason.INFRA), finish
        assert "no space left on device" in finish.message
    finally:
        engine.empty()
    await it_works(controller)


@pytest.mark.usefixtures("behind")
async def test_a_program_that_outlives_its_shim_is_killed_and_charged_to_nobody(
    controller: FakeController, engine: PrivateEngine
) -> None:
    """The engine says that the container has exited; the program has not."""
    node = await running(controller, "sleep 600")
    container = engine.ask("ps", "-q", "--no-trunc")
    program = int(engine.ask("inspect", "--format", "{{.State.Pid}}", container))
    (shim,) = processes_naming(f"-id\0{container}\0")
    os.kill(shim, signal.SIGKILL)
    finish = await controller.finish_of(node, 60)
    assert (finish.outcome, finish.reason) == (Outcome.FAILED, Reason.INFRA), finish
    await until(is_gone(program))
    await it_works(controller)


def is_gone(pid: int) -> Callable[[], bool]:
    def asked() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    return asked


async def test_after_the_machine_went_down_nothing_of_before_is_left(
    controller: FakeController, on_it: WorkerConfig, engine: PrivateEngine
) -> None:
    """Engine, shims, programs and worker die at once; engine and worker start again."""
    worker = start_worker(on_it)
    try:
        await running(controller, "sleep 600")
    finally:
        worker.kill()
        await ended(worker)
    engine.power_off()
    await asyncio.to_thread(engine.start)
    assert engine.containers()
    async with serving(on_it):
        await controller.until(lambda: len(controller.hellos) == 2)
        assert engine.containers() == []
        assert [path for path in on_it.work_dir.iterdir() if path.is_dir()] == []
