"""What happens when a part of the whole goes away in the middle."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import deque
from pathlib import Path

import pytest
from pydantic import SecretStr

from pupload.config import WorkerConfig
from pupload.containers.docker import Engine
from pupload.errors import InvalidConfig, Unauthorized
from pupload.flow.plan import Reason
from pupload.protocol import Outcome
from tests.integration.worker.conftest import containers_of, serving
from tests.support.fake_controller import FakeController, an_assignment, an_output, shell

pytestmark = pytest.mark.integration

_MAIN = """
import asyncio, os
from pupload.config import WorkerConfig
from pupload.worker.app import run_worker
if {user}:
    os.setgroups([os.stat("/var/run/docker.sock").st_gid]); os.setgid({user}); os.setuid({user})
{first}
asyncio.run(run_worker(WorkerConfig(**{settings})))
"""


def start_worker(config: WorkerConfig, user: int = 0, first: str = "") -> subprocess.Popen[bytes]:
    """A worker in a process of its own, with the settings of `config`, as `user` who may use the engine.

    `first` is a program that runs before it, in its process.
    """
    settings = config.model_dump(mode="json", exclude_none=True, exclude={"gpus"}) | {"worker_token": "token"}
    code = _MAIN.format(user=user, settings=repr(settings), first=first)
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)


async def ended(process: subprocess.Popen[bytes]) -> int:
    return await asyncio.to_thread(process.wait, 30)


async def test_what_a_killed_worker_left_is_removed_by_the_next(
    controller: FakeController, config: WorkerConfig
) -> None:
    process = start_worker(config)
    try:
        node = an_assignment(*shell("echo up; sleep 60"), outputs=[an_output()])
        await controller.offer(node)
        await controller.until(lambda: bool(controller.lines))
    finally:
        process.kill()
        await ended(process)
    assert len(containers_of(config.worker_name)) == 1
    async with serving(config):
        await controller.until(lambda: len(controller.hellos) == 2)
        assert containers_of(config.worker_name) == []
    assert controller.hellos[0].instance != controller.hellos[1].instance


async def test_sigterm_lets_running_attempts_end_and_takes_no_more(
    controller: FakeController, config: WorkerConfig
) -> None:
    process = start_worker(config)
    try:
        node = an_assignment(*shell("echo up; sleep 1"))
        await controller.offer(node)
        await controller.until(lambda: bool(controller.lines))
        process.send_signal(signal.SIGTERM)
        await controller.until(lambda: controller.beats[-1].draining)
        await controller.offer(late := an_assignment("true"))
        finish = await controller.finish_of(node)
        assert finish.outcome is Outcome.SUCCEEDED
        assert await ended(process) == 0
        assert late.ref not in [each.ref for each in controller.finishes]
    finally:
        process.kill()


async def test_what_does_not_end_in_time_is_released_on_sigterm(
    controller: FakeController, config: WorkerConfig
) -> None:
    process = start_worker(config.model_copy(update={"drain_s": 0.2}))
    try:
        node = an_assignment(*shell("echo up; sleep 60"))
        await controller.offer(node)
        await controller.until(lambda: bool(controller.lines))
        process.send_signal(signal.SIGTERM)
        assert (await controller.finish_of(node)).outcome is Outcome.RELEASED
        assert await ended(process) == 0
    finally:
        process.kill()


async def test_a_second_sigterm_releases_at_once(controller: FakeController, config: WorkerConfig) -> None:
    process = start_worker(config.model_copy(update={"drain_s": 600}))
    try:
        node = an_assignment(*shell("echo up; sleep 600"))
        await controller.offer(node)
        await controller.until(lambda: bool(controller.lines))
        process.send_signal(signal.SIGTERM)
        await controller.until(lambda: controller.beats[-1].draining)
        assert controller.finishes == []
        process.send_signal(signal.SIGTERM)
        assert (await controller.finish_of(node)).outcome is Outcome.RELEASED
        assert await ended(process) == 0
    finally:
        process.kill()


async def test_a_worker_whose_controller_is_away_ends_when_told(
    controller: FakeController, config: WorkerConfig
) -> None:
    controller.deaf = True
    async with serving(config):
        await asyncio.sleep(0.3)
    assert controller.hellos == []


async def test_a_worker_whose_token_is_unknown_says_so(config: WorkerConfig) -> None:
    stranger = config.model_copy(update={"worker_token": SecretStr("another")})
    with pytest.raises(Unauthorized, match="pup worker-token add"):
        async with serving(stranger) as worker:
            await worker.serve()


async def test_a_worker_that_cannot_beat_ends_its_containers(controller: FakeController, config: WorkerConfig) -> None:
    controller.welcome = controller.welcome.model_copy(update={"fence_s": 1.0})
    async with serving(config):
        node = an_assignment(*shell("echo up; sleep 60"))
        await controller.offer(node)
        await controller.until(lambda: bool(controller.lines))
        controller.deaf = True
        await gone(config.worker_name)
        controller.deaf = False
        await controller.until(lambda: not controller.beats[-1].attempts)
    assert controller.finishes == []


async def gone(worker: str) -> None:
    """Return once the worker has no container any more."""
    async with asyncio.timeout(20):
        while await asyncio.to_thread(containers_of, worker):  # noqa: ASYNC110 - another process's doing
            await asyncio.sleep(0.1)


async def test_a_thawed_worker_drops_what_it_held(controller: FakeController, config: WorkerConfig) -> None:
    controller.welcome = controller.welcome.model_copy(update={"fence_s": 1.0})
    process = start_worker(config)
    try:
        node = an_assignment(*shell("echo up; sleep 60"))
        await controller.offer(node)
        await controller.until(lambda: bool(controller.lines))
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(1.5)
        process.send_signal(signal.SIGCONT)
        await gone(config.worker_name)
        assert controller.finishes == []
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()


async def test_a_container_removed_by_somebody_else_is_the_infrastructure_s(
    controller: FakeController, config: WorkerConfig
) -> None:
    async with serving(config):
        node = an_assignment(*shell("echo up; sleep 60"))
        await controller.offer(node)
        await controller.until(lambda: bool(controller.lines))
        engine = await Engine.connect()
        for container in containers_of(config.worker_name):
            await engine.remove(container)
        await engine.close()
        assert (await controller.finish_of(node)).reason is Reason.INFRA


async def test_a_controller_that_is_away_for_a_moment_costs_nothing(
    controller: FakeController, config: WorkerConfig
) -> None:
    async with serving(config):
        node = an_assignment(*shell("echo up; sleep 0.3; echo x > /pup/out/out"), outputs=[an_output()])
        await controller.offer(node)
        await controller.until(lambda: bool(controller.lines))
        controller.faults = {verb: deque([503, 500]) for verb in ("sign", "finish", "beat")}
        assert (await controller.finish_of(node)).outcome is Outcome.SUCCEEDED


async def test_two_workers_never_share_a_directory(controller: FakeController, config: WorkerConfig) -> None:
    async with serving(config):
        with pytest.raises(InvalidConfig, match="another worker uses"):
            async with serving(config):
                pass


def test_the_worker_does_not_load_what_only_the_controller_needs() -> None:
    code = "import sys, pupload.worker.app; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"networkx", "asyncpg", "boto3", "pgqueuer", "minio"} & set(loaded)


async def test_a_directory_that_no_attempt_has_is_removed(controller: FakeController, config: WorkerConfig) -> None:
    stray = config.work_dir / "pup-00000000-old-1"
    _unreadable(stray)
    async with serving(config):
        await controller.until(lambda: bool(controller.hellos))
        assert not stray.exists()


def _unreadable(folder: Path) -> None:
    (folder / "out" / "deep").mkdir(parents=True)
    (folder / "out" / "deep" / "file").write_text("x")
    (folder / "out" / "deep").chmod(0o000)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a worker as somebody else")
async def test_a_worker_that_is_not_root_runs_containers_as_itself(
    controller: FakeController, config: WorkerConfig, tmp_path: Path
) -> None:
    open_to(54321, tmp_path)
    process = start_worker(config, user=54321)
    try:
        node = an_assignment(
            *shell("id -u; cp ${a} ${b}"), inputs=[controller.input("a", b"words")], outputs=[an_output("b")]
        )
        await controller.offer(node)
        finish = await controller.finish_of(node)
        assert finish.outcome is Outcome.SUCCEEDED, finish
        assert controller.text(finish) == ["54321"]
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0
    finally:
        process.kill()


def open_to(user: int, folder: Path) -> None:
    """Let `user` write `folder` and pass through all above it."""
    os.chown(folder, user, user)
    for above in folder.parents:
        if above.stat().st_mode & 0o001 == 0:
            above.chmod(above.stat().st_mode | 0o011)
