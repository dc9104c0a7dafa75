"""Flows and systems for the tests of the command line."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.docker_images import ensure_busybox
from tests.support.system import System

Pup = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def busybox() -> str:
    return ensure_busybox()


@contextmanager
def a_place() -> Iterator[Path]:
    """A folder for a system. The database's own user must reach it, and pytest's folder is the tester's alone."""
    with tempfile.TemporaryDirectory(prefix="pup-cli-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def place() -> Iterator[Path]:
    with a_place() as folder:
        yield folder


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A file to upload."""
    path = tmp_path / "given.txt"
    path.write_text("hello\n")
    return path


def begun(system: System, flow: Path, given: Path, *more: str) -> "subprocess.Popen[str]":
    """`pup test`, its node running."""
    run = subprocess.Popen(
        [
            *(sys.executable, "-m", "pupload.cli.main", "test", flow),
            *("-i", f"before={given}", "--remote", system.url, *more),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    for line in run.stdout:
        if "started on" in line:
            break
    return run


@pytest.fixture
def pup() -> Pup:
    """Runs `pup` with arguments and gives what came of it."""

    def run(*arguments: str | Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pupload.cli.main", *arguments],
            check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=90, env=env,
        )  # fmt: skip

    return run


@pytest.fixture
def shell_flow(tmp_path: Path, busybox: str) -> Callable[[str], Path]:
    """The file of a flow whose one node runs a shell script between the edges `before` and `after`."""

    def write(script: str) -> Path:
        command = {"Name": "run", "Exec": f"sh -c {json.dumps(script)} sh ${{given}} ${{made}}"}
        port = {"Required": True, "Type": ["*/*"]}
        body = {
            "Flow": {
                "Name": "shell",
                "Nodes": [
                    {
                        "ID": "only",
                        "Uses": "test/shell",
                        "Inputs": [{"Name": "given", "Edge": "before"}],
                        "Outputs": [{"Name": "made", "Edge": "after"}],
                    }
                ],
            },
            "NodeDefs": [
                {
                    "Publisher": "test",
                    "Name": "shell",
                    "Image": busybox,
                    "Inputs": [{"Name": "given", **port}],
                    "Outputs": [{"Name": "made", **port}],
                    "Command": command,
                    "Tier": "c-nano",
                    "MaxAttempts": 1,
                }
            ],
        }
        path = tmp_path / "flow.json"
        path.write_text(json.dumps(body))
        return path

    return write
