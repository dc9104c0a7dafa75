"""Parts that are told to end while they only start: nothing of them stays, and what they have begun is ended."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.system import System

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


def the_database_begins(data: Path) -> bool:
    return (data / "postgres").exists()


def the_store_runs(data: Path) -> bool:
    return (data / "store" / "server.json").exists()


def the_worker_begins(data: Path) -> bool:
    """It is about to prove its directory."""
    return (data / "work" / ".lock").exists()


def await_moment(system: System, moment: Callable[[Path], bool]) -> None:
    assert system.process is not None
    deadline = time.monotonic() + 60
    while not moment(system.data):
        assert system.process.poll() is None, system.log
        assert time.monotonic() < deadline, system.log
        time.sleep(0.002)


@pytest.mark.parametrize(("moment", "times"), [(the_database_begins, 1), (the_store_runs, 2), (the_worker_begins, 1)])
def test_everything_that_is_told_to_end_while_it_starts_leaves_nothing(
    place: Path, moment: Callable[[Path], bool], times: int
) -> None:
    system = System(place / "data")
    system.launch()
    assert system.process is not None
    try:
        await_moment(system, moment)
        for _ in range(times - 1):
            system.process.send_signal(signal.SIGTERM)
        assert system.stop() == 0, system.log
        assert system.processes() == []
        assert system.leftovers() == []
    finally:
        system.kill()


def test_a_controller_that_is_told_to_end_while_it_starts_leaves_nothing(place: Path) -> None:
    environment = {**os.environ, "PUPLOAD_DATA_DIR": str(place / "data"), "PUPLOAD_PORT": "0"}
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "pupload.cli.main", "controller"], env=environment, stdout=log, stderr=log
        )
    system = System(place / "data", process=process)
    try:
        await_moment(system, the_store_runs)
        assert system.stop() == 0, (place / "log").read_text()
        assert system.processes() == []
    finally:
        system.kill()
