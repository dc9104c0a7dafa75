"""Everything is killed at once in the middle of its work, and started again over the same folder.

The five deaths come one after the other to one system, so that each but the first also meets what the last one left.
"""

from collections.abc import Callable

import pytest

from tests.support.recorded import assert_recorded_once
from tests.support.shell_steps import Json, a_request, a_step
from tests.support.system import System
from tests.support.visitor import ENDED, Visitor, put_url, statuses, told

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

SLOW_COPY = 'sleep 1; cat "$INPUT_IN" > "$OUTPUT_OUT"'


def a_slow(node_id: str, reads: str, writes: str) -> tuple[Json, Json]:
    return a_step(node_id, SLOW_COPY, reads={"in": reads}, writes={"out": writes})


def a_slow_chain() -> Json:
    return a_request(*(a_slow(f"n{i}", f"e{i}", f"e{i + 1}") for i in range(3)), Name="chain")


def a_slow_diamond() -> Json:
    join = a_step("join", 'cat "$INPUT_A" "$INPUT_B" > "$OUTPUT_OUT"', reads={"a": "a", "b": "b"}, writes={"out": "e3"})
    return a_request(a_slow("left", "e0", "a"), a_slow("right", "e0", "b"), join, Name="diamond")


def a_slow_tree() -> Json:
    return a_request(
        a_slow("root", "e0", "mid"), a_slow("one", "mid", "e3"), a_slow("two", "mid", "other"), Name="tree"
    )


def anybody(runs: list[Json], status: str) -> bool:
    """True when a node of any run is there."""
    return any(status in statuses(run).values() for run in runs)


MOMENTS: dict[str, Callable[[list[Json]], bool]] = {
    "as soon as the runs are accepted": lambda runs: True,
    "when a node runs": lambda runs: anybody(runs, "RUNNING"),
    "when a node is complete": lambda runs: anybody(runs, "COMPLETE"),
    "when an upload has come": lambda runs: any(not run["WaitingURLs"] for run in runs),
    "when a run is complete": lambda runs: any(run["Status"] == "COMPLETE" for run in runs),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_runs_outlive_the_death_of_everything(mortal: System, moment: str) -> None:
    with Visitor(mortal.url) as visitor:
        requests = [a_slow_chain(), a_slow_diamond(), a_slow_tree(), a_slow_chain()]
        runs = [visitor.submit(request) for request in requests]
        for run in runs[:3]:
            visitor.upload(run, "e0", b"abc")
        ids = [run["ID"] for run in runs]
        visitor.eventually(lambda: MOMENTS[moment]([visitor.run(run_id) for run_id in ids]))
        mortal.kill()
        assert mortal.processes() == []
        mortal.start()
        visitor.url = mortal.url
        # The last run still waits for its input, at a URL of today.
        visitor.ask("PUT", put_url(visitor.run(ids[3]), "e0"), data=b"abc")
        for run_id, expected in zip(ids, (b"abc", b"abcabc", b"abc", b"abc"), strict=True):
            run = visitor.ended(run_id)
            assert run["Status"] == "COMPLETE", told(run)
            assert visitor.artifact(run_id, "e3") == expected
            assert_recorded_once(visitor, run)
    assert mortal.leftovers() == []


DEATHS = {"worker": b"\0worker\0", "store": b"rclone\0serve\0", "database": b"/bin/postgres\0-D\0"}


@pytest.mark.parametrize("part", DEATHS)
def test_runs_outlive_the_death_of_a_part(mortal: System, part: str) -> None:
    with Visitor(mortal.url) as visitor:
        ids = [visitor.start(request, e0=b"abc") for request in (a_slow_chain(), a_slow_diamond(), a_slow_tree())]
        visitor.eventually(lambda: anybody([visitor.run(run_id) for run_id in ids], "RUNNING"))
        assert mortal.kill_part(DEATHS[part])
        for run_id in ids:
            visitor.eventually(lambda run_id=run_id: has_ended(visitor, run_id))  # type: ignore[misc]
            run = visitor.run(run_id)
            assert run["Status"] == "COMPLETE", told(run)
            assert_recorded_once(visitor, run)
    assert mortal.leftovers() == []


def has_ended(visitor: Visitor, run_id: str) -> bool:
    """As soon as somebody answers; until then it is said when to ask again."""
    answer = visitor.http.get(f"{visitor.url}/api/v1/runs/{run_id}", timeout=60)
    if answer.status_code == 503:
        assert answer.headers["Retry-After"]
        return False
    assert answer.status_code == 200, answer.text
    return answer.json()["Status"] in ENDED
