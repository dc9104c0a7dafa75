"""Flows run from Python: waited for, left alone, failed, cancelled, too slow."""

import subprocess
import sys
from pathlib import Path

import pytest

from pupload.client import AsyncClient, CallTimeout, Client, RunFailed, UnknownThing
from tests.acceptance.sdk.conftest import published
from tests.support.shell_steps import a_request, a_source, a_step
from tests.support.system import System

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

SLEEPS = 'sleep 60; printf late > "$OUTPUT_OUT"'


def test_a_flow_is_called_by_name_and_its_outputs_are_there(client: Client, tmp_path: Path) -> None:
    flow = published(client, "sdk-sync", a_step())
    result = client.run(flow, {"in": "hello"}).raise_for_status()
    assert (result.status, result.values, result.run.flow_version) == ("COMPLETE", {"out": "hello"}, "1")
    assert result.outputs["out"].download(tmp_path / "out.txt").read_text() == "hello"
    assert client.run(flow, message="hi").values == {"out": "hi"}


def test_a_flow_that_is_not_kept_is_run_in_the_same_way(client: Client) -> None:
    result = client.run(a_request(a_step()), {"in": {"rows": [1, 2]}})
    assert result.values == {"out": {"rows": [1, 2]}}


def test_a_run_that_is_left_alone_is_polled_and_waited_for(client: Client) -> None:
    job = client.run_async(a_request(a_source("slow", 'sleep 1; printf late > "$OUTPUT_OUT"')))
    assert job.poll().id == job.id
    assert job.wait(90).values == {"out": "late"}
    assert client.job(job.id).result().status == "COMPLETE"
    assert job.id in {run.id for run in client.runs(status="complete").runs}


def test_a_failed_run_raises_only_when_asked_to(client: Client) -> None:
    result = client.run(a_request(a_source("bad", "exit 3", MaxAttempts=1)))
    assert result.status == "ERROR"
    with pytest.raises(RunFailed) as raised:
        result.raise_for_status()
    assert (raised.value.code, raised.value.node_id) == ("NODE_EXIT", "bad")
    assert raised.value.run.node_state["bad"].exit_code == 3


def test_who_waits_no_longer_knows_which_run_goes_on(client: Client) -> None:
    with pytest.raises(CallTimeout) as raised:
        client.run(a_request(a_source("slow", SLEEPS)), wait_s=0.5)
    job = client.job(raised.value.run_id)
    assert job.poll().status == "RUNNING"
    with pytest.raises(CallTimeout):
        job.wait(0.1)
    job.cancel()
    assert job.wait(90).status == "STOPPED"


def test_what_is_not_there_is_named(client: Client) -> None:
    with pytest.raises(UnknownThing) as raised:
        client.run("sdk-nobody")
    assert (raised.value.code, bool(raised.value.request_id)) == ("FLOW_NOT_FOUND", True)


async def test_the_same_with_an_event_loop(system: System) -> None:
    async with AsyncClient(system.url) as client:
        result = await client.run(a_request(a_step()), {"in": "hello"})
        assert result.values == {"out": "hello"}
        job = await client.run_async(a_request(a_step()), {"in": "again"})
        assert [event.type async for event in job.events()][-1] == "run_completed"
        assert (await job.wait()).values == {"out": "again"}


def test_a_kept_flow_is_called_from_a_terminal(client: Client, tmp_path: Path) -> None:
    flow = published(client, "sdk-terminal", a_step(script='echo a line; tr a-z A-Z < "$INPUT_IN" > "$OUTPUT_OUT"'))
    (tmp_path / "in.txt").write_text("hello")
    command = [sys.executable, "-m", "pupload.cli.main", "call", flow, "-i", "in=in.txt", "--remote", client.base_url]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False)
    assert (done.returncode, done.stdout) == (0, "HELLO\n")
    assert "copy | a line" in done.stderr
