"""Data wells: where objects come from, and the names they get."""

import re

import pytest

from tests.support.shell_steps import Json, a_request, a_source, a_step
from tests.support.visitor import Visitor

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]


def kept_at(key: str, **flow: object) -> Json:
    """A flow whose output goes to the key."""
    return a_request(DataWells=[{"Edge": "out", "Key": key}], **flow)


def codes(error: Json) -> list[str]:
    return [each["Code"] for each in error["error"]["Details"]]


def test_a_key_of_its_own_names_the_object(visitor: Visitor) -> None:
    key = "kept/${FLOW_NAME}/${YEAR}-${MONTH}-${DAY}/$EDGE/${NODE_ID}-${RUN_ID}-$ATTEMPT-$$.txt"
    run = visitor.complete(kept_at(key, Name="named"), **{"in": b"abc"})
    day = run["CreatedAt"][:10]
    assert run["Artifacts"]["out"]["ObjectName"] == f"kept/named/{day}/out/copy-{run['ID']}-1-$.txt"
    assert visitor.artifact(run["ID"], "out") == b"abc"


def test_a_key_knows_the_parameters_of_the_flow(visitor: Visitor) -> None:
    parameters = [{"Name": "client", "Type": "string", "Default": "acme"}]
    run = visitor.complete(kept_at("${PARAM.client}/${UUID}", Parameters=parameters), **{"in": b"abc"})
    assert re.fullmatch(r"acme/[0-9a-f-]{32,36}", run["Artifacts"]["out"]["ObjectName"])


def test_the_accepted_attempt_is_what_lies_at_the_key(visitor: Visitor) -> None:
    late = a_step(script='[ "$PUP_ATTEMPT" = 2 ] || exit 1; cat "$INPUT_IN" > "$OUTPUT_OUT"', Retry={"Delay": "10ms"})
    run = visitor.complete(a_request(late, DataWells=[{"Edge": "out", "Key": "tries/$RUN_ID"}]), **{"in": b"abc"})
    assert run["Artifacts"]["out"]["ObjectName"] == f"tries/{run['ID']}"
    assert visitor.artifact(run["ID"], "out") == b"abc"


def test_an_object_under_a_key_of_its_own_feeds_the_next_node(visitor: Visitor) -> None:
    request = a_request(
        a_step("first", writes={"out": "mid"}),
        a_step("second", reads={"in": "mid"}),
        DataWells=[{"Edge": "mid", "Key": "between/${RUN_ID}"}],
    )
    run = visitor.complete(request, **{"in": b"abc"})
    assert run["Artifacts"]["mid"]["ObjectName"] == f"between/{run['ID']}"
    assert visitor.artifact(run["ID"], "out") == b"abc"


def test_an_upload_goes_to_the_key_of_its_well(visitor: Visitor) -> None:
    wells = [{"Edge": "in", "Source": "upload", "Key": "inbox/${RUN_ID}/photo.txt"}]
    run = visitor.complete(a_request(DataWells=wells), **{"in": b"abc"})
    assert run["Artifacts"]["in"]["ObjectName"] == f"inbox/{run['ID']}/photo.txt"
    assert visitor.artifact(run["ID"], "in") == b"abc"


def test_two_runs_never_write_the_same_object(visitor: Visitor) -> None:
    first, second = (visitor.complete(a_request(), **{"in": content}) for content in (b"one", b"two"))
    names = [artifact["ObjectName"] for run in (first, second) for artifact in run["Artifacts"].values()]
    assert len(set(names)) == 4
    assert visitor.artifact(first["ID"], "out") == b"one"


@pytest.mark.parametrize("key", ["../out", "a/../../out", "/out", "a\nb", "${NOBODY}", "${RUN_ID", "a//b", ""])
def test_a_key_that_leaves_its_place_is_refused(visitor: Visitor, key: str) -> None:
    answer = visitor.http.post(visitor.url + "/api/v1/flow/test", json=kept_at(key), timeout=30)
    if key == "":
        # As absent: other languages' encoders write all members.
        assert answer.status_code == 200
        visitor.cancel(answer.json()["ID"])
    else:
        assert answer.status_code == 400
        assert codes(answer.json()) == ["WELL_005"]


def test_an_upload_s_key_must_be_that_of_one_run(visitor: Visitor) -> None:
    wells = [{"Edge": "in", "Source": "upload", "Key": "inbox/photo"}]
    assert codes(visitor.submit(a_request(DataWells=wells), status=400)) == ["WELL_008"]


def test_a_static_well_takes_an_object_that_is_there(visitor: Visitor) -> None:
    earlier = visitor.complete(kept_at("shared/model-${RUN_ID}"), **{"in": b"weights"})
    key = earlier["Artifacts"]["out"]["ObjectName"]
    run = visitor.submit(a_request(DataWells=[{"Edge": "in", "Source": "static", "Key": key}]))
    assert run["WaitingURLs"] == []
    run = visitor.ended(run["ID"])
    assert run["Status"] == "COMPLETE"
    assert run["Artifacts"]["in"]["ObjectName"] == key
    assert visitor.artifact(run["ID"], "out") == b"weights"
    # What a run only read outlives it.
    visitor.ask("DELETE", f"/api/v1/runs/{run['ID']}", status=204)
    assert visitor.artifact(earlier["ID"], "out") == b"weights"


def test_a_static_well_without_its_object_is_refused_before_any_run(visitor: Visitor) -> None:
    request = a_request(Name="baseless", DataWells=[{"Edge": "in", "Source": "static", "Key": "shared/nothing"}])
    error = visitor.submit(request, status=400)["error"]
    assert error["Code"] == "STATIC_NOT_FOUND"
    assert "shared/nothing" in error["Message"]
    assert visitor.get("/api/v1/runs?flow=baseless")["Runs"] == []


def test_a_default_well_names_the_store_of_all_edges(visitor: Visitor) -> None:
    request = a_request(a_source("made", 'echo x > "$OUTPUT_OUT"'), DefaultDataWell={"Store": "default"})
    assert visitor.complete(request)["Artifacts"]["out"]["StoreName"] == "default"


def test_a_store_that_is_not_there_is_refused(visitor: Visitor) -> None:
    request = a_request(DataWells=[{"Edge": "out", "Store": "elsewhere"}])
    assert codes(visitor.submit(request, status=400)) == ["WELL_004"]
