"""Inputs that come with the request: the text itself, a URL, a data URI, a file that was sent before."""

from typing import Any

import pytest

from tests.support.shell_steps import a_request, a_step
from tests.support.visitor import Visitor
from tests.support.web_server import Reply, WebServer, a_web_server, endless, redirect

pytestmark = [pytest.mark.acceptance, pytest.mark.usefixtures("system")]

Json = dict[str, Any]
RUNS = "/api/v1/runs"


def given(**inputs: Any) -> Json:
    return a_request() | {"Inputs": inputs}


def copied(visitor: Visitor, value: Any) -> bytes:
    """What a node made of the input that it was given."""
    run = visitor.post(RUNS, given(**{"in": value}), status=202)
    assert run["WaitingURLs"] == []
    assert visitor.ended(run["ID"])["Status"] == "COMPLETE"
    return visitor.artifact(run["ID"], "out")


def refused(visitor: Visitor, body: Json, status: int) -> str:
    before = visitor.get(RUNS)["Runs"]
    code = str(visitor.post(RUNS, body, status=status)["Error"]["Code"])
    assert visitor.get(RUNS)["Runs"] == before
    return code


def test_a_file_at_a_url_arrives_also_by_redirect(visitor: Visitor, strangers: WebServer) -> None:
    strangers.on("/file", Reply(body=b"from afar"))
    url = strangers.on("/moved", redirect("/file"))
    assert copied(visitor, {"uri": url, "name": "file.txt"}) == b"from afar"


def test_a_data_uri_arrives(visitor: Visitor) -> None:
    assert copied(visitor, {"Uri": "data:text/plain;base64,YWJj"}) == b"abc"
    bad = given(**{"in": {"Uri": "data:text/plain;base64,YWJ!"}})
    assert refused(visitor, bad, 422) == "DATA_URI_INVALID"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1"]
)
def test_nothing_of_this_machine_is_ever_asked(visitor: Visitor, strangers: WebServer, host: str) -> None:
    with a_web_server() as inside:
        for scheme in ("http", "https"):
            url = f"{scheme}://{host}:{inside.port}/secret"
            moved = strangers.on("/moved", redirect(url))
            for uri in (url, moved):
                assert refused(visitor, given(**{"in": {"Uri": uri}}), 422) == "URI_NOT_ALLOWED"
        assert inside.seen == []


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "169.254.169.254", "192.168.1.1", "[fd00:ec2::254]", "[64:ff9b::a9fe:a9fe]"]
)
def test_no_private_address_is_ever_asked(visitor: Visitor, host: str) -> None:
    assert refused(visitor, given(**{"in": {"Uri": f"https://{host}/latest/"}}), 422) == "URI_NOT_ALLOWED"


def test_too_large_a_file_is_refused_with_and_without_a_length(visitor: Visitor, strangers: WebServer) -> None:
    large = {"Content-Length": str(26 * 1024**2)}
    for url in (
        strangers.on("/large", Reply(headers=large, sized=False)),
        strangers.on("/endless", endless()),
    ):
        assert refused(visitor, given(**{"in": {"Uri": url}}), 413) == "URI_TOO_LARGE"


def test_a_file_that_cannot_be_had_says_why_and_not_by_what_secret(visitor: Visitor, strangers: WebServer) -> None:
    body = given(**{"in": {"Uri": strangers.url + "/none?token=verysecret"}})
    error = visitor.post(RUNS, body, status=422)["Error"]
    assert error["Code"] == "URI_NOT_FETCHED"
    assert "answered 404" in error["Message"]
    assert "verysecret" not in error["Message"]


def test_an_edge_that_cannot_be_given_is_named(visitor: Visitor) -> None:
    for edge, code in (("nowhere", "EDGE_NOT_FOUND"), ("out", "EDGE_NOT_AN_INPUT")):
        error = visitor.post(RUNS, given(**{edge: "x"}), status=422)["Error"]
        assert error["Code"] == code
        assert repr(edge) in error["Message"]


def test_the_type_is_that_of_the_bytes(visitor: Visitor) -> None:
    request = a_request(a_step(Inputs=[{"Name": "in", "Type": "image/png"}], Outputs=[{"Name": "out"}]))
    run = visitor.post(RUNS, request | {"Inputs": {"in": {"Uri": "data:image/png;base64,YWJj"}}}, status=202)
    ended = visitor.ended(run["ID"])
    assert (ended["Status"], ended["Error"]["Code"]) == ("ERROR", "NODE_TYPE")
