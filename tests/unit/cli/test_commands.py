"""Exit codes and messages of commands that need no server."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.cli.conftest import node

Pup = Callable[..., tuple[int, str]]
Flows = Callable[..., Path]


def test_a_good_flow_is_valid(pup: Pup, flow_file: Flows) -> None:
    code, said = pup("validate", flow_file(node("a", ["x"], ["z"])))
    assert (code, "0 errors" in said) == (0, True)


def test_every_finding_of_a_bad_flow_is_listed(pup: Pup, flow_file: Flows) -> None:
    path = flow_file(node("a", ["p"], ["q"]), node("b", ["q"], ["p"]), {"ID": "c", "Uses": "no/def"})
    code, said = pup("validate", path)
    assert code == 1
    assert "FLOW_001" in said
    assert "NODE_001" in said


def test_findings_come_as_json(pup: Pup, flow_file: Flows) -> None:
    code, said = pup("validate", flow_file(), "--json")
    assert (code, json.loads(said)["Findings"][0]["Code"]) == (1, "FLOW_002")


def test_a_file_that_is_no_flow_is_a_usage_error(pup: Pup, tmp_path: Path) -> None:
    path = tmp_path / "flow.json"
    path.write_text("{")
    assert pup("validate", path)[0] == 2
    assert pup("validate", tmp_path / "none.json")[0] == 2


def test_unknown_members_are_all_named(pup: Pup, tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text("Flow: {Name: f, Nods: []}\nNodeDefs: [{Imag: x}]\n")
    code, said = pup("validate", path)
    assert code == 2
    assert "Nods" in said
    assert "Imag" in said


def test_a_server_that_is_not_there_is_its_own_exit_code(pup: Pup, flow_file: Flows, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("1")
    path = flow_file(node("a", ["x"], ["z"]))
    code, said = pup("test", path, "-i", f"x={tmp_path}/x", "--remote", "http://127.0.0.1:1")
    assert code == 4
    assert "pup dev" in said


def test_missing_inputs_are_a_usage_error(pup: Pup, flow_file: Flows) -> None:
    code, said = pup("test", flow_file(node("a", ["x"], ["z"])))
    assert (code, "-i x=FILE" in said) == (2, True)


def test_every_problem_of_the_configuration_is_listed(pup: Pup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUPLOAD_PORT", "nonsense")
    monkeypatch.setenv("PUPLOAD_BEAT_S", "-1")
    code, said = pup("controller")
    assert code == 2
    assert "port" in said
    assert "beat_s" in said


def test_a_worker_without_a_token_is_told_how_to_get_one(pup: Pup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PUPLOAD_WORKER_TOKEN", raising=False)
    code, said = pup("worker")
    assert (code, "worker_token" in said) == (2, True)


@pytest.mark.parametrize(
    "command", ["dev", "controller", "worker", "test", "validate", "runs", "run", "cancel", "logs"]
)
def test_every_command_has_help(pup: Pup, command: str) -> None:
    code, said = pup(command, "--help")
    assert (code, "Usage" in said) == (0, True)


def test_help_loads_none_of_the_heavy_parts() -> None:
    heavy = "aiohttp asyncpg boto3 docker networkx pgqueuer pydantic rich.live"
    script = f"import sys, pupload.cli.main; sys.exit(' '.join(m for m in '{heavy}'.split() if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert done.stderr.strip() == ""
