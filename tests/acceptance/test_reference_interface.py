"""The two routes of the reference interface, and its example as it stands."""

import json
from datetime import datetime
from pathlib import Path

import pytest

from tests.support.flows import REFERENCE
from tests.support.shell_steps import Json, a_request, a_step
from tests.support.visitor import Visitor

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]

RUN_STATUSES = {"STOPPED", "WAITING", "RUNNING", "COMPLETE", "ERROR"}
PHOTO = Path(__file__).parents[2] / "examples/image-resize/photo.jpg"


def nulls(value: object, path: str = "$") -> list[str]:
    """The paths of members that are null."""
    match value:
        case None:
            return [path]
        case dict():
            return [found for name, each in value.items() for found in nulls(each, f"{path}.{name}")]
        case list():
            return [found for index, each in enumerate(value) for found in nulls(each, f"{path}[{index}]")]
        case _:
            return []


def a_copying_reference() -> Json:
    """The reference example word for word, but with an image that copies its input and a def that says how."""
    request: Json = json.loads(json.dumps(REFERENCE))
    _, nodedef = a_step(script='cat "$INPUT_IMAGE" > "$OUTPUT_RESIZED"; echo "width $FLAG_WIDTH"')
    request["NodeDefs"][0] |= {"Image": nodedef["Image"], "Command": nodedef["Command"]}
    return request


def test_the_reference_example_is_answered_as_it_stands(visitor: Visitor) -> None:
    run = visitor.submit(REFERENCE)
    state = run["NodeState"]["resize-1"]
    assert run["ID"].startswith("run_")
    assert run["Status"] in RUN_STATUSES
    assert run["FlowName"] == "image-resize"
    assert (state["Status"], state["Attempt"], state["MaxAttempts"]) == ("IDLE", 0, 3)
    assert (state["Logs"], state["Error"], run["Error"]) == ([], "", {})
    assert run["Artifacts"] == {}
    assert datetime.fromisoformat(run["StartedAt"]).tzinfo is not None
    assert [each["Artifact"]["EdgeName"] for each in run["WaitingURLs"]] == ["input-image"]
    assert {path.rpartition(".")[2] for path in nulls(run)} <= {"FinishedAt", "StartedAt", "DurationMS", "ExitCode"}


def test_the_reference_example_runs_to_its_end_with_an_image_that_copies(visitor: Visitor) -> None:
    first = visitor.submit(a_copying_reference())
    visitor.upload(first, "input-image", PHOTO.read_bytes())
    run = visitor.ended(first["ID"])
    assert run["Status"] == "COMPLETE"
    assert run.keys() == first.keys()
    assert run["Artifacts"]["output-image"]["ContentType"] == "image/jpeg"
    assert visitor.artifact(run["ID"], "output-image") == PHOTO.read_bytes()
    assert [line["message"] for line in run["NodeState"]["resize-1"]["Logs"]] == ["width 800"]


def test_both_routes_tell_the_same_of_a_run(visitor: Visitor) -> None:
    run = visitor.complete(a_request(), **{"in": b"abc"})
    assert visitor.run(run["ID"]) == visitor.status(run["ID"]) == run


def test_the_first_answer_that_says_complete_has_every_declared_output(visitor: Visitor) -> None:
    split = a_step("split", 'cat "$INPUT_IN" | tee "$OUTPUT_A" > "$OUTPUT_B"', writes={"a": "a", "b": "b"})
    requests = [a_request(split) for _ in range(4)]
    ids = [visitor.start(request, **{"in": b"abc"}) for request in requests]
    for run_id in ids:
        assert {"a", "b"} <= visitor.ended(run_id)["Artifacts"].keys()


def test_an_artifact_says_where_it_is_and_what_it_holds(visitor: Visitor) -> None:
    run = visitor.complete(a_request(), **{"in": b"abc"})
    assert run["Artifacts"]["out"] == {
        "StoreName": "default",
        "ObjectName": f"{run['ID']}/out/1.txt",
        "EdgeName": "out",
        "Size": 3,
        "ContentType": "text/plain",
        "SHA256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    }


def test_an_unknown_run_gets_the_exact_text_on_the_reference_route(visitor: Visitor) -> None:
    answer = visitor.ask("GET", "/api/v1/flow/status/run_unknown", status=400)
    assert answer.content == b"Flow run does not exist."
    assert answer.headers["Content-Type"].startswith("text/plain")


def test_an_unknown_run_is_not_found_on_the_native_routes(visitor: Visitor) -> None:
    for method, path in (
        ("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/events"), ("GET", "/nodes/n/logs"),
        ("GET", "/artifacts/e"), ("PUT", "/inputs/e"), ("POST", "/uploads/e/complete"),
    ):  # fmt: skip
        error = visitor.ask(method, f"/api/v1/runs/run_unknown{path}", status=404, data=b"").json()["Error"]
        assert error["Code"] in {"RUN_NOT_FOUND", "EDGE_NOT_FOUND"}, (method, path, error)
        assert error["Message"]
        assert error["RequestID"]
    assert visitor.get("/api/v1/runs/run_unknown", status=404)["Error"]["Code"] == "RUN_NOT_FOUND"
