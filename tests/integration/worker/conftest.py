"""A real worker on the real engine against a fake controller, and a look afterwards at what it has left."""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from pupload.config import WorkerConfig
from pupload.worker.app import open_worker
from pupload.worker.serving import Worker
from tests.support.claims import claim
from tests.support.docker_images import ensure_busybox
from tests.support.fake_controller import FakeController
from tests.support.leaks import tasks_of_ours


@pytest.fixture(scope="session", autouse=True)
def busybox() -> str:
    return ensure_busybox()


@pytest.fixture
async def controller() -> AsyncIterator[FakeController]:
    async with FakeController() as fake:
        yield fake


def containers_of(worker: str) -> list[str]:
    """Ids of every container, in any state, that carries the label of this worker."""
    asked = ["docker", "ps", "-aq", "--filter", f"label=pupload.worker={worker}"]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split()


@pytest.fixture
async def config(controller: FakeController, tmp_path: Path) -> AsyncIterator[WorkerConfig]:
    """A worker's settings; after the test nothing of that worker may be left."""
    name = claim(f"test-{os.getpid()}-{tmp_path.name[-40:]}")
    yield WorkerConfig(
        controller_url=controller.url,
        worker_token=SecretStr("token"),
        worker_name=name,
        work_dir=tmp_path / "work",
        cpu=2,
        memory="4gb",
        disk="4gb",
        grace_s=0.5,
        files="mount",
    )
    assert containers_of(name) == []
    assert [path.name for path in (tmp_path / "work").iterdir() if path.is_dir()] == []
    assert tasks_of_ours() == []


@contextlib.asynccontextmanager
async def serving(config: WorkerConfig) -> AsyncIterator[Worker]:
    """A worker at work; drained at the end, at once."""
    async with open_worker(config) as worker:
        serve = asyncio.create_task(worker.serve())
        try:
            yield worker
        finally:
            worker.drain()
            worker.drain()
            await serve


@pytest.fixture
async def worker(config: WorkerConfig) -> AsyncIterator[Worker]:
    async with serving(config) as at_work:
        yield at_work
