"""Files that are sent once and used by many runs."""

from typing import Any

import pytest

from tests.support.shell_steps import a_request
from tests.support.visitor import Visitor

pytestmark = [pytest.mark.acceptance, pytest.mark.usefixtures("system")]

Json = dict[str, Any]
FILES = "/api/v1/files"


def test_a_file_is_sent_once_and_read_by_runs_and_people(visitor: Visitor) -> None:
    content = bytes(range(256)) * 10_000
    file = visitor.ask("POST", f"{FILES}?name=all.bin", status=201, data=content).json()
    assert (file["Uri"], file["Name"], file["Size"]) == (f"file://{file['ID']}", "all.bin", len(content))
    back = visitor.ask("GET", f"{FILES}/{file['ID']}")
    assert back.content == content
    assert back.headers["Content-Type"] == file["ContentType"]
    assert back.headers["X-Content-Type-Options"] == "nosniff"
    assert back.headers["Content-Disposition"].startswith("attachment")
    runs = [
        visitor.post("/api/v1/runs", a_request() | {"Inputs": {"in": {"Uri": file["Uri"]}}}, status=202)["ID"]
        for _ in range(2)
    ]
    for run_id in runs:
        assert visitor.ended(run_id)["Status"] == "COMPLETE"
        assert visitor.artifact(run_id, "out") == content
        visitor.ask("DELETE", f"/api/v1/runs/{run_id}", status=204)
    assert visitor.ask("GET", f"{FILES}/{file['ID']}").content == content
    visitor.ask("DELETE", f"{FILES}/{file['ID']}", status=204)
    visitor.ask("GET", f"{FILES}/{file['ID']}", status=404)


def test_a_form_is_taken_too_and_listed(visitor: Visitor) -> None:
    form = {"file": ("notes.txt", b"some notes", "application/x-lies")}
    file = visitor.ask("POST", FILES, status=201, files=form).json()
    assert (file["Name"], file["ContentType"]) == ("notes.txt", "text/plain")
    assert visitor.get(f"{FILES}?limit=1")["Files"] == [file]
    visitor.ask("DELETE", f"{FILES}/{file['ID']}", status=204)


def test_a_file_that_is_not_there_is_no_input(visitor: Visitor) -> None:
    body = a_request() | {"Inputs": {"in": {"Uri": "file://file_0123456789ab"}}}
    assert visitor.post("/api/v1/runs", body, status=422)["Error"]["Code"] == "FILE_NOT_FOUND"
