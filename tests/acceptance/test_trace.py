"""The trace of a run: when, where and how each attempt ran, and what it read and wrote."""

from datetime import datetime

import pytest

from tests.support.shell_steps import COPY, Json, a_request, a_step
from tests.support.visitor import Visitor

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]

SECOND_TIME = f'[ "$PUP_ATTEMPT" = 2 ] || exit 3; {COPY}; yes line | head -c 1000000 > "$OUTPUT_BIG"'


def failing_once(visitor: Visitor, **how: object) -> Json:
    """A run whose only node fails once, then copies 4 bytes and writes 1 MB."""
    step = a_step(script=SECOND_TIME, writes={"out": "out", "big": "big"}, Retry={"Delay": "10ms"})
    run = visitor.post("/api/v1/runs", {**a_request(step), "Inputs": {"in": "text"}, **how}, status=202)
    visitor.made.append(run["ID"])
    done = visitor.ended(run["ID"])
    assert done["Status"] == "COMPLETE"
    return done


def traced(visitor: Visitor, run: Json, query: str = "") -> list[Json]:
    """The attempts in the run's trace."""
    return list(visitor.get(f"/api/v1/runs/{run['ID']}/trace{query}")["Attempts"])


def test_every_attempt_is_told_of_with_its_times_and_sizes(visitor: Visitor) -> None:
    run = failing_once(visitor)
    first, second = traced(visitor, run, "?attempt=all")
    assert [(each["Attempt"], each["Outcome"], each["ExitCode"]) for each in (first, second)] == [
        (1, "failed", 3),
        (2, "succeeded", 0),
    ]
    assert first["Reason"] == "exit"
    assert (first["BytesIn"], first["BytesOut"]) == (4, 0)
    assert (second["BytesIn"], second["BytesOut"]) == (4, 1_000_004)
    for each in (first, second):
        moments = [datetime.fromisoformat(each[name]) for name in ("QueuedAt", "StartedAt", "FinishedAt")]
        assert moments == sorted(moments)
        assert {"gather", "create", "start", "run"} <= each["Timings"].keys()
        assert (each["Tier"], each["Context"]) == ("c-nano", None)
        assert each["Worker"]
        assert each["ImageDigest"].startswith("sha256:") or "@sha256:" in each["ImageDigest"]
    assert first["StartedAt"] != second["StartedAt"]


def test_attempts_are_picked(visitor: Visitor) -> None:
    run = failing_once(visitor)
    assert [each["Attempt"] for each in traced(visitor, run)] == [2]
    assert [each["Attempt"] for each in traced(visitor, run, "?attempt=1")] == [1]
    assert traced(visitor, run, "?attempt=7") == []
    assert [each["NodeID"] for each in traced(visitor, run, "?node=copy")] == ["copy"]
    assert traced(visitor, run, "?node=other") == []
    for wrong in ("0", "first", "-1", "12345678901"):
        visitor.get(f"/api/v1/runs/{run['ID']}/trace?attempt={wrong}", status=422)
    visitor.get("/api/v1/runs/run_x/trace", status=404)


def test_a_run_that_asks_for_it_keeps_the_beginnings_of_its_texts(visitor: Visitor) -> None:
    run = failing_once(visitor, Trace=True)
    first, second = traced(visitor, run, "?attempt=all")
    (read,) = first["Context"]["Inputs"]
    assert (read["Edge"], read["Port"], read["Text"], read["Truncated"]) == ("in", "in", "text", False)
    assert first["Context"]["Outputs"] == []
    written = {each["Edge"]: each for each in second["Context"]["Outputs"]}
    assert (written["out"]["Text"], written["out"]["Truncated"]) == ("text", False)
    big = written["big"]
    assert (big["Size"], big["Truncated"], len(big["Text"])) == (1_000_000, True, 16 * 1024)
    assert big["Text"].startswith("line\nline\n")
