"""Everything is killed at once while flows call, ask, judge, tell and take files, and started again.

The deaths come one after the other to one system, so that each but the first also meets what the last one left.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from threading import Event
from urllib.parse import urlsplit

import pytest
import requests
from standardwebhooks.webhooks import Webhook

from tests.support.recorded import assert_recorded_once
from tests.support.shell_steps import Json, a_request, a_source, a_step
from tests.support.system import System
from tests.support.visitor import Visitor, statuses, told
from tests.support.web_server import Reply, WebServer, held

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

MB = 1024 * 1024
SLOW_COPY = 'sleep 1; cat "$INPUT_E0" > "$OUTPUT_OUT"'
COUNT = """
cd /pup/session; n=$(cat count 2> /dev/null || echo 0); echo $((n + 1)) > count; sleep 1; cat count > "$OUTPUT_OUT"
"""
ASK = """
if [ -f "$PUP_TOOL_RESULTS" ]; then
  sleep 1; echo "$(cat "$PUP_STATE/note") $(cat "$PUP_TOOL_RESULTS")" > "$OUTPUT_OUT"; exit 0
fi
mkdir -p "$PUP_STATE"; echo "what was" > "$PUP_STATE/note"
echo '[{"id": "c1", "name": "get_weather", "arguments": {}}]' > "$PUP_TOOL_CALLS"; exit 85
"""
MEASURE = """
sleep 1; printf '{"type": "metric", "score": %s, "reason": "bytes"}' $(wc -c < "$INPUT_TEXT") > "$OUTPUT_VERDICT"
"""


@pytest.fixture
def visitor(mortal: System) -> Iterator[Visitor]:
    """Somebody who talks to the system, before and after its deaths; nothing of its runs may be left."""
    with Visitor(mortal.url) as visitor:
        yield visitor
        visitor.tidy()
    assert mortal.leftovers() == []


def let_die(system: System, visitor: Visitor) -> None:
    """Kill everything, and start it again."""
    system.kill()
    assert system.processes() == []
    system.start()
    visitor.url = system.url


def a_slow_copy() -> tuple[Json, Json]:
    """A step that takes a second, so that it can be met while it runs."""
    return a_step("copy", SLOW_COPY, reads={"e0": "e0"}, writes={"out": "out"})


def keep(visitor: Visitor, name: str, flow: Json) -> str:
    """The path of the runs of a flow that is kept under this name."""
    flow["Flow"]["Name"] = ""
    visitor.ask("PUT", f"/api/v1/flows/{name}", json=flow)
    return f"/api/v1/flows/{name}/runs"


def call(visitor: Visitor, path: str, **request: object) -> Json:
    """The new run."""
    run = visitor.post(path, request, status=202)
    visitor.made.append(run["ID"])
    return run


def completed(visitor: Visitor, run_id: str) -> Json:
    """The run, which ended well."""
    run = visitor.ended(run_id)
    assert run["Status"] == "COMPLETE", told(run)
    return run


def await_running(visitor: Visitor, *ids: str) -> None:
    """Returns when a container of one of the runs is there."""
    visitor.eventually(lambda: any("RUNNING" in statuses(visitor.run(each)).values() for each in ids))


def runs_of(visitor: Visitor, flow: str) -> list[str]:
    """The ids of all runs of the flow."""
    return [run["ID"] for run in visitor.get(f"/api/v1/runs?flow={flow}")["Runs"]]


def test_a_called_flow_outlives_the_death_of_everything(mortal: System, visitor: Visitor) -> None:
    keep(visitor, "mortal-copy", a_request(a_slow_copy()))
    ports = {"Inputs": [{"Name": "e0", "Edge": "e0"}], "Outputs": [{"Name": "out", "Edge": "out"}]}
    calling = {"Flow": {"Nodes": [{"ID": "call", "Uses": "flow/mortal-copy", **ports}]}, "NodeDefs": []}
    path = keep(visitor, "mortal-caller", calling)
    run = call(visitor, path, Inputs={"e0": "hello"})
    let_die(mortal, visitor)
    child = visitor.until(run["ID"], lambda now: bool(now["NodeState"]["call"]["ChildRunID"]))
    child_id = child["NodeState"]["call"]["ChildRunID"]
    await_running(visitor, child_id)
    let_die(mortal, visitor)
    completed(visitor, child_id)
    let_die(mortal, visitor)
    assert completed(visitor, run["ID"])["NodeState"]["call"]["Attempt"] == 1
    assert visitor.artifact(run["ID"], "out") == b"hello"
    assert runs_of(visitor, "mortal-copy") == [child_id]
    for each in (run["ID"], child_id):
        assert_recorded_once(visitor, visitor.run(each))


def test_a_question_and_its_answer_outlive_the_death_of_everything(mortal: System, visitor: Visitor) -> None:
    tools = [{"type": "function", "function": {"name": "get_weather"}}]
    run = call(visitor, "/api/v1/runs", **a_request(a_source("agent", ASK, AllowTools=True)), Tools=tools)
    await_running(visitor, run["ID"])
    let_die(mortal, visitor)
    asking = visitor.until(run["ID"], lambda now: bool(now["StatusReason"] == "tool_calls"))
    let_die(mortal, visitor)
    assert visitor.run(run["ID"])["ToolCalls"] == asking["ToolCalls"] != {}
    results = {"ToolResults": [{"ToolCallID": "c1", "Content": "rain"}]}
    visitor.post(f"/api/v1/runs/{run['ID']}/resume", results)
    await_running(visitor, run["ID"])
    let_die(mortal, visitor)
    completed(visitor, run["ID"])
    assert visitor.artifact(run["ID"], "out") == b'what was [{"tool_call_id": "c1", "content": "rain"}]\n'
    events = [frame.event for frame in visitor.events(run["ID"])]
    assert [events.count(name) for name in ("tool_calls_required", "node_completed", "run_completed")] == [1, 1, 1]


def test_a_session_counts_each_of_its_runs_once(mortal: System, visitor: Visitor) -> None:
    counter = a_request(a_source("count", COUNT))
    first = call(visitor, "/api/v1/runs", **counter)
    completed(visitor, first["ID"])
    ids = [call(visitor, "/api/v1/runs", **counter, SessionID=first["SessionID"])["ID"] for _ in range(2)]
    await_running(visitor, *ids)
    let_die(mortal, visitor)
    visitor.eventually(lambda: any(visitor.run(each)["Status"] == "COMPLETE" for each in ids))
    let_die(mortal, visitor)
    assert [visitor.artifact(first["ID"], "out"), *sorted(last_count(visitor, each) for each in ids)] == [
        b"1\n",
        b"2\n",
        b"3\n",
    ]
    after = call(visitor, "/api/v1/runs", **counter, SessionID=first["SessionID"])
    assert last_count(visitor, after["ID"]) == b"4\n"


def last_count(visitor: Visitor, run_id: str) -> bytes:
    """What the run counted up to."""
    completed(visitor, run_id)
    return visitor.artifact(run_id, "out")


def test_the_end_of_a_run_is_told_by_whoever_comes_after(
    mortal: System, visitor: Visitor, strangers: WebServer
) -> None:
    release = Event()
    refused = call_back(visitor, strangers.on("/mortal-refused", Reply(500)))
    asked = call_back(visitor, strangers.on("/mortal-asked", held(release, Reply(500))))
    strangers.await_asked("/mortal-refused")
    strangers.await_asked("/mortal-asked")
    ended = call_back(visitor, strangers.on("/mortal-ended", Reply(500)))
    completed(visitor, ended)
    mortal.kill()
    release.set()
    for path in ("/mortal-refused", "/mortal-asked", "/mortal-ended"):
        strangers.on(path, Reply(200))
    let_die(mortal, visitor)
    # Who died while it asked would be given its time.
    mortal.change_rows("UPDATE webhooks SET next_at = now() WHERE state = 'pending'")
    secret = (mortal.data / "webhook.secret").read_text()
    for path, run_id in (("/mortal-refused", refused), ("/mortal-asked", asked), ("/mortal-ended", ended)):
        delivery = delivered(visitor, run_id)
        for seen in strangers.asked(path):
            body = Webhook(secret).verify(seen.body, dict(seen.headers))
            assert (seen.headers["webhook-id"], body["RunID"]) == (delivery, run_id)
            assert (body["Type"], body["Run"]["Status"]) == ("run_completed", "COMPLETE")


def call_back(visitor: Visitor, url: str) -> str:
    """A run that soon ends well, and tells so."""
    return str(call(visitor, "/api/v1/runs", **a_request(a_source("made", "true", writes={})), CallbackURL=url)["ID"])


def delivered(visitor: Visitor, run_id: str) -> str:
    """The id of the only delivery of the run, once it has arrived."""
    path = f"/api/v1/runs/{run_id}/webhooks"
    visitor.eventually(lambda: [each["Status"] for each in visitor.get(path)["Webhooks"]] == ["delivered"])
    return str(visitor.get(path)["Webhooks"][0]["ID"])


def test_an_evaluation_outlives_the_death_of_everything(mortal: System, visitor: Visitor) -> None:
    measure = a_step("measure", MEASURE, reads={"text": "text"}, writes={"verdict": "verdict"})
    keep(visitor, "mortal-length", a_request(measure))
    length = {"Name": "length", "Flow": "mortal-length", "Inputs": {"text": {"From": "output", "Edge": "out"}}}
    path = keep(visitor, "mortal-judged", a_request(a_slow_copy(), Evals=[length]))
    run = call(visitor, path, Inputs={"e0": "hello"}, Evals={"RunMode": "async"})
    completed(visitor, run["ID"])
    let_die(mortal, visitor)
    visitor.eventually(lambda: bool(runs_of(visitor, "mortal-length")))
    (judging,) = runs_of(visitor, "mortal-length")
    await_running(visitor, judging)
    let_die(mortal, visitor)
    completed(visitor, judging)
    evals = f"/api/v1/runs/{run['ID']}/evals"
    visitor.eventually(lambda: visitor.get(evals)["Evals"][0]["Status"] != "pending")
    (found,) = visitor.get(evals)["Evals"]
    assert (found["Status"], found["RunID"], found["Verdict"]["Score"]) == ("done", judging, 5)
    assert runs_of(visitor, "mortal-length") == [judging]
    assert_recorded_once(visitor, visitor.run(judging), given="text")


CONTENT = bytes(range(256)) * 4096 * 11
"""Eleven megabytes: two whole parts and the rest."""


def test_an_upload_in_parts_goes_on_after_the_death_of_everything(mortal: System, visitor: Visitor) -> None:
    run = visitor.submit(a_request(a_step("size", 'wc -c < "$INPUT_IN" > "$OUTPUT_OUT"')))
    path = f"/api/v1/runs/{run['ID']}/uploads/in"
    session = f"{path}/{visitor.post(path, {'Size': len(CONTENT), 'PartSize': '5mb'}, status=201)['ID']}"
    send(visitor, session, 3)
    with half_sent(visitor, session, 1):
        let_die(mortal, visitor)
    assert visitor.get(session)["Parts"] == [{"Number": 3, "Size": MB}]
    send(visitor, session, 1, 2)
    with ThreadPoolExecutor(1) as threads:
        # Its object is put together and cannot be noted.
        with mortal.unwritable("uploads"):
            cut_off = threads.submit(requests.post, f"{mortal.url}{session}/complete", timeout=60)
            visitor.eventually(lambda: any(key.startswith(f"{run['ID']}/in/") for key in whole(mortal.objects())))
            mortal.kill()
        assert isinstance(cut_off.exception(), requests.ConnectionError)
    let_die(mortal, visitor)
    mortal.change_rows("UPDATE upload_sessions SET touched_at = now() - interval '1 hour'")
    assert visitor.post(f"{session}/complete")["WaitingURLs"] == []
    completed(visitor, run["ID"])
    assert visitor.artifact(run["ID"], "out") == b"%d\n" % len(CONTENT)
    assert visitor.artifact(run["ID"], "in") == CONTENT
    assert whole(mortal.objects()) == mortal.objects()


def part(number: int) -> bytes:
    """The bytes of this part."""
    return CONTENT[(number - 1) * 5 * MB : number * 5 * MB]


def send(visitor: Visitor, session: str, *numbers: int) -> None:
    """Each of these parts to where the server says."""
    for each in visitor.post(f"{session}/parts", {"Numbers": list(numbers)})["Parts"]:
        visitor.ask("PUT", each["PutURL"], data=part(each["Number"]))


@contextmanager
def half_sent(visitor: Visitor, session: str, number: int) -> Iterator[None]:
    """Half of the part is on its way during the block, and nothing more comes."""
    (signed,) = visitor.post(f"{session}/parts", {"Numbers": [number]})["Parts"]
    url = urlsplit(signed["PutURL"])
    connection = HTTPConnection(url.netloc, timeout=60)
    try:
        connection.putrequest("PUT", f"{url.path}?{url.query}")
        connection.putheader("Content-Length", str(signed["Size"]))
        connection.endheaders(part(number)[: signed["Size"] // 2])
        yield
    finally:
        connection.close()


def whole(keys: list[str]) -> list[str]:
    """The keys but for those of parts."""
    return [key for key in keys if "/.parts-" not in key]


def test_a_call_that_was_cut_off_is_made_once_when_it_is_repeated(mortal: System, visitor: Visitor) -> None:
    request = {**a_request(a_slow_copy(), Name="mortal-cut"), "Inputs": {"e0": "hello" * 1000}}
    before = set(mortal.objects())
    with cut_call(mortal, request, "cut before it is stored"), mortal.unwritable("runs"):
        visitor.eventually(lambda: bool(set(mortal.objects()) - before))
        mortal.kill()
    (orphan,) = set(mortal.objects()) - before
    let_die(mortal, visitor)
    assert runs_of(visitor, "mortal-cut") == []
    with cut_call(mortal, request, "cut before it is stored"):
        visitor.eventually(lambda: bool(runs_of(visitor, "mortal-cut")))
        await_running(visitor, *runs_of(visitor, "mortal-cut"))
        mortal.kill()
    let_die(mortal, visitor)
    again = visitor.post("/api/v1/runs/sync", request, headers={"Idempotency-Key": "cut before it is stored"})
    assert (again["Status"], again["Outputs"]["out"]["Value"]) == ("COMPLETE", "hello" * 1000)
    assert runs_of(visitor, "mortal-cut") == [again["ID"]]
    assert_recorded_once(visitor, again)
    # Nobody can be writing it any more.
    mortal.change_rows("UPDATE intakes SET doomed_at = now() - interval '1 hour'")
    visitor.eventually(lambda: orphan not in mortal.objects())
    assert {key.partition("/")[0] for key in set(mortal.objects()) - before} == {again["ID"]}


@contextmanager
def cut_call(mortal: System, request: Json, key: str) -> Iterator[None]:
    """The call is made, and waits; by the end of the block it has got no answer."""
    with ThreadPoolExecutor(1) as threads:
        going = threads.submit(
            requests.post,
            f"{mortal.url}/api/v1/runs/sync",
            data=json.dumps(request),
            headers={"Idempotency-Key": key},
            timeout=60,
        )
        yield
        assert isinstance(going.exception(), requests.ConnectionError)
