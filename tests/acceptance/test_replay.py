"""Runs of what earlier runs were: from a node, with edits, or only what failed; the rest is kept."""

from typing import Any

import pytest

from tests.acceptance.test_stores import declared
from tests.support.s3_servers import STRANGER, an_rclone
from tests.support.shell_steps import a_request, a_step
from tests.support.visitor import Json, Visitor

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

ADD = 'cat "$INPUT_IN" > "$OUTPUT_OUT"; printf "$FLAG_MARK" >> "$OUTPUT_OUT"; [ "$FLAG_MARK" != bad ]'


def a_marking_chain(*marks: str, **flow: Any) -> Json:
    """Nodes in a row, each adding its mark to what it reads; one that is `bad` fails."""
    steps = [
        a_step(
            f"n{i}",
            ADD,
            reads={"in": f"e{i}"},
            writes={"out": f"e{i + 1}"},
            node={"Flags": [{"Name": "mark", "Value": mark}]},
            MaxAttempts=1,
        )
        for i, mark in enumerate(marks)
    ]
    return a_request(*steps, **flow)


def replay(visitor: Visitor, run_id: str, **wish: Any) -> Json:
    """The ended run that came of replaying the run."""
    new = visitor.post(f"/api/v1/runs/{run_id}/replay", wish, status=202)
    visitor.made.append(new["ID"])
    assert (new["ReplayOf"], new["RootRunID"]) == (run_id, run_id)
    return visitor.ended(new["ID"])


def attempts(run: Json) -> list[int]:
    return [run["NodeState"][node]["Attempt"] for node in sorted(run["NodeState"])]


def test_from_a_node_with_an_edit(visitor: Visitor) -> None:
    run = visitor.complete(a_marking_chain("1", "2", "3"), e0=b"a")
    new = replay(visitor, run["ID"], From="n1", Overrides={"n1.mark": "X"})
    assert (new["Status"], attempts(new)) == ("COMPLETE", [0, 1, 1])
    assert visitor.artifact(new["ID"], "e3") == b"a1X3"
    assert visitor.artifact(run["ID"], "e3") == b"a123"


def test_only_what_failed_and_what_hangs_on_it(visitor: Visitor) -> None:
    run = visitor.fail(a_marking_chain("1", "bad", "3"), e0=b"a")
    new = replay(visitor, run["ID"], FailedOnly=True, Overrides={"n1.mark": "2"})
    assert (new["Status"], attempts(new)) == ("COMPLETE", [0, 1, 1])
    assert visitor.artifact(new["ID"], "e3") == b"a123"


def test_all_of_it_anew_on_the_same_inputs(visitor: Visitor) -> None:
    run = visitor.complete(a_marking_chain("1", "2"), e0=b"a")
    new = replay(visitor, run["ID"])
    assert (new["Status"], attempts(new)) == ("COMPLETE", [1, 1])
    assert visitor.artifact(new["ID"], "e2") == b"a12"


def test_what_is_kept_outlives_the_run_that_it_was_kept_from(visitor: Visitor) -> None:
    run = visitor.complete(a_marking_chain("1", "2"), e0=b"a")
    new = replay(visitor, run["ID"], From="n1")
    visitor.ask("DELETE", f"/api/v1/runs/{run['ID']}", status=204)
    assert visitor.artifact(new["ID"], "e1") == b"a1"
    visitor.get(f"/api/v1/runs/{run['ID']}", status=404)


def test_an_artifact_whose_lifetime_is_over_is_made_again(visitor: Visitor) -> None:
    brief = a_marking_chain("1", "2", DataWells=[{"Edge": "e1", "Lifetime": "1s"}])
    run = visitor.complete(brief, e0=b"a")
    visitor.eventually(lambda: "e1" not in visitor.run(run["ID"])["Artifacts"])
    gone = visitor.ask("GET", f"/api/v1/runs/{run['ID']}/artifacts/e1", status=410).json()
    assert gone["Error"]["Code"] == "EXPIRED"
    new = replay(visitor, run["ID"], From="n1")
    assert (new["Status"], attempts(new)) == ("COMPLETE", [1, 1])


def test_in_a_store_that_the_flow_brought(visitor: Visitor) -> None:
    with an_rclone(STRANGER) as server:
        flow = {"Stores": [declared(server.new_bucket())], "DefaultDataWell": {"Store": "other"}}
        run = visitor.complete(a_marking_chain("1", "2", **flow), e0=b"a")
        new = replay(visitor, run["ID"], From="n1")
        assert (new["Status"], attempts(new)) == ("COMPLETE", [0, 1])
        assert visitor.artifact(new["ID"], "e2") == b"a12"
        for each in (run, new):
            visitor.ask("DELETE", f"/api/v1/runs/{each['ID']}", status=204)
