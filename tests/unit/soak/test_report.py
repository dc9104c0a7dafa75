"""What is told of a soak."""

from dataclasses import replace

import pytest

from tests.support.processes import Footprint
from tests.support.soak.report import Ended, Outcome, markdown, parted
from tests.support.soak.schedule import Strike, Struck

pytestmark = pytest.mark.unit

STRIKE = Struck(Strike(6.3, "worker killed", "w1", 4.0), began=110.0, ended=114.0)
OUTCOME = Outcome(
    title="Soak of 10 minutes, seed 1",
    about={"seed": "1"},
    struck=[STRIKE],
    runs=[Ended("COMPLETE", "", 100, 102), Ended("COMPLETE", "", 112, 132), Ended("ERROR", "NODE_EXIT", 113, 114)],
    attempts={("succeeded", ""): 5, ("failed", "exit"): 2, ("failed", "infra"): 1, ("lost", "lost"): 1},
    sorts={"chain": 3},
    asked_again={"503": 4},
    footprints={"c1": (Footprint(20, 5, 102_400), Footprint(21, 6, 104_448))},
)


@pytest.mark.parametrize(
    "row",
    [
        "None.",
        "| worker killed | 1 |",
        "- 6.3 s: worker killed, w1, mended after 4.0 s",
        "| COMPLETE | 2 |",
        "| ERROR NODE_EXIT | 1 |",
        "| without a fault | 1 | 2.0 s | 2.0 s |",
        "| with faults | 1 | 20.0 s | 20.0 s |",
        "| failed infra | 1 |",
        "| the user | 2 |",
        "| the infrastructure | 2 |",
        "| 503 | 4 |",
        "| c1 | 100 → 102 MB | 20 → 21 | 5 → 6 |",
    ],
)
def test_a_report_has(row: str) -> None:
    assert row in markdown(OUTCOME).splitlines()


def test_a_violation_is_told_instead_of_none() -> None:
    told = markdown(replace(OUTCOME, violations=["I1: run run_1 has vanished"]))
    assert "- I1: run run_1 has vanished" in told
    assert "None." not in told


def test_a_run_is_with_faults_when_one_met_it() -> None:
    before, over, after = (Ended("COMPLETE", "", began, began + 10) for began in (99, 105, 115))
    assert parted([before, over, after], [STRIKE]) == ([10, 10], [10])
    assert parted([over], []) == ([10], [])
