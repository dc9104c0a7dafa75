"""What is posted: valid, invalid, repeated, enormous, and garbage of every kind."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.flows import REFERENCE
from tests.support.shell_steps import Json, a_request, a_source, a_step
from tests.support.system import System
from tests.support.visitor import Visitor

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]

JSON = {"Content-Type": "application/json"}
LONE_SURROGATE = r'"\ud800"'
NUL = r'"a\u0000b"'


@pytest.fixture
def strict(strict_system: System) -> Iterator[Visitor]:
    """Somebody who talks to the system with tight limits."""
    with Visitor(strict_system.url) as visitor:
        yield visitor


def in_place(value: str, *path: str | int) -> str:
    """The reference example with the JSON text `value` at `path`."""
    request = json.loads(json.dumps(REFERENCE))
    at = request
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = "@@"
    return json.dumps(request).replace('"@@"', value)


NODE = ("Flow", "Nodes", 0)
DEF = ("NodeDefs", 0)
GARBAGE: dict[str, str | bytes] = {
    "nothing": b"",
    "a blank": b" ",
    "half an object": b'{"Flow": {',
    "not UTF-8": b'{"Flow": "\xff\xfe"}',
    "UTF-16": '{"Flow": {}, "NodeDefs": []}'.encode("utf-16"),
    "NUL bytes": bytes(100),
    "binary": bytes(range(256)),
    "two values": b"{} {}",
    "null": b"null",
    "true": b"true",
    "a number": b"1e400",
    "a text": b'"flow"',
    "a list": b"[[]]",
    "an empty object": b"{}",
    "a flow alone": json.dumps({"Flow": REFERENCE["Flow"]}),
    "definitions alone": json.dumps({"NodeDefs": REFERENCE["NodeDefs"]}),
    "empty members": b'{"Flow": {}, "NodeDefs": []}',
    "members that are null": b'{"Flow": null, "NodeDefs": null}',
    "a flow that is a list": in_place("[]", "Flow"),
    "a flow that is a text": in_place('"flow"', "Flow"),
    "definitions that are an object": in_place("{}", "NodeDefs"),
    "a definition that is null": in_place("null", "NodeDefs", 0),
    "nodes that are a number": in_place("7", "Flow", "Nodes"),
    "a node that is a list": in_place("[]", "Flow", "Nodes", 0),
    "a node without members": in_place("{}", "Flow", "Nodes", 0),
    "a node id that is an object": in_place("{}", *NODE, "ID"),
    "a node id that is a path": in_place('"../../etc"', *NODE, "ID"),
    "inputs that are a text": in_place('"image"', *NODE, "Inputs"),
    "an input that is a number": in_place("3", *NODE, "Inputs", 0),
    "an edge that is true": in_place("true", *NODE, "Inputs", 0, "Edge"),
    "an edge with a line break": in_place(r'"a\nb"', *NODE, "Inputs", 0, "Edge"),
    "a flag's value that is an object": in_place("{}", *NODE, "Flags", 0, "Value"),
    "NUL in a name": in_place(NUL, "Flow", "Name"),
    "NUL in a flag": in_place(NUL, *NODE, "Flags", 0, "Value"),
    "NUL in a member's name": in_place(r'{"a\u0000": 1}', "Flow"),
    "half a surrogate pair in a name": in_place(LONE_SURROGATE, "Flow", "Name"),
    "half a surrogate pair in an image": in_place(LONE_SURROGATE, *DEF, "Image"),
    "half a surrogate pair in a member's name": in_place(r'{"\udfff": 1}', "Flow"),
    "a huge number of attempts": in_place("9" * 30, *DEF, "MaxAttempts"),
    "a number of 5,000 digits": in_place("9" * 5000, *DEF, "MaxAttempts"),
    "attempts without end": in_place("Infinity", *DEF, "MaxAttempts"),
    "attempts that are no number": in_place("NaN", *DEF, "MaxAttempts"),
    "attempts below zero": in_place("-1", *DEF, "MaxAttempts"),
    "half an attempt": in_place("1.5", *DEF, "MaxAttempts"),
    "a timeout of ages": in_place('"99999999999999999999h"', "Flow", "Timeout"),
    "a timeout that is a list": in_place("[1]", "Flow", "Timeout"),
    "lists in lists": b"[" * 100_000,
    "lists in lists that close": b"[" * 50_000 + b"]" * 50_000,
    "objects in objects": '{"Flow":' * 500 + "1" + "}" * 500,
    "depth in a harmless place": in_place("[" * 200 + "]" * 200, "Flow", "Evals"),
    "a member in two spellings": in_place('{"Name": "a", "name": "b", "Nodes": []}', "Flow"),
    "a text of a million letters": in_place(json.dumps("a" * 1_000_000), "Flow", "Name"),
    "an image with blanks": in_place('"rm -rf /"', *DEF, "Image"),
    "a tier that is an object": in_place("{}", *DEF, "Tier"),
    "an environment that is a list": in_place('["A=1"]', *DEF, "Env"),
    "an environment with a bad name": in_place('{"A=B": "1"}', *DEF, "Env"),
    "a quotation that does not end": in_place('{"Name": "x", "Exec": "sh -c \'"}', *DEF, "Command"),
    "types that are no types": in_place('[{"Name": "image", "Type": ["///", 7]}]', *DEF, "Inputs"),
    "a store of nothing": in_place("[{}]", "Flow", "Stores"),
    "a well of nothing": in_place("[{}]", "Flow", "DataWells"),
    "parameters that are an object": in_place('{"a": 1}', "Flow", "Parameters"),
}


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_is_refused_with_a_clear_text(visitor: Visitor, what: str) -> None:
    body = GARBAGE[what]
    sent = body if isinstance(body, bytes) else body.encode()
    answer = visitor.ask("POST", "/api/v1/flow/test", status=400, data=sent, headers=JSON)
    error = answer.json()["error"]
    assert error["Code"]
    assert error["RequestID"]
    assert 0 < len(error["Message"]) < 2000


def test_what_only_looks_like_garbage_runs_or_is_refused_but_breaks_nothing(visitor: Visitor) -> None:
    harmless = [
        in_place('"a", "Name": "b"', "Flow", "Name"),
        in_place(r'"\ud83d\ude00 \u202e \u001b[31m"', "Flow", "Name"),
        in_place("0", *DEF, "MaxAttempts"),
        in_place("1e2", *DEF, "MaxAttempts"),
        in_place("null", *NODE, "Flags"),
        in_place('"' + "x" * 60_000 + '"', *NODE, "Flags", 0, "Value"),
        "\ufeff" + json.dumps(REFERENCE),
    ]
    for body in harmless:
        answer = visitor.http.post(visitor.url + "/api/v1/flow/test", data=body.encode(), headers=JSON, timeout=30)
        assert answer.status_code in {200, 400}, (body[:200], answer.text)
        if answer.status_code == 200:
            visitor.cancel(answer.json()["ID"])


def test_nothing_is_lost_by_garbage_at_once(visitor: Visitor) -> None:
    run = visitor.submit(a_request())
    bodies = [body if isinstance(body, bytes) else body.encode() for body in GARBAGE.values()]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda body: _posted(visitor.url, body), bodies))
    assert set(found) == {400}
    visitor.upload(run, "in", b"abc")
    assert visitor.ended(run["ID"])["Status"] == "COMPLETE"


def _posted(url: str, body: bytes) -> int:
    with Visitor(url) as other:
        return other.http.post(url + "/api/v1/flow/test", data=body, headers=JSON, timeout=60).status_code


def test_odd_paths_and_queries_are_refused_in_the_shape_of_an_error(visitor: Visitor) -> None:
    for method, path, status in (
        ("GET", "/", 404), ("GET", "/api/v1/nothing", 404), ("DELETE", "/api/v1/runs", 405),
        ("GET", "/api/v1/runs?limit=many", 422), ("GET", "/api/v1/runs?limit=0", 422),
        ("GET", "/api/v1/runs?status=SLEEPING", 422), ("GET", "/api/v1/runs/%00", 404),
        ("GET", "/api/v1/runs/%ED%A0%80", 404), ("GET", "/api/v1/runs/" + "x" * 4000, 404),
        ("POST", "/api/v1/runs/%00/cancel", 404), ("GET", "/api/v1/runs/%00/events", 404),
        ("PUT", "/api/v1/runs/%00/inputs/%00", 404), ("GET", "/api/v1/runs/%00/artifacts/%00", 404),
        ("POST", "/api/v1/runs/%00/uploads/%00/complete", 404), ("GET", "/api/v1/runs/%00/nodes/%00/logs", 404),
        ("DELETE", "/api/v1/runs/%00", 404), ("GET", "/api/v1/runs?cursor=%00", 422),
        ("GET", "/api/v1/runs?flow=%00", 422), ("GET", "/api/v1/runs?session=%00", 422),
    ):  # fmt: skip
        error = visitor.ask(method, path, status=status, data=b"" if method in {"PUT", "POST"} else None).json()[
            "Error"
        ]
        assert error["Code"], path
        assert error["Details"] == [], path
    unknown = visitor.ask("GET", "/api/v1/flow/status/%00", status=400)
    assert unknown.text == "Flow run does not exist."


def test_too_large_a_body_is_refused(strict: Visitor) -> None:
    body = json.dumps({"Flow": {"Name": "x" * 200_000}, "NodeDefs": []}).encode()
    assert strict.ask("POST", "/api/v1/flow/test", status=413, data=body, headers=JSON).json()["error"]["Message"]


def test_more_nodes_than_the_server_takes_are_refused(strict: Visitor) -> None:
    steps = [a_source(f"n{i}", "true", writes={}) for i in range(11)]
    error = strict.submit(a_request(*steps), status=400)["error"]
    assert "11" in json.dumps(error)
    assert "10" in json.dumps(error)


def test_all_findings_come_at_once_each_with_its_code_and_path(visitor: Visitor) -> None:
    circle = a_request(
        a_step("one", reads={"in": "b"}, writes={"out": "a"}),
        a_step("two", reads={"in": "a"}, writes={"out": "b"}),
        Timeout="soon",
    )
    circle["Flow"]["Nodes"].append({"ID": "lost", "Uses": "nobody/nothing"})
    error = visitor.submit(circle, status=400)["error"]
    found = {each["Code"]: each for each in error["Details"]}
    assert {"FLOW_001", "FLOW_003", "NODE_001"} <= found.keys()
    assert found["NODE_001"]["Name"] == "NodeDefNotFound"
    assert found["NODE_001"]["Path"] == "$.Flow.Nodes[2].Uses"
    assert "one" in found["FLOW_001"]["Message"]
    assert "two" in found["FLOW_001"]["Message"]
    assert all(each["Severity"] in {"error", "warning"} and each["Message"] for each in error["Details"])


def test_types_that_never_meet_are_refused(visitor: Visitor) -> None:
    maker = a_source("maker", "true", writes={"out": "mid"}, Outputs=[{"Name": "out", "Type": ["image/png"]}])
    taker = a_step("taker", reads={"in": "mid"}, Inputs=[{"Name": "in", "Type": ["text/*"]}], Outputs=[{"Name": "out"}])
    error = visitor.submit(a_request(maker, taker), status=400)["error"]
    assert [each["Code"] for each in error["Details"]] == ["EDGE_003"]


def test_an_unknown_member_is_ignored_here_as_clients_may_send_newer_documents(visitor: Visitor) -> None:
    request: Json = json.loads(json.dumps(REFERENCE))
    request["Flow"]["FromTheFuture"] = {"a": 1}
    request["NodeDefs"][0]["AlsoNew"] = True
    assert visitor.submit(request)["Status"] == "WAITING"


def test_members_are_read_in_any_spelling(visitor: Visitor) -> None:
    nodes = [{"id": "copy", "USES": "test/copy", "inputs": [{"name": "in", "edge": "in"}], "Outputs": []}]
    defs = [{"publisher": "test", "NAME": "copy", "image": "pupload/busybox:latest", "max_attempts": 7}]
    run = visitor.submit({"flow": {"name": "x", "nodes": nodes}, "node_defs": defs})
    assert run["NodeState"]["copy"]["MaxAttempts"] == 7


def test_one_idempotency_key_makes_one_run(visitor: Visitor) -> None:
    request, key = a_request(), {"Idempotency-Key": "once and no more"}
    first = visitor.submit(request, headers=key)
    assert visitor.submit(request, headers=key)["ID"] == first["ID"]
    other = a_request(Name="another")
    refused = visitor.submit(other, status=409, headers=key)["error"]
    assert refused["Code"] == "IDEMPOTENCY_CONFLICT"
    assert visitor.submit(request)["ID"] != first["ID"]


def test_an_idempotency_key_that_is_no_text_is_refused(visitor: Visitor) -> None:
    for key in (b"\xff\xfe", b"x" * 256, b""):
        visitor.submit(a_request(), status=400, headers={"Idempotency-Key": key})


def test_one_idempotency_key_makes_one_run_when_all_ask_at_once(visitor: Visitor) -> None:
    request, key = a_request(), {"Idempotency-Key": "all at once"}
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: _submitted(visitor.url, request, key), range(16)))
    assert len(ids) == 1
    visitor.cancel(ids.pop())


def _submitted(url: str, request: Json, headers: dict[str, str]) -> str:
    with Visitor(url) as other:
        return str(other.submit(request, headers=headers)["ID"])


def test_a_flow_of_nine_thousand_nodes_is_stored_and_answered(visitor: Visitor) -> None:
    nodes = [
        {"ID": f"n{i}", "Uses": "t/copy", "Inputs": [{"Name": "in", "Edge": f"e{i}"}],
         "Outputs": [{"Name": "out", "Edge": f"e{i + 1}"}]}
        for i in range(9000)
    ]  # fmt: skip
    defs = [{"Publisher": "t", "Name": "copy", "Image": "pupload/busybox:latest"}]
    run = visitor.submit({"Flow": {"Name": "long", "Nodes": nodes}, "NodeDefs": defs})
    assert (run["Status"], run["Counts"]["Remaining"], len(run["NodeState"])) == ("WAITING", 9000, 9000)
    assert [each["Artifact"]["EdgeName"] for each in run["WaitingURLs"]] == ["e0"]
    assert len(visitor.status(run["ID"])["NodeState"]) == 9000
    visitor.cancel(run["ID"])
    assert visitor.ended(run["ID"])["Status"] == "STOPPED"
    visitor.ask("DELETE", f"/api/v1/runs/{run['ID']}", status=204)
