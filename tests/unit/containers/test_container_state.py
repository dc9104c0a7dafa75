"""What the engine says of a container, and when that means that it is over."""

import pytest

from pupload.containers.state import ContainerState

pytestmark = pytest.mark.unit

NEVER = "0001-01-01T00:00:00Z"
EARLIER = "2026-01-02T03:04:05.679264487Z"
LATER = "2026-01-02T03:04:05.680077144Z"


def a_state(status: str, started_at: str, finished_at: str) -> ContainerState:
    return ContainerState(
        id="c", name="c", status=status, exit_code=0, oom_killed=False, started_at=started_at,
        finished_at=finished_at, error="", labels={},
    )  # fmt: skip


def test_a_short_program_that_ended_before_its_start_was_noted_has_ended() -> None:
    assert a_state("exited", started_at=LATER, finished_at=EARLIER).ended


@pytest.mark.parametrize("status", ["created", "running", "exited"])
def test_what_has_no_end_has_not_ended(status: str) -> None:
    assert not a_state(status, started_at=EARLIER, finished_at=NEVER).ended


def test_what_was_never_started_has_not_ended() -> None:
    assert not a_state("exited", started_at=NEVER, finished_at=LATER).ended
