"""`pup dev` as its user meets it: start, stop, crash, start again."""

import json
import os
import signal
import socket
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.cli.conftest import Pup, begun
from tests.support.system import System, a_system
from tests.support.until import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


def the_worker(system: System) -> int | None:
    """The pid of its worker, as long as that lives."""
    for pid in system.processes():
        if b"\0worker\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    return None


async def a_worker_but(system: System, former: int | None) -> int:
    """The pid of a worker that is not `former`. While it becomes its program it shows no arguments for a moment."""
    seen = list[int]()

    def look() -> bool:
        pid = the_worker(system)
        if pid not in {None, former}:
            seen.append(pid)
        return bool(seen)

    await until(look)
    return seen[0]


def live_workers(system: System) -> int:
    with urllib.request.urlopen(f"{system.url}/api/v1/workers", timeout=10) as answer:
        return sum(worker["Live"] for worker in json.load(answer)["Workers"])


def the_run(system: System) -> str:
    """The id of its newest run."""
    with urllib.request.urlopen(f"{system.url}/api/v1/runs?limit=1", timeout=10) as answer:
        return str(json.load(answer)["Runs"][0]["ID"])


def test_everything_ends_with_ctrl_c(place: Path) -> None:
    with a_system(place / "data") as system:
        assert system.stop(signal.SIGINT) == 0
        assert system.processes() == []


def test_after_kill_9_of_all_of_it_the_next_start_takes_over(place: Path) -> None:
    with a_system(place / "data") as system:
        system.kill()
        system.start()


def test_children_die_with_their_parent_and_the_database_is_taken_over_and_stopped(place: Path) -> None:
    with a_system(place / "data") as system:
        assert system.process is not None
        os.kill(system.process.pid, signal.SIGKILL)
        system.process.wait()
        system.start()


async def test_a_worker_that_dies_is_started_again(place: Path) -> None:
    with a_system(place / "data") as system:
        await until(lambda: live_workers(system) == 1)
        first = await a_worker_but(system, None)
        os.kill(first, signal.SIGKILL)
        await a_worker_but(system, first)


async def test_the_worker_says_hello(place: Path) -> None:
    with a_system(place / "data") as system:
        await until(lambda: live_workers(system) == 1)


def test_a_second_one_over_the_same_folder_says_who_has_it(place: Path, pup: Pup) -> None:
    with a_system(place / "data") as system:
        assert system.process is not None
        second = pup("dev", "--port", "0", "--data", system.data)
        assert second.returncode == 1
        assert f"in use by process {system.process.pid}" in second.stderr


def test_a_taken_port_is_named(place: Path, pup: Pup) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = pup("dev", "--port", port, "--data", place / "data")
    assert done.returncode == 1
    assert f"port {port} is taken" in done.stderr
    assert "--port" in done.stderr


def test_without_an_engine_it_says_so_and_goes_on(place: Path) -> None:
    nowhere = {"DOCKER_HOST": f"unix://{place}/none.sock"}
    with a_system(place / "data", nowhere) as system:
        assert "none answers: start Docker" in system.log


def test_a_worker_token_of_the_embedded_database_can_be_added_and_revoked(place: Path, pup: Pup) -> None:
    with a_system(place / "data") as system:
        added = pup("worker-token", "add", "second", "--data", system.data)
        assert (added.returncode, len(added.stdout.strip()) > 40) == (0, True), added.stderr
        assert pup("worker-token", "revoke", "second", "--data", system.data).returncode == 0
        again = pup("worker-token", "revoke", "second", "--data", system.data)
        assert again.returncode == 2
        assert "no worker named 'second'" in again.stderr


def test_a_run_outlives_a_crash_of_everything(
    place: Path, shell_flow: Callable[[str], Path], given: Path, tmp_path: Path
) -> None:
    flow = shell_flow('sleep 2; cp "$1" "$2"')
    with a_system(place / "data") as system:
        run = begun(system, flow, given, "-o", f"after={tmp_path}/made.txt")
        system.kill()
        system.start()
        rest, _ = run.communicate(timeout=120)
        assert run.returncode == 0, rest
        assert (tmp_path / "made.txt").read_text() == "hello\n"


def test_a_second_ctrl_c_waits_for_no_node(
    place: Path, pup: Pup, shell_flow: Callable[[str], Path], given: Path
) -> None:
    flow = shell_flow("trap '' TERM; sleep 120")
    with a_system(place / "data") as system:
        run = begun(system, flow, given)
        assert system.process is not None
        system.process.send_signal(signal.SIGINT)
        while "stopping" not in system.log:
            time.sleep(0.01)
        assert system.stop(signal.SIGINT) == 0
        run.kill()
        run.communicate()
        assert system.processes() == []
        system.start()
        assert pup("cancel", the_run(system), "--remote", system.url).returncode == 0
        assert system.leftovers() == []
