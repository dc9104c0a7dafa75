"""What the kernel knows of a container's processes is found under either cgroup version."""

import asyncio
import subprocess
from pathlib import Path

import pytest

from pupload.containers.cgroup import Departures, kill_survivors, survivors

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("place", ["docker/abc", "system.slice/docker-abc.scope", "pids/docker/abc"])
def test_processes_of_the_container_are_found(tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "cgroup.procs").write_text("17\n42\n")
    assert survivors("abc", tmp_path) == [17, 42]
    assert survivors("abd", tmp_path) == []


def test_a_process_of_another_namespace_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "docker/abc").mkdir(parents=True)
    (tmp_path / "docker/abc/cgroup.procs").write_text("0\n1\n")
    assert kill_survivors("abc", tmp_path) == 0


def test_what_survives_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as left:
        (tmp_path / "docker/abc").mkdir(parents=True)
        (tmp_path / "docker/abc/cgroup.procs").write_text(f"{left.pid}\n")
        assert kill_survivors("abc", tmp_path) == 1
        assert left.wait(10) == -9


def hold(root: Path, container: str, processes: str) -> None:
    place = root / "docker" / container
    place.mkdir(parents=True, exist_ok=True)
    (place / "cgroup.procs").write_text(processes)


async def departed(departures: Departures, container: str, runtime: str = "") -> bool:
    """True when it is told at once that nothing runs there."""
    told = asyncio.create_task(departures.until_empty(container, runtime))
    await asyncio.wait({told}, timeout=0.05)
    told.cancel()
    return told.done()


async def test_a_container_is_empty_when_its_last_process_is_gone(tmp_path: Path) -> None:
    departures = Departures(tmp_path)
    hold(tmp_path, "abc", "0\n")
    told = asyncio.create_task(departures.until_empty("abc", ""))
    await asyncio.wait({told}, timeout=0.05)
    assert not told.done()
    hold(tmp_path, "abc", "")
    async with asyncio.timeout(10):
        await told


async def test_the_end_of_its_first_process_is_waited_for_and_all_others_are_looked_for(tmp_path: Path) -> None:
    first = await asyncio.create_subprocess_exec("sleep", "60")
    hold(tmp_path, "abc", f"{first.pid + 1}\n{first.pid}\n")
    told = asyncio.create_task(Departures(tmp_path).until_empty("abc", ""))
    await asyncio.wait({told}, timeout=0.05)
    hold(tmp_path, "abc", "")
    await asyncio.wait({told}, timeout=0.1)
    assert not told.done()
    hold(tmp_path, "abc", "0\n")
    first.kill()
    await first.wait()
    await asyncio.wait({told}, timeout=0.1)
    assert not told.done()
    hold(tmp_path, "abc", "")
    async with asyncio.timeout(10):
        await told


async def test_a_runtime_whose_processes_were_never_seen_is_not_believed(tmp_path: Path) -> None:
    departures = Departures(tmp_path)
    hold(tmp_path, "abc", "")
    assert not await departed(departures, "abc")
    hold(tmp_path, "abd", "0\n")
    assert not await departed(departures, "abd", "runc")
    assert await departed(departures, "abc", "runc")
    assert not await departed(departures, "abc", "kata")


async def test_a_cgroup_that_is_gone_has_no_process(tmp_path: Path) -> None:
    departures = Departures(tmp_path)
    hold(tmp_path, "abc", "0\n")
    assert not await departed(departures, "abc")
    assert await departed(departures, "removed")
