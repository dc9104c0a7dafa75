"""The look after each test finds what the test has left, and not what a neighbour has in use."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker
import psutil  # type: ignore[import-untyped]
import pytest

from tests.support.claims import claim, own
from tests.support.docker_images import ensure_busybox
from tests.support.leaks import left_over, no_process_left, traces

pytestmark = pytest.mark.integration

OURS, THEIRS = f"leak-{os.getpid()}", f"neighbour-{os.getpid()}"


@pytest.fixture
def neighbour() -> Iterator[str]:
    """A name that another test process has claimed."""
    with tempfile.TemporaryDirectory(prefix="pup-tests-", dir=own().parent) as folder:
        (Path(folder) / "claims").mkdir()
        (Path(folder) / "claims" / THEIRS).touch()
        yield THEIRS


def a_container(engine: docker.APIClient, worker: str) -> str:
    made = engine.create_container(
        ensure_busybox(), "true", name=f"pup-{worker}", labels={"pupload.worker": worker}, volumes=["/kept"]
    )
    return str(made["Id"])


def test_a_container_and_its_volume_are_found(plain_engine: docker.APIClient, tmp_path: Path) -> None:
    before = traces(plain_engine, tmp_path)
    container = a_container(plain_engine, claim(OURS))
    try:
        found = left_over(plain_engine, tmp_path, before)
    finally:
        plain_engine.remove_container(container, v=True)
    assert [each.split()[0] for each in found] == ["container", "volume"]


def test_what_a_neighbour_has_in_use_is_not(plain_engine: docker.APIClient, tmp_path: Path, neighbour: str) -> None:
    before = traces(plain_engine, tmp_path)
    container = a_container(plain_engine, neighbour)
    try:
        assert traces(plain_engine, tmp_path) == before
    finally:
        plain_engine.remove_container(container, v=True)


@pytest.mark.parametrize("worker", [OURS, THEIRS], ids=["ours", "theirs"])
def test_a_network_is_found_where_it_is_ours(
    plain_engine: docker.APIClient, tmp_path: Path, neighbour: str, worker: str
) -> None:
    before = traces(plain_engine, tmp_path)
    network = plain_engine.create_network(f"pup-{worker}", labels={"pupload.worker": worker}, internal=True)["Id"]
    claim(OURS)
    try:
        new = [trace.name for trace in traces(plain_engine, tmp_path) - before]
    finally:
        plain_engine.remove_network(network)
    assert new == ([f"pup-{OURS}"] if worker == OURS else [])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_mount_is_found(plain_engine: docker.APIClient, tmp_path: Path) -> None:
    before = traces(plain_engine, tmp_path)
    subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path], check=True)
    try:
        assert left_over(plain_engine, tmp_path, before) == [f"mount {tmp_path}"]
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_folder_is_found() -> None:
    left = None
    with pytest.raises(AssertionError, match="temporary folders left behind"), no_process_left():
        left = Path(tempfile.mkdtemp(prefix="pup-left-"))
    assert left is not None
    left.rmdir()


def test_a_process_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.leaks._SETTLE_S", 0.1)
    left: list[psutil.Popen] = []
    try:
        with pytest.raises(AssertionError, match="processes left behind"), no_process_left():
            left.append(psutil.Popen(["sleep", "60"]))
    finally:
        for process in left:
            process.kill()
            process.wait()
