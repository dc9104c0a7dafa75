"""A worker whose event loop stands still: its beats go on, and so does the fence."""

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pupload.config import WorkerConfig
from pupload.protocol import Outcome
from tests.integration.worker.conftest import containers_of, serving
from tests.integration.worker.test_recovery import start_worker
from tests.support.fake_controller import FakeController, an_assignment, shell
from tests.support.s3_servers import free_port
from tests.support.until import until

pytestmark = pytest.mark.integration

_BLOCKED = "import signal, time; signal.signal(signal.SIGUSR1, lambda *_: time.sleep({seconds}))"
"""Whatever the event loop does when the signal comes, it does nothing more for so long."""


@pytest.fixture(autouse=True)
def _short_fence(controller: FakeController) -> None:
    controller.welcome = controller.welcome.model_copy(update={"beat_s": 0.2, "fence_s": 1.0})


@asynccontextmanager
async def a_worker_blocked_for(
    seconds: float, config: WorkerConfig, controller: FakeController, script: str, first: str = ""
) -> AsyncIterator[subprocess.Popen[bytes]]:
    """The process of a worker that runs `script` and is blocked from now on; what it leaves is removed by the next."""
    process = start_worker(config, first=_BLOCKED.format(seconds=seconds) + "\n" + first)
    try:
        node = an_assignment(*shell(f"echo up; {script}"))
        await controller.offer(node)
        await controller.until(lambda: bool(controller.lines))
        process.send_signal(signal.SIGUSR1)
        yield process
    finally:
        process.kill()
        await asyncio.to_thread(process.wait, 30)
        controller.deaf = False
        async with serving(config):
            pass


def running_containers_of(worker: str) -> list[str]:
    asked = ["docker", "ps", "-q", "--filter", f"label=pupload.worker={worker}"]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split()


async def test_a_blocked_event_loop_costs_no_lease(controller: FakeController, config: WorkerConfig) -> None:
    async with a_worker_blocked_for(3, config, controller, "sleep 1"):
        beaten = len(controller.beats)
        await controller.until(lambda: len(controller.beats) > beaten + 8)
        await controller.until(lambda: bool(controller.finishes))
    assert [finish.outcome for finish in controller.finishes] == [Outcome.SUCCEEDED]


async def test_the_fence_acts_while_the_event_loop_is_blocked(controller: FakeController, config: WorkerConfig) -> None:
    async with a_worker_blocked_for(600, config, controller, "sleep 600"):
        assert running_containers_of(config.worker_name)
        controller.deaf = True
        await until(lambda: not running_containers_of(config.worker_name))
        assert containers_of(config.worker_name)
    assert controller.finishes == []


async def test_an_event_loop_that_never_comes_back_loses_its_leases(
    controller: FakeController, config: WorkerConfig
) -> None:
    impatient = "from pupload.worker import serving; serving.WEDGED_S = 1.0"
    async with a_worker_blocked_for(600, config, controller, "sleep 600", first=impatient):
        await until(lambda: not running_containers_of(config.worker_name))
        beaten = len(controller.beats)
        await asyncio.sleep(1)
        assert len(controller.beats) == beaten


async def test_a_thread_of_beats_that_hangs_is_fenced_and_replaced_by_the_event_loop(
    controller: FakeController, config: WorkerConfig, tmp_path: Path
) -> None:
    """The other way round: it is what fences otherwise."""
    wish = tmp_path / "failpoints"
    process = start_worker(config, first=f"from pupload import failpoints; failpoints.arm('@{wish}')")
    try:
        await controller.offer(held := an_assignment(*shell("echo up; sleep 600")))
        await controller.until(lambda: bool(controller.lines) and held.ref in controller.beats[-1].attempts)
        wish.write_text("beat.sending:hang")
        await until(lambda: not containers_of(config.worker_name))
        await controller.until(lambda: controller.beats[-1].attempts == [])
        await controller.offer(node := an_assignment(*shell("echo said")))
        assert (await controller.finish_of(node)).outcome is Outcome.SUCCEEDED
        assert [finish.ref for finish in controller.finishes] == [node.ref]
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 30) == 0
    finally:
        process.kill()
        await asyncio.to_thread(process.wait, 30)


async def test_the_next_controller_is_asked_when_one_does_not_answer(
    controller: FakeController, config: WorkerConfig
) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    async with serving(config.model_copy(update={"controller_url": f"{nobody} {controller.url}/"})):
        await controller.offer(node := an_assignment(*shell("echo said")))
        finish = await controller.finish_of(node)
        assert (finish.outcome, controller.text(finish)) == (Outcome.SUCCEEDED, ["said"])
        assert controller.beats


async def test_a_worker_goes_on_with_another_controller(controller: FakeController, config: WorkerConfig) -> None:
    async with FakeController() as other:
        other.welcome = controller.welcome
        async with serving(config.model_copy(update={"controller_url": f"{controller.url} {other.url}"})):
            await controller.offer(node := an_assignment(*shell("echo up; sleep 1")))
            await controller.until(lambda: bool(controller.lines))
            controller.deaf = True
            assert (await other.finish_of(node)).outcome is Outcome.SUCCEEDED
            assert node.ref in [ref for beat in other.beats for ref in beat.attempts]


@pytest.mark.usefixtures("worker")
async def test_lines_whose_answer_was_lost_are_posted_again_under_the_same_number(controller: FakeController) -> None:
    controller.unheard["logs"] = 2
    await controller.offer(node := an_assignment(*shell("echo one; echo two; sleep 1.5; echo three")))
    finish = await controller.finish_of(node)
    first, *again = [(post.first, [line.text for line in post.lines]) for post in controller.heard if post.lines]
    assert first[0] == 0
    assert again[:2] == [first, first]
    assert finish.first_line is None


@pytest.mark.usefixtures("worker")
async def test_lines_that_were_never_answered_come_with_the_finish_and_their_number(controller: FakeController) -> None:
    controller.unheard["logs"] = 1_000_000
    await controller.offer(node := an_assignment(*shell("echo one; sleep 0.5; echo two")))
    finish = await controller.finish_of(node)
    assert (finish.first_line, [line.text for line in finish.lines]) == (0, ["one", "two"])
