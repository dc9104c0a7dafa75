"""Inputs awaited from outside: presigned URLs, direct uploads, the client's word that it is done."""

import time
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests.support.shell_steps import a_request, a_step
from tests.support.system import System
from tests.support.visitor import Visitor, put_url

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]

TWO_INPUTS = a_request(a_step("join", 'cat "$INPUT_A" "$INPUT_B" > "$OUTPUT_OUT"', reads={"a": "a", "b": "b"}))


@pytest.fixture
def strict(strict_system: System) -> Iterator[Visitor]:
    """Somebody who talks to the system with tight limits."""
    with Visitor(strict_system.url) as visitor:
        yield visitor


def test_a_run_waits_for_its_input_and_ends_by_the_upload_alone(visitor: Visitor) -> None:
    run = visitor.submit(a_request())
    assert (run["Status"], run["StatusReason"]) == ("WAITING", "uploads")
    awaited = [each["Artifact"] for each in run["WaitingURLs"]]
    assert [(each["EdgeName"], each["StoreName"]) for each in awaited] == [("in", "default")]
    assert run["WaitingURLs"][0]["TTL"] == 3600
    visitor.upload(run, "in", b"abc")
    # The stream only listens: nothing but the upload moves the run.
    assert visitor.events(run["ID"])[-1].event == "run_completed"
    assert visitor.run(run["ID"])["WaitingURLs"] == []
    assert visitor.artifact(run["ID"], "out") == b"abc"


def test_an_upload_may_say_what_type_it_thinks_it_is_and_is_not_believed(visitor: Visitor) -> None:
    run = visitor.submit(a_request())
    visitor.ask("PUT", put_url(run, "in"), data=b"abc", headers={"Content-Type": "image/png"})
    assert visitor.ended(run["ID"])["Artifacts"]["in"]["ContentType"] == "text/plain"


def test_a_node_starts_only_when_all_its_inputs_are_there(visitor: Visitor) -> None:
    run = visitor.submit(TWO_INPUTS)
    assert {each["Artifact"]["EdgeName"] for each in run["WaitingURLs"]} == {"a", "b"}
    visitor.upload(run, "a", b"1")
    half = visitor.until(run["ID"], lambda run: len(run["WaitingURLs"]) == 1)
    assert (half["Status"], half["NodeState"]["join"]["Status"]) == ("WAITING", "IDLE")
    visitor.upload(half, "b", b"2")
    visitor.ended(run["ID"])
    assert visitor.artifact(run["ID"], "out") == b"12"


def test_an_upload_url_is_good_for_one_object_and_one_method(visitor: Visitor) -> None:
    run = visitor.submit(a_request())
    url = put_url(run, "in")
    visitor.ask("GET", url, status=403)
    visitor.ask("DELETE", url, status=403)
    parts = urlsplit(url)
    for path in (parts.path + "x", parts.path.replace(run["ID"], "run_another"), "/pupload/other"):
        visitor.ask("PUT", urlunsplit(parts._replace(path=path)), status=403, data=b"abc")
    assert visitor.run(run["ID"])["Status"] == "WAITING"


def test_an_expired_upload_url_is_refused_and_a_fresh_one_is_there(strict: Visitor) -> None:
    run = strict.submit(a_request())
    url = put_url(run, "in")
    time.sleep(run["WaitingURLs"][0]["TTL"] + 1.1)
    answer = strict.http.put(url, data=b"late", timeout=30)
    # 403 by the book; the embedded store's server says 400.
    assert answer.status_code in {400, 403}
    later = strict.status(run["ID"])
    assert later["Status"] == "WAITING"
    strict.upload(later, "in", b"abc")
    assert strict.ended(run["ID"])["Status"] == "COMPLETE"
    assert strict.artifact(run["ID"], "out") == b"abc"


def test_a_direct_upload_starts_the_node_and_is_taken_once(visitor: Visitor) -> None:
    run_id = visitor.submit(a_request())["ID"]
    visitor.ask("PUT", f"/api/v1/runs/{run_id}/inputs/in", status=204, data=b"abc")
    again = visitor.ask("PUT", f"/api/v1/runs/{run_id}/inputs/in", status=409, data=b"other")
    assert again.json()["Error"]["Code"] == "ALREADY_UPLOADED"
    assert visitor.ended(run_id)["Status"] == "COMPLETE"
    assert visitor.artifact(run_id, "out") == b"abc"


def test_a_direct_upload_needs_an_edge_that_is_awaited_and_a_length(visitor: Visitor) -> None:
    run_id = visitor.submit(a_request())["ID"]
    for edge in ("out", "unknown"):
        visitor.ask("PUT", f"/api/v1/runs/{run_id}/inputs/{edge}", status=404, data=b"abc")
    visitor.ask("PUT", f"/api/v1/runs/{run_id}/inputs/in", status=422, data=iter([b"of no", b" known length"]))
    visitor.cancel(run_id)
    visitor.ask("PUT", f"/api/v1/runs/{run_id}/inputs/in", status=409, data=b"abc")


def test_the_client_may_say_that_its_upload_is_done(visitor: Visitor) -> None:
    run = visitor.submit(a_request())
    complete = f"/api/v1/runs/{run['ID']}/uploads/in/complete"
    assert visitor.post(complete, status=409)["Error"]["Code"] == "UPLOAD_MISSING"
    visitor.post(f"/api/v1/runs/{run['ID']}/uploads/unknown/complete", status=404)
    visitor.upload(run, "in", b"abc")
    assert visitor.post(complete)["WaitingURLs"] == []
    assert visitor.ended(run["ID"])["Status"] == "COMPLETE"
    assert visitor.post(complete)["Status"] == "COMPLETE"


def test_too_large_an_upload_is_refused_and_the_run_goes_on_waiting(strict: Visitor) -> None:
    request = a_request(DataWells=[{"Edge": "in", "Source": "upload", "MaxSize": 100}])
    run = strict.submit(request)
    run_id = run["ID"]
    strict.ask("PUT", f"/api/v1/runs/{run_id}/inputs/in", status=413, data=bytes(101))
    with strict.stream(run_id) as frames:
        strict.upload(run, "in", bytes(101))
        assert next(frame.data["Data"] for frame in frames if "Refused" in frame.data["Data"])["Edge"] == "in"
    later = strict.run(run_id)
    assert later["Status"] == "WAITING"
    strict.upload(later, "in", bytes(100))
    assert strict.ended(run_id)["Artifacts"]["out"]["Size"] == 100


def test_an_empty_file_is_a_file(visitor: Visitor) -> None:
    run = visitor.complete(a_request(), **{"in": b""})
    assert run["Artifacts"]["out"]["Size"] == 0
    assert visitor.artifact(run["ID"], "out") == b""


def test_a_large_file_goes_through_unchanged(visitor: Visitor) -> None:
    content = bytes(range(256)) * 4096 * 20
    run = visitor.complete(a_request(), **{"in": content})
    assert visitor.artifact(run["ID"], "out") == content
