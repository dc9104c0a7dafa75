"""`pup call` against a server that plays a run."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pupload.answers.runs import OutputAnswer
from pupload.cli.call import Wish, conduct, told
from pupload.cli.exits import UsageError
from tests.support.fake_server import FakeServer, event, gives, moved, sends, streams

MOMENT = "2026-01-02T03:04:05Z"
RUN: dict[str, Any] = {
    "ID": "run_1",
    "FlowName": "letter",
    "Status": "COMPLETE",
    "CreatedAt": MOMENT,
    "StartedAt": MOMENT,
    "FinishedAt": "2026-01-02T03:04:07Z",
    "NodeState": {"a": {"Status": "COMPLETE", "Attempt": 1, "MaxAttempts": 3}},
}
TEXT = {"Value": "HELLO", "URL": "u", "ContentType": "text/plain", "Size": 5, "SHA256": ""}
PICTURE = TEXT | {"Value": None, "ContentType": "image/png", "Size": 2048}
KEPT = {"ID": "file_1", "Uri": "file://file_1", "Name": "", "Size": 3, "ContentType": "", "SHA256": ""}


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with FakeServer() as fake:
        fake.on("GET", "/readyz", gives({}))
        fake.on("POST", "/api/v1/files", gives(KEPT | {"CreatedAt": MOMENT}, 201))
        fake.on("POST", "/api/v1/flows/letter/runs", gives(RUN | {"Status": "RUNNING"}, 202))
        frames = [event(1, "node_started", "a", Attempt=1, Worker="w"), event(9, "run_completed")]
        fake.on("GET", "/api/v1/runs/run_1/events", streams(*frames))
        fake.on("GET", "/api/v1/runs/run_1", gives(RUN))
        fake.on("GET", "/api/v1/runs/run_1/outputs", gives({"letter": TEXT}))
        yield fake


async def called(server: FakeServer, wish: Wish, *, quiet: bool = False, as_json: bool = False) -> int:
    return await conduct(server.url, wish, quiet=quiet, as_json=as_json)


def asked(server: FakeServer) -> Any:
    return next(each.json for each in server.asked if each.path.endswith("/letter/runs"))


async def test_progress_and_outputs_go_different_ways(
    server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.txt").write_bytes(b"123")
    wish = Wish.read("letter", [f"text={tmp_path}/in.txt"], ["by=Ada", "n=a=b"], [], message="m", version="2")
    assert await called(server, wish) == 0
    said = capsys.readouterr()
    assert said.out == "HELLO\n"
    for line in ("in.txt → text, 3b", "run_1: letter, 1 nodes", "a: started on w", "run_1: COMPLETE in 2.0 s"):
        assert line in said.err
    file = {"Uri": "file://file_1"}
    parameters = {"by": "Ada", "n": "a=b"}
    assert asked(server) == {"Inputs": {"text": file}, "Parameters": parameters, "Message": "m", "Version": "2"}


async def test_who_only_waits_hears_of_nothing_but_the_outputs(
    server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await called(server, Wish.read("letter", [], [], []), quiet=True) == 0
    assert capsys.readouterr() == ("HELLO\n", "")


async def test_who_only_waits_hears_of_a_failure(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    error = {"Code": "NODE_EXIT", "Message": "exit code 3", "NodeID": "a"}
    server._answers["GET", "/api/v1/runs/run_1"] = [gives(RUN | {"Status": "ERROR", "Error": error})]
    server._answers["GET", "/api/v1/runs/run_1/outputs"] = [gives({})]
    assert await called(server, Wish.read("letter", [], [], []), quiet=True) == 1
    assert capsys.readouterr() == ("", "pup: run_1: exit code 3 (NODE_EXIT)\n")


async def test_the_run_is_printed_as_json(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert await called(server, Wish.read("letter", [], [], []), as_json=True) == 0
    run = json.loads(capsys.readouterr().out)
    assert (run["Status"], run["Outputs"]["letter"]["Value"]) == ("COMPLETE", "HELLO")


async def test_an_output_that_goes_to_a_file_is_not_printed(
    server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = {"StoreName": "default", "ObjectName": "o", "EdgeName": "letter", "Size": 5}
    server._answers["GET", "/api/v1/runs/run_1"] = [gives(RUN | {"Artifacts": {"letter": artifact}})]
    server.on("GET", "/api/v1/runs/run_1/artifacts/letter", moved(f"{server.url}/bucket/o?s=1"))
    server.on("GET", "/bucket/o", sends(b"HELLO"))
    assert await called(server, Wish.read("letter", [], [], [f"letter={tmp_path}/deep/out.txt"])) == 0
    assert (tmp_path / "deep/out.txt").read_text() == "HELLO"
    assert capsys.readouterr().out == ""


async def test_a_call_that_the_server_refuses_is_the_callers_fault(server: FakeServer) -> None:
    refusal = {"Error": {"Code": "MESSAGE_REQUIRED", "Message": "give a message"}}
    server._answers["POST", "/api/v1/flows/letter/runs"] = [gives(refusal, 422)]
    with pytest.raises(UsageError, match="give a message"):
        await called(server, Wish.read("letter", [], [], []))


def test_outputs_are_told_by_their_edges_where_there_are_several() -> None:
    text, picture = OutputAnswer.model_validate(TEXT), OutputAnswer.model_validate(PICTURE)
    rows = OutputAnswer.model_validate(TEXT | {"Value": {"rows": ["é\x1b"]}})
    assert told({"a": text, "b": picture, "c": rows}, "http://x") == [
        "a: HELLO\n",
        "b: 2kb image/png, at http://x/b\n",
        'c: {"rows": ["é\\u001b"]}\n',
    ]
    assert told({"b": picture}, "http://x") == ["b: 2kb image/png, at http://x/b\n"]
    assert told({"c": rows}, "http://x") == ['{"rows": ["é\\u001b"]}\n']
    assert told({}, "http://x") == []


@pytest.mark.parametrize(
    ("inputs", "parameters", "outputs", "complaint"),
    [
        (["text"], [], [], "-i text: write it as -i EDGE=FILE"),
        (["text=/no/such"], [], [], "no such file: /no/such"),
        ([], ["width"], [], "-p width: write it as -p NAME=VALUE"),
        ([], [], ["a=b", "a=c"], "-o names the edge 'a' twice"),
    ],
)
def test_what_is_no_wish_is_said(inputs: list[str], parameters: list[str], outputs: list[str], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        Wish.read("letter", inputs, parameters, outputs)
