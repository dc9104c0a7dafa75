"""A controller that dies, freezes, hangs or meets a fault at any of its places: the run comes to its right end."""

import pytest

from tests.acceptance.failpoints.conftest import Outcome
from tests.support.trials import (
    Trial,
    asking,
    bereft,
    cancelled,
    given,
    hooked,
    in_parts,
    nested,
    removed,
    swept,
    unfamiliar,
    uploaded,
)

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]

SCENARIOS = {
    "submission.taken": given,
    "submission.before_commit": given,
    "submission.committed": given,
    "upload.found": uploaded,
    "multipart.joined": in_parts,
    "claim.before_commit": given,
    "claim.committed": given,
    "claim.answering": given,
    "session.seated": given,
    "session.kept": given,
    "sign.lent": given,
    "image.pinned": unfamiliar,
    "beat.extended": given,
    "log.recorded": given,
    "finish.weighed": given,
    "finish.before_commit": given,
    "finish.committed": given,
    "cancel.committed": cancelled,
    "resume.before_commit": asking,
    "resume.committed": asking,
    "reconcile.look": given,
    "reconcile.lost": bereft,
    "reconcile.swept": swept,
    "chore.taken": nested,
    "chore.done": nested,
    "webhook.claimed": hooked,
    "webhook.posted": hooked,
    "removal.condemned": removed,
    "removal.objects_gone": removed,
}
TIMED_OUT = {"upload.found"}


def a_trial(point: str, action: str) -> Trial:
    hangs = action == "hang"
    scenario = SCENARIOS[point]
    ends = "STOPPED" if scenario is cancelled else "COMPLETE"
    if hangs and point in TIMED_OUT:
        return Trial(point, action, scenario, "ERROR", "RUN_TIMEOUT", part="one")
    return Trial(point, action, scenario, ends, part="one")


TRIALS = [a_trial(point, action) for action in ("hang", "stop", "raise", "kill") for point in SCENARIOS]


@pytest.mark.parametrize("trial", TRIALS, ids=str)
def test_a_run_outlives_what_befalls_its_controller(trial: Trial, outcome: Outcome) -> None:
    assert outcome(trial) == []
