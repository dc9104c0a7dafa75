"""What one run changes of its nodes, and no other run sees."""

import pytest

from tests.support.shell_steps import a_request, a_source
from tests.support.visitor import Json, Visitor, told

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

SAYS = 'printf "%s %s %s" "$FLAG_WORD" "$MODE" "$PUP_ATTEMPT" > "$OUTPUT_OUT"'


def a_draft() -> Json:
    """A flow of one node that writes its flag and a variable of its environment."""
    flags = [{"Name": "word"}]
    node = {"Flags": [{"Name": "word", "Value": "plain"}]}
    return a_request(a_source("say", SAYS, node=node, Flags=flags, Env={"MODE": "slow"}), Name="")


@pytest.fixture
def runs(visitor: Visitor, request: pytest.FixtureRequest) -> str:
    """The path of the runs of a flow that no other test has."""
    flow = f"/api/v1/flows/{request.node.name}"
    visitor.ask("PUT", flow, json=a_draft())
    return f"{flow}/runs"


def said(visitor: Visitor, runs: str, overrides: Json) -> tuple[str, Json]:
    """What the node wrote with these overrides, and its run."""
    run = visitor.post(f"{runs}/sync", {"Overrides": overrides})
    assert run["Status"] == "COMPLETE", told(run)
    return str(run["Outputs"]["out"]["Value"]), run


def test_an_override_changes_its_own_run_alone(visitor: Visitor, runs: str) -> None:
    before, plain = said(visitor, runs, {})
    nested, run = said(visitor, runs, {"say": {"flags": {"word": "other"}, "env": {"MODE": "fast"}, "max_attempts": 5}})
    flat, _ = said(visitor, runs, {"say.word": "flat"})
    after, _ = said(visitor, runs, {})
    assert (before, nested, flat, after) == ("plain slow 1", "other fast 1", "flat slow 1", "plain slow 1")
    told_back = {"say": {"Flags": {"word": "other"}, "Env": {"MODE": "fast"}, "MaxAttempts": 5}}
    assert (run["Overrides"], run["NodeState"]["say"]["MaxAttempts"]) == (told_back, 5)
    assert visitor.run(run["ID"])["Overrides"] == told_back
    assert run["Definition"] == plain["Definition"]


def test_an_override_of_nothing_there_is_names_it_and_makes_no_run(visitor: Visitor, runs: str) -> None:
    for overrides, names in [
        ({"sya": {"Tier": "c-nano"}}, ["sya", "say"]),
        ({"say": {"Flag": {}}}, ["Flag", "Flags"]),
        ({"say.wrod": 1}, ["wrod", "word"]),
        ({"say": {"Image": "another"}}, ["AllowImageOverride"]),
    ]:
        error = visitor.post(runs, {"Overrides": overrides}, status=422)["Error"]
        assert error["Code"] == "INVALID_OVERRIDE"
        assert all(name in error["Message"] for name in names), error
    assert visitor.get(f"/api/v1/runs?flow={runs.split('/')[-2]}")["Runs"] == []


def test_a_node_is_given_less_time_for_one_run(visitor: Visitor) -> None:
    request = a_request(a_source("slow", "sleep 60", writes={}, MaxAttempts=1))
    run = visitor.post("/api/v1/runs/sync", {**request, "Overrides": {"slow": {"Timeout": "1s"}}})
    assert (run["Status"], run["StatusReason"]) == ("ERROR", "timeout")
