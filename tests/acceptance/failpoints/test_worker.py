"""A worker that dies, freezes, hangs or meets a fault at any of its places: the run comes to its right end."""

import pytest

from tests.acceptance.failpoints.conftest import Outcome
from tests.support.trials import Trial, cancelled, drained, given, greeted

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]

SCENARIOS = {
    "worker.greeted": greeted,
    "claim.heard": given,
    "attempt.placed": given,
    "input.arrived": given,
    "image.present": given,
    "container.creating": given,
    "container.made": given,
    "container.created": given,
    "container.starting": given,
    "container.started": given,
    "attempt.exited": given,
    "outputs.checked": given,
    "output.stored": given,
    "attempt.killing": cancelled,
    "finish.sending": given,
    "finish.heard": given,
    "cleanup.begun": given,
    "cleanup.container_gone": given,
    "beat.sending": given,
    "worker.draining": drained,
}
OPERATED = {"worker.greeted"}
TIMED_OUT = {
    "attempt.placed",
    "image.present",
    "container.creating",
    "container.made",
    "container.created",
    "container.starting",
    "container.started",
    "attempt.exited",
    "outputs.checked",
    "finish.sending",
}


def a_trial(point: str, action: str) -> Trial:
    hangs = action == "hang"
    scenario = SCENARIOS[point]
    ends = "STOPPED" if scenario is cancelled else "COMPLETE"
    if hangs and point in TIMED_OUT:
        return Trial(point, action, scenario, "ERROR", "RUN_TIMEOUT")
    return Trial(point, action, scenario, ends, operator=hangs and point in OPERATED)


TRIALS = [a_trial(point, action) for action in ("hang", "stop", "raise", "kill") for point in SCENARIOS]


@pytest.mark.parametrize("trial", TRIALS, ids=str)
def test_a_run_outlives_what_befalls_its_worker(trial: Trial, outcome: Outcome) -> None:
    assert outcome(trial) == []
