"""Client tools: a node asks, the run waits without a container, the client answers, the node goes on."""

from typing import Any

import pytest

from tests.support.docker_images import BUSYBOX
from tests.support.shell_steps import Json, a_request, a_source
from tests.support.system import System
from tests.support.visitor import Visitor, told

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

WEATHER: Json = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "the weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CLOCK: Json = {"type": "function", "function": {"name": "get_time"}}
ASK = """echo '[{"id": "c1", "name": "get_weather", "arguments": {"city": "Oslo"}}]' > "$PUP_TOOL_CALLS"; exit 85"""
ASK_ONCE = f"""
if [ -f "$PUP_TOOL_RESULTS" ]; then
  echo "attempt $PUP_ATTEMPT after $(cat "$PUP_STATE/note"): $(cat "$PUP_TOOL_RESULTS")" > "$OUTPUT_OUT"; exit 0
fi
cat "$PUP_TOOLS"; mkdir -p "$PUP_STATE"; echo "what was" > "$PUP_STATE/note"
{ASK}
"""
ASK_FOR_EVER = ASK


def asking(script: str = ASK_ONCE, node: str = "agent", **members: Any) -> Any:
    """A step that may ask the client."""
    return a_source(node, script, AllowTools=True, **members)


def started(
    visitor: Visitor, *steps: Any, tools: Any = (WEATHER,), way: str = "", status: int = 202, **how: Any
) -> Json:
    """What came of running the steps with these tools."""
    run = visitor.post("/api/v1/runs" + way, {**a_request(*steps), "Tools": list(tools), **how}, status=status)
    if "ID" in run:
        visitor.made.append(run["ID"])
    return run


def resumed(visitor: Visitor, run: Json, content: Any = "rain", status: int = 200, **how: Any) -> Json:
    """The answer to the call that every test makes."""
    body = {"tool_results": [{"tool_call_id": "c1", "content": content}], **how}
    return visitor.post(f"/api/v1/runs/{run['ID']}/resume", body, status=status)


def waiting(visitor: Visitor, run: Json) -> Json:
    """The run once it waits for the client alone."""
    return visitor.until(run["ID"], lambda now: bool(now["StatusReason"] == "tool_calls"))


def test_a_node_asks_and_goes_on_with_the_answer_where_it_was(visitor: Visitor, system: System) -> None:
    aside = a_source("aside", 'echo done > "$OUTPUT_OUT"', writes={"out": "elsewhere"})
    run = started(visitor, asking(), aside, way="/sync", status=200)
    assert (run["Status"], run["StatusReason"]) == ("WAITING", "tool_calls"), told(run)
    assert run["ToolCalls"] == {"agent": [{"ID": "c1", "Name": "get_weather", "Arguments": {"city": "Oslo"}}]}
    agent = run["NodeState"]["agent"]
    assert (agent["Status"], agent["Attempt"], agent["ToolRounds"], agent["ExitCode"]) == ("WAITING", 1, 1, 85)
    assert '"name": "get_weather"' in agent["Logs"][0]["message"]
    assert run["NodeState"]["aside"]["Status"] == "COMPLETE"
    visitor.eventually(lambda: system.leftovers() == [])

    resumed(visitor, run, "rain")
    done = visitor.ended(run["ID"])
    assert done["Status"] == "COMPLETE", told(done)
    assert (done["NodeState"]["agent"]["Attempt"], done["ToolCalls"]) == (1, {})
    text = visitor.artifact(run["ID"], "out").decode()
    assert text == 'attempt 1 after what was: [{"tool_call_id": "c1", "content": "rain"}]\n'
    assert resumed(visitor, run, status=409)["Error"]["Code"] == "NOT_WAITING_FOR_TOOLS"

    events = visitor.events(run["ID"])
    (asked,) = [frame for frame in events if frame.event == "tool_calls_required"]
    assert (asked.node, asked.data["Data"]["Round"]) == ("agent", 1)
    assert asked.data["Data"]["ToolCalls"][0]["Name"] == "get_weather"
    assert "waiting_uploads" not in [frame.event for frame in events]


def test_only_the_results_that_were_asked_for_are_taken(visitor: Visitor) -> None:
    run = started(visitor, asking())
    assert resumed(visitor, run, status=409)["Error"]["Code"] == "NOT_WAITING_FOR_TOOLS"
    waiting(visitor, run)
    for results in ([], [{"ToolCallID": "c2", "Content": "x"}], 2 * [{"ToolCallID": "c1", "Content": "x"}]):
        error = visitor.post(f"/api/v1/runs/{run['ID']}/resume", {"ToolResults": results}, status=422)["Error"]
        assert error["Code"] == "TOOL_RESULTS_MISMATCH"
    assert resumed(visitor, run, status=409, NodeID="other")["Error"]["Code"] == "NOT_WAITING_FOR_TOOLS"
    assert resumed(visitor, run, {"any": ["json"]}, NodeID="agent")["Status"] == "RUNNING"
    assert visitor.ended(run["ID"])["Status"] == "COMPLETE"


def test_a_run_that_waits_for_tools_can_be_cancelled(visitor: Visitor) -> None:
    run = waiting(visitor, started(visitor, asking()))
    assert visitor.cancel(run["ID"])["Status"] == "STOPPED"
    assert resumed(visitor, run, status=409)["Error"]["Code"] == "NOT_WAITING_FOR_TOOLS"


def test_a_run_s_timeout_counts_on_while_it_waits(visitor: Visitor) -> None:
    run = started(visitor, asking(), Timeout="4s")
    done = visitor.ended(run["ID"])
    assert (done["Status"], done["StatusReason"]) == ("ERROR", "timeout")


@pytest.mark.parametrize(
    ("script", "how", "code"),
    [
        (ASK.replace("get_weather", "get_money"), {}, "TOOL_NAME_INVALID"),
        (ASK.replace('"Oslo"', "7"), {}, "TOOL_ARGUMENTS_INVALID"),
        ("echo '[{' > $PUP_TOOL_CALLS; exit 85", {}, "TOOL_CALLS_INVALID"),
        (ASK, {"ToolChoice": "none"}, "TOOL_CHOICE_VIOLATED"),
        (ASK, {"ToolChoice": {"type": "function", "function": {"name": "get_time"}}}, "TOOL_NAME_INVALID"),
        ('echo x > "$OUTPUT_OUT"', {"ToolChoice": "required"}, "TOOL_CHOICE_VIOLATED"),
    ],
    ids=["an unknown name", "wrong arguments", "no list of calls", "none", "another than the named", "not required"],
)
def test_what_is_not_on_offer_fails_the_run_for_good(visitor: Visitor, script: str, how: Json, code: str) -> None:
    run = visitor.ended(started(visitor, asking(script), tools=[WEATHER, CLOCK], **how)["ID"])
    assert (run["Status"], run["Error"]["Code"]) == ("ERROR", code), told(run)
    assert run["NodeState"]["agent"]["Attempt"] == 1


def test_an_exit_with_85_is_a_failure_like_any_other_where_tools_are_not_allowed(visitor: Visitor) -> None:
    run = visitor.fail(a_request(a_source("plain", "exit 85", MaxAttempts=1)))
    assert (run["Error"]["Code"], run["NodeState"]["plain"]["ExitCode"]) == ("NODE_EXIT", 85)


def test_a_node_that_asks_for_ever_is_stopped_at_the_limit(visitor: Visitor) -> None:
    run = started(visitor, asking(ASK_FOR_EVER, Image=BUSYBOX))
    for asked in range(1, 11):
        now = visitor.until(run["ID"], lambda each, n=asked: each["ToolCalls"] and rounds(each) == n)  # type: ignore[misc]
        assert now["NodeState"]["agent"]["Attempt"] == 1
        resumed(visitor, run)
    done = visitor.ended(run["ID"])
    assert (done["Status"], done["Error"]["Code"]) == ("ERROR", "TOOL_ITERATION_LIMIT")


def rounds(run: Json) -> int:
    """How often the agent has asked."""
    return int(run["NodeState"]["agent"]["ToolRounds"])


def test_what_no_node_could_use_makes_no_run(visitor: Visitor) -> None:
    plain = a_source("plain", "exit 0", writes={})
    error = started(visitor, plain, status=400)["Error"]
    assert error["Code"] == "TOOLS_NOT_ENABLED"
    many = [{"type": "function", "function": {"name": f"t{n}"}} for n in range(65)]
    assert "64" in started(visitor, asking(), tools=many, status=422)["Error"]["Message"]
    for tools, choice in (
        ([{"type": "function", "function": {"name": "no name"}}], None),
        ([{"type": "function", "function": {"name": "t", "parameters": {"type": "strong"}}}], None),
        ([WEATHER, WEATHER], None),
        ([WEATHER], "perhaps"),
        ([WEATHER], {"type": "function", "function": {"name": "get_money"}}),
    ):
        body: Json = {"ToolChoice": choice} if choice else {}
        assert started(visitor, asking(), tools=tools, status=422, **body)["Error"]["Code"] == "INVALID_TOOLS"
