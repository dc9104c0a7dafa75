"""Sessions as a client meets them: what a program leaves for the next one, however many run at once."""

from typing import Any

import pytest

from tests.support.shell_steps import a_request, a_source, a_step
from tests.support.visitor import Visitor, told

pytestmark = [pytest.mark.acceptance, pytest.mark.usefixtures("system")]

Json = dict[str, Any]

COUNT = 'cd /pup/session; n=$(cat count 2> /dev/null || echo 0); echo $((n + 1)) > count; cat count > "$OUTPUT_OUT"'
COUNTER = a_request(a_source("count", COUNT))


def call(visitor: Visitor, body: Json, **members: Any) -> Json:
    """The run of the request, started and not waited for."""
    run = visitor.post("/api/v1/runs", {**body, **members}, status=202)
    visitor.made.append(run["ID"])
    return run


def text(visitor: Visitor, run: Json) -> str:
    """What the run wrote, once it has ended well."""
    ended = visitor.ended(run["ID"])
    assert ended["Status"] == "COMPLETE", told(ended)
    return visitor.artifact(run["ID"], "out").decode().strip()


def test_a_counter_goes_on_within_its_session_and_begins_anew_in_another(visitor: Visitor) -> None:
    first = call(visitor, COUNTER)
    assert text(visitor, first) == "1"
    second = call(visitor, COUNTER, SessionID=first["SessionID"])
    assert text(visitor, second) == "2"
    other = call(visitor, COUNTER)
    assert text(visitor, other) == "1"
    session = visitor.get(f"/api/v1/sessions/{first['SessionID']}")
    assert [run["ID"] for run in session["Runs"]] == [first["ID"], second["ID"]]
    visitor.post("/api/v1/runs", {**COUNTER, "SessionID": "ses_unknown"}, status=404)


def test_runs_at_once_in_one_session_lose_no_update(visitor: Visitor) -> None:
    first = call(visitor, COUNTER)
    assert text(visitor, first) == "1"
    runs = [call(visitor, COUNTER, SessionID=first["SessionID"]) for _ in range(2)]
    assert sorted(text(visitor, run) for run in runs) == ["2", "3"]


def test_nodes_at_once_in_a_fresh_session_lose_no_update(visitor: Visitor) -> None:
    script = "cd /pup/session; n=$(cat count 2> /dev/null || echo 0); echo $((n + 1)) > count"
    side_by_side = a_request(a_source("one", script, writes={}), a_source("two", script, writes={}))
    first = call(visitor, side_by_side)
    ended = visitor.ended(first["ID"])
    assert ended["Status"] == "COMPLETE", told(ended)
    assert text(visitor, call(visitor, COUNTER, SessionID=first["SessionID"])) == "3"


def test_a_node_reads_the_variables_of_its_session(visitor: Visitor) -> None:
    session = visitor.post("/api/v1/sessions", {"Variables": {"user": "Ada", "limits": {"pages": 3}}}, status=201)
    script = 'printf "%s" "$SESSION_USER $SESSION_LIMITS $PUP_SESSION_ID" > "$OUTPUT_OUT"'
    run = call(visitor, a_request(a_source("read", script)), SessionID=session["ID"])
    assert text(visitor, run) == f'Ada {{"pages": 3}} {session["ID"]}'


def test_a_key_may_name_the_session(visitor: Visitor) -> None:
    wells = [{"Edge": "out", "Store": "default", "Key": "talks/${SESSION_ID}/${RUN_ID}.txt"}]
    run = call(visitor, a_request(a_source("write", 'echo hello > "$OUTPUT_OUT"'), DataWells=wells))
    assert text(visitor, run) == "hello"
    key = visitor.run(run["ID"])["Artifacts"]["out"]["ObjectName"]
    assert key == f"talks/{run['SessionID']}/{run['ID']}.txt"


def test_what_a_program_may_not_leave_fails_its_node_and_leaves_the_session_as_it_was(visitor: Visitor) -> None:
    run = call(visitor, a_request(a_source("link", "ln -s /etc/passwd /pup/session/users", writes={})))
    ended = visitor.ended(run["ID"])
    assert (ended["Status"], ended["NodeState"]["link"]["Reason"]) == ("ERROR", "policy")
    assert "only plain files and folders are kept" in ended["Error"]["Message"]
    assert visitor.get(f"/api/v1/sessions/{run['SessionID']}")["Version"] == 0


def test_a_session_tells_what_was_said_in_it_and_goes_when_asked(visitor: Visitor) -> None:
    echo = a_request(
        a_step(
            "echo",
            'tr a-z A-Z < "$INPUT_IN" > "$OUTPUT_OUT"',
            Inputs=[{"Name": "in", "Type": "text/plain"}],
            Outputs=[{"Name": "out"}],
        )
    )
    run = call(visitor, echo, Message="hello")
    assert text(visitor, run) == "HELLO"
    path = f"/api/v1/sessions/{run['SessionID']}"
    messages = visitor.get(path)["Messages"]
    assert [(each["Role"], each["Content"], each["RunID"]) for each in messages] == [
        ("user", "hello", run["ID"]),
        ("assistant", "HELLO", run["ID"]),
    ]
    visitor.ask("DELETE", path, status=204)
    visitor.get(path, status=404)
    assert visitor.run(run["ID"])["Status"] == "COMPLETE"
