"""`pup test` on a real system: what it says, saves and ends with."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.cli.conftest import Pup, a_place, begun
from tests.support.system import System, a_system

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

Flows = Callable[[str], Path]


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with a_place() as place, a_system(place / "data") as running:
        yield running
        assert running.leftovers() == []


def test_files_in_files_out(system: System, pup: Pup, shell_flow: Flows, given: Path, tmp_path: Path) -> None:
    flow = shell_flow('echo working; cp "$1" "$2"')
    done = pup("test", flow, "-i", f"before={given}", "--output-dir", tmp_path / "out", "--remote", system.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "only | working" in done.stdout
    assert (tmp_path / "out/after.txt").read_text() == "hello\n"


def test_a_failing_node_is_named_with_its_reason(system: System, pup: Pup, shell_flow: Flows, given: Path) -> None:
    done = pup("test", shell_flow("echo sorry >&2; exit 3"), "-i", f"before={given}", "--remote", system.url)
    assert done.returncode == 1
    last = done.stdout.splitlines()[-1]
    assert "node only:" in last
    assert "NODE_EXIT" in last


def test_a_timeout_ends_the_run(system: System, pup: Pup, shell_flow: Flows, given: Path) -> None:
    flow = shell_flow("sleep 60")
    done = pup("test", flow, "-i", f"before={given}", "--timeout", "1s", "--remote", system.url, "--json")
    assert done.returncode == 1
    assert (json.loads(done.stdout)["Status"], json.loads(done.stdout)["StatusReason"]) == ("ERROR", "timeout")


def test_ctrl_c_cancels_the_run(system: System, shell_flow: Flows, given: Path) -> None:
    run = begun(system, shell_flow("sleep 60"), given)
    run.send_signal(signal.SIGINT)
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 3, said
    assert "cancelling the run" in said
    assert "STOPPED" in said
    assert system.leftovers() == []


def test_a_second_ctrl_c_leaves_at_once(system: System, shell_flow: Flows, given: Path) -> None:
    run = begun(system, shell_flow("trap '' TERM; sleep 60"), given)
    run.send_signal(signal.SIGINT)
    assert run.stdout is not None
    for line in run.stdout:
        if "cancelling" in line:
            break
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=60)
    assert run.returncode == 3
    assert system.leftovers() == []


def test_a_flow_that_the_server_refuses_lists_its_findings(
    system: System, pup: Pup, shell_flow: Flows, given: Path
) -> None:
    flow = shell_flow("true")
    flow.write_text(flow.read_text().replace('"c-nano"', '"c-none"'))
    done = pup("test", flow, "-i", f"before={given}", "--remote", system.url)
    assert done.returncode == 2
    assert "NODE_004" in done.stderr


def test_runs_are_listed_shown_and_their_logs_read(system: System, pup: Pup, shell_flow: Flows, given: Path) -> None:
    flow = shell_flow('echo one; echo two; cp "$1" "$2"')
    done = pup("test", flow, "-i", f"before={given}", "--remote", system.url, "--json")
    run = json.loads(done.stdout)["ID"]
    assert run in pup("runs", "--remote", system.url, "--limit", "1").stdout
    assert json.loads(pup("run", run, "--remote", system.url).stdout)["Artifacts"]["after"]["Size"] == 6
    assert pup("logs", run, "only", "--remote", system.url).stdout == "one\ntwo\n"
    assert pup("logs", run, "only", "-f", "--remote", system.url).stdout == "one\ntwo\n"
    assert pup("cancel", run, "--remote", system.url).returncode == 0
    assert "RUN_NOT_FOUND" not in pup("run", "run_none", "--remote", system.url).stdout
    assert pup("run", "run_none", "--remote", system.url).returncode == 1
