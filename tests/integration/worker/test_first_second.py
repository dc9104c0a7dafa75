"""A worker that is told to end while it only starts leaves nothing behind, not even until its next start."""

import signal

import pytest

from pupload.config import WorkerConfig
from tests.integration.worker.conftest import containers_of
from tests.integration.worker.test_recovery import ended, start_worker
from tests.support.fake_controller import FakeController
from tests.support.until import until

pytestmark = pytest.mark.integration


async def test_a_worker_that_is_told_to_end_while_it_starts_leaves_nothing(
    controller: FakeController, config: WorkerConfig
) -> None:
    """It is about to prove its directory, by a folder in it and a container that mounts that."""
    process = start_worker(config.model_copy(update={"files": "auto"}))
    try:
        await until((config.work_dir / ".lock").exists)
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0
        assert list(config.work_dir.glob("probe-*")) == []
        assert containers_of(config.worker_name) == []
        assert controller.claims == []
    finally:
        process.kill()
