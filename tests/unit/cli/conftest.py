"""A flow's file, and `pup` in this process."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pupload.cli.main import app

DEF = {"Publisher": "test", "Name": "copy", "Image": "test/copy:1", "Tier": "c-nano"}


def node(name: str, reads: list[str], writes: list[str]) -> dict[str, Any]:
    return {
        "ID": name,
        "Uses": "test/copy",
        "Inputs": [{"Name": f"in{place}", "Edge": edge} for place, edge in enumerate(reads)],
        "Outputs": [{"Name": f"out{place}", "Edge": edge} for place, edge in enumerate(writes)],
    }


@pytest.fixture
def flow_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes the file of a flow of these nodes."""

    def write(*nodes: dict[str, Any], **members: Any) -> Path:
        path = tmp_path / "flow.json"
        path.write_text(json.dumps({"Flow": {"Name": "f", "Nodes": list(nodes), **members}, "NodeDefs": [DEF]}))
        return path

    return write


@pytest.fixture
def pup() -> Callable[..., tuple[int, str]]:
    """Runs `pup`; gives its exit code and all that it printed."""

    def run(*arguments: object) -> tuple[int, str]:
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.output

    return run
