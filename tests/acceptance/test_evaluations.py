"""Evaluations of runs, as a client sees them."""

import pytest

from tests.support.shell_steps import a_request, a_source, a_step
from tests.support.visitor import Json, Visitor

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

COUNT = (
    'n=$(wc -c < "$INPUT_TEXT"); printf \'{"type": "metric", "score": %s, "reason": "bytes"}\' $n > "$OUTPUT_VERDICT"'
)
LENGTH: Json = {"Name": "length", "Flow": "eval-length", "Inputs": {"text": {"From": "output", "Edge": "out"}}}
BROKEN: Json = {"Name": "broken", "Flow": "eval-broken", "AutoRun": False}


@pytest.fixture
def judged(visitor: Visitor) -> str:
    """Where calls of a flow go that copies, and has two evaluations."""
    length = a_step("length", COUNT, reads={"text": "text"}, writes={"verdict": "verdict"})
    broken = a_source("broken", "exit 3", writes={"verdict": "verdict"}, MaxAttempts=1)
    for name, body in (
        ("eval-length", a_request(length, Name="")),
        ("eval-broken", a_request(broken, Name="")),
        ("eval-judged", a_request(a_step(), Name="", Evals=[LENGTH, BROKEN])),
    ):
        visitor.ask("PUT", f"/api/v1/flows/{name}", json=body)
    return "/api/v1/flows/eval-judged/runs"


def call(visitor: Visitor, path: str, status: int, **request: object) -> Json:
    """The new run."""
    run = visitor.post(path, {"Inputs": {"in": "hello"}, **request}, status=status)
    visitor.made.append(run["ID"])
    return run


def evals(visitor: Visitor, run: Json) -> list[Json]:
    """The run's evaluations by now."""
    return list(visitor.get(f"/api/v1/runs/{run['ID']}/evals")["Evals"])


def test_an_answer_that_waits_holds_what_the_evaluations_found(visitor: Visitor, judged: str) -> None:
    run = call(visitor, f"{judged}/sync", 200, Evals={"RunMode": "block"})
    (found,) = run["Evals"]
    assert (run["Status"], found["Name"], found["Status"]) == ("COMPLETE", "length", "done")
    assert (found["Verdict"]["Type"], found["Verdict"]["Score"], found["Verdict"]["Reason"]) == ("metric", 5, "bytes")
    judging = visitor.run(found["RunID"])
    assert (judging["FlowName"], judging["ParentRunID"]) == ("eval-length", run["ID"])


def test_evaluations_follow_a_run_by_themselves(visitor: Visitor, judged: str) -> None:
    run = call(visitor, judged, 202)
    assert [each["Status"] for each in evals(visitor, run)] == ["pending"]
    visitor.ended(run["ID"])
    visitor.eventually(lambda: [each["Status"] for each in evals(visitor, run)] == ["done"])


def test_a_waited_for_answer_names_the_evaluations_that_follow(visitor: Visitor, judged: str) -> None:
    run = call(visitor, f"{judged}/sync", 200)
    (found,) = run["Evals"]
    assert (found["Name"], found["Status"] in {"pending", "done"}) == ("length", True)
    visitor.eventually(lambda: [each["Status"] for each in evals(visitor, run)] == ["done"])


def test_a_failing_evaluation_changes_nothing_of_the_run(visitor: Visitor, judged: str) -> None:
    run = call(visitor, f"{judged}/sync", 200, evalOptions={"RunMode": "block", "Runs": ["broken"]})
    (found,) = run["Evals"]
    assert (run["Status"], found["Name"], found["Status"], found["Verdict"]) == ("COMPLETE", "broken", "failed", None)
    assert found["Error"]
    assert visitor.run(run["ID"])["Status"] == "COMPLETE"


def test_evaluations_are_skipped_and_unknown_ones_refused(visitor: Visitor, judged: str) -> None:
    run = call(visitor, f"{judged}/sync", 200, Evals={"RunMode": "skip"})
    assert (run["Evals"], evals(visitor, run)) == ([], [])
    refused = visitor.post(judged, {"Evals": {"Runs": ["beauty"]}}, status=422)
    assert refused["Error"]["Code"] == "EVAL_NOT_FOUND"
