"""What an exit means."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pupload.containers.docker import Refused
from pupload.containers.logs import Log
from pupload.containers.state import ContainerState
from pupload.flow.plan import Reason
from pupload.worker.failure import NodeFailure
from pupload.worker.verdict import judge, start_failure
from tests.support.fake_controller import an_assignment

pytestmark = pytest.mark.unit


def an_exit(code: int, *, oom: bool = False) -> ContainerState:
    return ContainerState("c", "c", "exited", code, oom, "2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z", "", {})


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path, live_bytes=1000, whole_bytes=1000, wake=lambda: None)
    yield log
    log.close()


def failure_of(log: Log, state: ContainerState | None, killed: Reason | None = None) -> NodeFailure:
    with pytest.raises(NodeFailure) as caught:
        judge(an_assignment("true", timeout_s=5), state, log, killed)
    return caught.value


@pytest.mark.parametrize(
    ("code", "oom", "reason"),
    [
        (1, False, Reason.EXIT),
        (137, True, Reason.OOM),
        (137, False, Reason.INFRA),
        (143, False, Reason.INFRA),
        (1, True, Reason.OOM),
    ],
)
def test_code_and_memory_flag_together_give_the_reason(log: Log, code: int, oom: bool, reason: Reason) -> None:
    failure = failure_of(log, an_exit(code, oom=oom))
    assert (failure.reason, failure.exit_code, failure.final) == (reason, code, False)


def test_255_is_the_program_s_own_unless_the_engine_may_have_missed_how_it_ended(log: Log) -> None:
    failures = [failure_of(log, replace(an_exit(255), interrupted=interrupted)) for interrupted in (False, True)]
    assert [each.reason for each in failures] == [Reason.EXIT, Reason.INFRA]
    assert failure_of(log, replace(an_exit(1), interrupted=True)).reason is Reason.EXIT


def test_a_timeout_is_a_timeout_even_when_the_program_then_ends_with_0(log: Log) -> None:
    assert failure_of(log, an_exit(0), Reason.TIMEOUT).reason is Reason.TIMEOUT


def test_a_container_that_is_gone_is_the_infrastructure_s(log: Log) -> None:
    assert failure_of(log, None).reason is Reason.INFRA


def test_success_with_a_child_killed_for_memory_says_so(log: Log) -> None:
    judge(an_assignment("true"), an_exit(0, oom=True), log, None)
    assert "killed for memory" in log.take(1, 1 << 20)[0][0].text


def test_127_of_the_program_itself_is_an_ordinary_exit(log: Log) -> None:
    log.feed("stderr", b"sh: tool: not found\n")
    failure = failure_of(log, an_exit(127))
    assert (failure.final, failure.message) == (False, "exited with 127: sh: tool: not found")


@pytest.mark.parametrize(
    ("said", "reason", "final"),
    [
        ('OCI runtime create failed: runc: exec: "nope": executable file not found in $PATH', Reason.EXIT, True),
        ("exec /bin/x: permission denied", Reason.EXIT, True),
        ("no space left on device", Reason.INFRA, False),
    ],
)
def test_a_start_that_fails_for_its_command_is_final(said: str, reason: Reason, final: bool) -> None:
    failure = start_failure(an_assignment("nope"), Refused(400, said))
    assert (failure.reason, failure.final) == (reason, final)
    assert said in failure.message
