"""Nodes that fail: how it is told, what is tried again, and what becomes of the rest."""

import pytest

from tests.support.shell_steps import a_request, a_source, a_step
from tests.support.system import System
from tests.support.visitor import Visitor, statuses

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]

AT_ONCE = {"Retry": {"Delay": "10ms"}}


def retried(visitor: Visitor, run_id: str) -> list[str]:
    """Why attempts of the run were followed by another."""
    return [frame.data["Data"]["Reason"] for frame in visitor.events(run_id, "?types=node_retrying")[:-1]]


def test_a_node_that_exits_3_is_tried_to_its_last_attempt(visitor: Visitor) -> None:
    run = visitor.fail(a_request(a_source("bad", "echo why >&2; exit 3", MaxAttempts=3, **AT_ONCE)))
    state = run["NodeState"]["bad"]
    assert (state["Status"], state["ExitCode"], state["Attempt"], state["MaxAttempts"]) == ("ERROR", 3, 3, 3)
    assert state["Error"] == "exited with 3: why"
    assert run["StatusReason"] == "node_failed"
    assert run["Error"] == {"Code": "NODE_EXIT", "Message": "exited with 3: why", "NodeID": "bad"}
    assert [line["message"] for line in state["Logs"]] == ["why"] * 3
    assert retried(visitor, run["ID"]) == ["exit", "exit"]
    assert run["Artifacts"] == {}


def test_a_node_between_two_attempts_is_seen_retrying(visitor: Visitor) -> None:
    run_id = visitor.start(a_request(a_source("bad", "exit 3", MaxAttempts=2, Retry={"Delay": "1h"})))
    run = visitor.until(run_id, lambda run: run["NodeState"]["bad"]["Status"] == "RETRYING")
    state = run["NodeState"]["bad"]
    assert (run["Status"], state["Attempt"], state["ExitCode"]) == ("RUNNING", 1, 3)


def test_a_node_that_fails_twice_completes_at_its_third_attempt(visitor: Visitor) -> None:
    script = '[ "$PUP_ATTEMPT" = 3 ] || exit 1; echo "$PUP_ATTEMPT" > "$OUTPUT_OUT"'
    run = visitor.complete(a_request(a_source("late", script, MaxAttempts=3, **AT_ONCE)))
    state = run["NodeState"]["late"]
    assert (state["Attempt"], state["ExitCode"], state["Error"]) == (3, 0, "")
    assert run["Artifacts"]["out"]["ObjectName"].startswith(f"{run['ID']}/out/3")
    assert visitor.artifact(run["ID"], "out") == b"3\n"


def test_what_a_def_does_not_name_is_not_tried_again(visitor: Visitor) -> None:
    run = visitor.fail(a_request(a_source("bad", "exit 3", MaxAttempts=3, Retry={"On": ["oom"]})))
    assert run["NodeState"]["bad"]["Attempt"] == 1


def test_a_node_beyond_its_memory_is_told_so(visitor: Visitor) -> None:
    greedy = a_source("greedy", "dd if=/dev/zero of=/dev/null bs=200M count=1", Tier="tiny", MaxAttempts=2, **AT_ONCE)
    run = visitor.fail(a_request(greedy))
    state = run["NodeState"]["greedy"]
    assert (state["Status"], state["Attempt"], run["Error"]["Code"]) == ("ERROR", 2, "NODE_OOM")
    assert "32mb" in state["Error"]
    assert retried(visitor, run["ID"]) == ["oom"]


def test_a_node_beyond_its_timeout_is_ended(visitor: Visitor, system: System) -> None:
    slow = a_source("slow", "sleep 600", MaxAttempts=1, node={"Timeout": "1s"}, writes={})
    run = visitor.fail(a_request(slow))
    assert (run["StatusReason"], run["Error"]["Code"], run["Error"]["NodeID"]) == ("timeout", "NODE_TIMEOUT", "slow")
    assert "timeout of 1 s" in run["NodeState"]["slow"]["Error"]
    assert system.leftovers() == []


def test_a_def_s_timeout_counts_where_the_node_has_none(visitor: Visitor) -> None:
    run = visitor.fail(a_request(a_source("slow", "sleep 600", MaxAttempts=1, Timeout="1s", writes={})))
    assert run["Error"]["Code"] == "NODE_TIMEOUT"


def test_a_flow_beyond_its_timeout_ends_with_all_its_nodes(visitor: Visitor, system: System) -> None:
    slow, after = a_source("slow", "sleep 600"), a_step("after", reads={"in": "out"}, writes={"out": "last"})
    run = visitor.fail(a_request(slow, after, Timeout="2s"))
    assert (run["StatusReason"], run["Error"]["Code"]) == ("timeout", "RUN_TIMEOUT")
    assert run["NodeState"]["slow"]["Status"] == "STOPPED"
    assert run["NodeState"]["after"]["Status"] in {"IDLE", "STOPPED"}
    assert system.leftovers() == []


def test_a_flow_s_timeout_ends_the_wait_for_an_upload_too(visitor: Visitor) -> None:
    run = visitor.fail(a_request(Timeout="1s"))
    assert run["StatusReason"] == "timeout"
    assert run["WaitingURLs"] == []


def test_a_file_of_the_wrong_type_fails_the_node_and_is_not_tried_again(visitor: Visitor) -> None:
    picky = a_step("picky", Inputs=[{"Name": "in", "Type": ["image/png", "image/jpeg"]}], Outputs=[{"Name": "out"}])
    run = visitor.fail(a_request(picky), **{"in": b"just a text\n"})
    state = run["NodeState"]["picky"]
    assert (state["Status"], state["Attempt"], run["Error"]["Code"]) == ("ERROR", 1, "NODE_TYPE")
    assert {word for word in ("text/plain", "image/png", "image/jpeg") if word in state["Error"]} == {
        "text/plain", "image/png", "image/jpeg",
    }  # fmt: skip
    assert retried(visitor, run["ID"]) == []


def test_an_output_of_the_wrong_type_fails_the_node_and_is_not_tried_again(visitor: Visitor) -> None:
    liar = a_source("liar", 'echo text > "$OUTPUT_OUT"', Outputs=[{"Name": "out", "Type": ["image/png"]}])
    run = visitor.fail(a_request(liar))
    state = run["NodeState"]["liar"]
    assert (state["Attempt"], run["Error"]["Code"], run["Artifacts"]) == (1, "NODE_TYPE", {})
    assert "text/plain" in state["Error"]
    assert "image/png" in state["Error"]


def test_a_missing_required_output_fails_the_node_and_is_not_tried_again(visitor: Visitor) -> None:
    run = visitor.fail(a_request(a_source("lazy", "true")))
    state = run["NodeState"]["lazy"]
    assert (state["Status"], state["Attempt"], state["ExitCode"]) == ("ERROR", 1, 0)
    assert "out" in state["Error"]


def test_a_command_or_image_that_is_not_there_says_so_and_is_not_tried_again(visitor: Visitor) -> None:
    no_command = a_source("command", "", writes={}, Command={"Name": "run", "Exec": "/bin/no-such-program"})
    no_image = a_source("image", "true", writes={}, Image=f"sha256:{'0' * 64}")
    ids = [visitor.start(a_request(step)) for step in (no_command, no_image)]
    by_command, by_image = (visitor.ended(run_id)["NodeState"] for run_id in ids)
    assert (by_command["command"]["Status"], by_command["command"]["Attempt"]) == ("ERROR", 1)
    assert "no-such-program" in by_command["command"]["Error"]
    assert (by_image["image"]["Status"], by_image["image"]["Reason"]) == ("ERROR", "image")
    assert f"sha256:{'0' * 64} is not on this engine" in by_image["image"]["Error"]


def test_a_failure_stops_the_rest_of_a_flow_that_fails_fast(visitor: Visitor, system: System) -> None:
    run = visitor.fail(
        a_request(
            a_source("bad", "sleep 1; exit 3", MaxAttempts=1, writes={"out": "bad"}),
            a_source("slow", "sleep 600", writes={"out": "slow"}),
            a_step("after", reads={"in": "slow"}),
        )
    )
    found = statuses(run)
    assert (found["bad"], found["slow"]) == ("ERROR", "STOPPED")
    assert found["after"] in {"IDLE", "STOPPED"}
    assert run["Error"]["NodeID"] == "bad"
    assert system.leftovers() == []


def test_independent_branches_finish_in_a_flow_that_does_not_fail_fast(visitor: Visitor) -> None:
    run = visitor.fail(
        a_request(
            a_source("bad", "exit 3", MaxAttempts=1, writes={"out": "bad"}),
            a_step("doomed", reads={"in": "bad"}, writes={"out": "never"}),
            a_source("good", 'sleep 1; echo good > "$OUTPUT_OUT"', writes={"out": "good"}),
            a_step("after", reads={"in": "good"}),
            FailFast=False,
        )
    )
    assert statuses(run) == {"bad": "ERROR", "doomed": "SKIPPED", "good": "COMPLETE", "after": "COMPLETE"}
    assert (run["Error"]["NodeID"], run["Error"]["Code"]) == ("bad", "NODE_EXIT")
    assert visitor.artifact(run["ID"], "out") == b"good\n"
