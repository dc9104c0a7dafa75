"""Attachments: fetched straight into the containers that take them, and stored nowhere."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.shell_steps import a_request, a_source, a_step
from tests.support.system import System
from tests.support.visitor import Visitor, told
from tests.support.web_server import Reply, WebServer

pytestmark = [pytest.mark.acceptance, pytest.mark.usefixtures("system")]

Json = dict[str, Any]
RUNS = "/api/v1/runs"
SIZE = 'cat "$PUP_ATTACHMENTS"/notes.txt | wc -c > "$OUTPUT_OUT"'
ANY = a_request(a_source("size", SIZE, Attachments=True))


def objects(system: System) -> set[Path]:
    """Every file that the embedded store holds."""
    return {path for path in (system.data / "store").rglob("*") if path.is_file()}


def refused(visitor: Visitor, body: Json, status: int) -> str:
    before = visitor.get(RUNS)["Runs"]
    code = str(visitor.post(RUNS, body, status=status)["Error"]["Code"])
    assert visitor.get(RUNS)["Runs"] == before
    return code


def test_an_attachment_is_read_by_its_node_and_stored_nowhere(
    visitor: Visitor, system: System, strangers: WebServer
) -> None:
    url = strangers.on("/a/notes.txt", Reply(body=b"a stranger's secret notes"))
    run = visitor.post(RUNS, ANY | {"Attachments": [{"Uri": url + "?token=verysecret"}]}, status=202)
    ended = visitor.ended(run["ID"])
    assert ended["Status"] == "COMPLETE", told(ended)
    assert visitor.artifact(run["ID"], "out").strip() == b"25"
    kept = [path for path in objects(system) if b"secret notes" in path.read_bytes()]
    assert objects(system)
    assert kept == []
    answers = [
        visitor.ask("GET", f"{RUNS}/{run['ID']}").text,
        *(str(frame.data) for frame in visitor.events(run["ID"])),
    ]
    assert not any("verysecret" in text for text in [*answers, system.log])


def test_only_nodes_that_take_its_type_get_it(visitor: Visitor, strangers: WebServer) -> None:
    url = strangers.on("/notes.txt", Reply(body=b"notes"))
    look = 'ls /pup > "$OUTPUT_OUT"; cat "$INPUT_IN" > /dev/null'
    request = a_request(
        a_step(
            "takes", look, writes={"out": "one"}, Inputs=[{"Name": "in", "Type": "text/*"}], Outputs=[{"Name": "out"}]
        ),
        a_source("not", 'ls /pup > "$OUTPUT_OUT"', writes={"out": "two"}),
    )
    body = request | {"Inputs": {"in": "x"}, "Attachments": [{"Uri": url}]}
    run = visitor.post(RUNS, body, status=202)
    assert visitor.ended(run["ID"])["Status"] == "COMPLETE"
    assert b"attachments" in visitor.artifact(run["ID"], "one")
    assert b"attachments" not in visitor.artifact(run["ID"], "two")


def test_a_bad_attachment_is_refused_before_there_is_a_run(visitor: Visitor, strangers: WebServer) -> None:
    good = {"Uri": strangers.on("/never", Reply(body=b"notes"))}
    cases: list[tuple[list[Json], str]] = [
        ([good | {"Name": f"a{number}"} for number in range(11)], "INVALID_REQUEST"),
        ([{"Uri": "http://example.com/notes.txt"}], "URI_NOT_ALLOWED"),
        ([{"Uri": "https://example.com/" + "x" * 2029}], "URI_NOT_ALLOWED"),
        ([{"Uri": "https://127.0.0.1/notes.txt"}], "URI_NOT_ALLOWED"),
        ([{"Uri": "data:text/plain,abc"}], "URI_NOT_ALLOWED"),
        ([good | {"Name": "../notes.txt"}], "ATTACHMENT_NAME_INVALID"),
        ([good | {"Name": "a"}, good | {"Name": "a"}], "ATTACHMENT_NAME_INVALID"),
        ([good | {"ContentType": "picture"}], "ATTACHMENT_TYPE_INVALID"),
    ]
    for attachments, code in cases:
        assert refused(visitor, ANY | {"Attachments": attachments}, 422) == code
    assert strangers.asked("/never") == []


def test_a_type_that_no_node_takes_is_refused_before_there_is_a_run(visitor: Visitor) -> None:
    request = a_request(a_step(Inputs=[{"Name": "in", "Type": "image/png"}], Outputs=[{"Name": "out"}]))
    for attachment in (
        {"Uri": "https://example.com/cat.gif"},
        {"Uri": "https://example.com/cat", "ContentType": "image/gif"},
        {"Uri": "https://example.com/cat"},
    ):
        assert refused(visitor, request | {"Attachments": [attachment]}, 400) == "NODE_MIME_INCOMPATIBLE"
