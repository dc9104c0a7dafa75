"""Uploads in parts: begun, left, gone on with where they were, completed."""

import io

import pytest

from tests.support.shell_steps import a_request, a_step
from tests.support.visitor import Json, Visitor

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]

MB = 1024 * 1024
CONTENT = bytes(range(256)) * 4096 * 11
"""Eleven megabytes: two whole parts and the rest."""


def send(visitor: Visitor, session: str, *numbers: int) -> None:
    """Each of these parts to where the server says."""
    for part in visitor.post(f"{session}/parts", {"Numbers": list(numbers)})["Parts"]:
        start = (part["Number"] - 1) * 5 * MB
        visitor.ask("PUT", part["PutURL"], data=io.BytesIO(CONTENT[start : start + part["Size"]]))


def begun(visitor: Visitor, run: Json) -> str:
    """The path of a new session for edge `in`."""
    path = f"/api/v1/runs/{run['ID']}/uploads/in"
    return f"{path}/{visitor.post(path, {'Size': len(CONTENT), 'PartSize': '5mb'}, status=201)['ID']}"


def test_a_large_file_comes_in_parts_and_is_gone_on_with(visitor: Visitor) -> None:
    run = visitor.submit(a_request(a_step(script='wc -c < "$INPUT_IN" > "$OUTPUT_OUT"')))
    session = begun(visitor, run)
    send(visitor, session, 3)
    assert visitor.get(session)["Parts"] == [{"Number": 3, "Size": MB}]
    missing = visitor.post(f"{session}/complete", status=409)["Error"]
    assert (missing["Code"], missing["Details"]) == ("UPLOAD_INCOMPLETE", [1, 2])
    send(visitor, session, 2, 1)
    assert visitor.post(f"{session}/complete")["WaitingURLs"] == []
    assert visitor.ended(run["ID"])["Status"] == "COMPLETE"
    assert visitor.artifact(run["ID"], "out") == b"%d\n" % len(CONTENT)
    assert visitor.artifact(run["ID"], "in") == CONTENT
    assert visitor.post(f"{session}/complete")["Status"] == "COMPLETE"


def test_an_aborted_upload_leaves_nothing_and_the_run_waits_on(visitor: Visitor) -> None:
    run = visitor.submit(a_request())
    session = begun(visitor, run)
    send(visitor, session, 1)
    visitor.ask("DELETE", session, status=204)
    assert visitor.get(session)["Status"] == "aborted"
    visitor.post(f"{session}/complete", status=409)
    visitor.upload(visitor.run(run["ID"]), "in", b"abc")
    assert visitor.ended(run["ID"])["Status"] == "COMPLETE"
