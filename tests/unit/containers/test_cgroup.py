"""Processes that outlive their container are found under either cgroup version, and only those."""

import subprocess
from pathlib import Path

import pytest

from pupload.containers.cgroup import kill_survivors, survivors

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
