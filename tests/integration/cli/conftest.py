"""Flows and systems for the tests of the command line."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.support.docker_images import ensure_busybox

Pup = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def busybox() -> str:
    return ensure_busybox()


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
