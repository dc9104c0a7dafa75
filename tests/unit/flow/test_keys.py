"""Object keys from templates."""

from datetime import UTC, datetime

import pytest

from pupload.errors import InvalidRequest
from pupload.flow.keys import MAX_KEY_BYTES, default_key, key_problem, key_values, read_template, render_key

VALUES = key_values(
    run_id="run_1",
    flow_name="photos",
    edge="thumb",
    at=datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC),
    uuid="0b0e",
    node_id="resize",
    attempt=2,
    session_id="s1",
    parameters={"album": "summer", "a-b": "dash"},
)


@pytest.mark.parametrize(
    ("template", "key"),
    [
        ("${RUN_ID}/${EDGE}", "run_1/thumb"),
        ("$RUN_ID/$EDGE.jpg", "run_1/thumb.jpg"),
        ("$YEAR/$MONTH/$DAY", "2031/02/03"),
        ("${DATE}_${TIMESTAMP}", "2031-02-03_20310203T040506Z"),
        ("${FLOW_NAME}-${NODE_ID}-${ATTEMPT}-${UUID}-${SESSION_ID}", "photos-resize-2-0b0e-s1"),
        ("${PARAM.album}/$PARAM.album/${PARAM.a-b}", "summer/summer/dash"),
        ("cost-$$5", "cost-$5"),
        ("$${RUN_ID}", "${RUN_ID}"),
        ("a b/é", "a b/é"),
    ],
)
def test_a_template_names_its_variables_with_or_without_braces(template: str, key: str) -> None:
    assert render_key(template, VALUES) == key


def test_the_default_key_names_run_edge_and_attempt_and_ends_with_the_extension() -> None:
    assert default_key(VALUES, ".jpg") == "run_1/thumb/2.jpg"


def test_what_no_node_makes_has_attempt_0_and_still_a_value_for_every_variable() -> None:
    values = key_values(run_id="r", flow_name="f", edge="e", at=datetime(2031, 1, 1, tzinfo=UTC), uuid="u")
    assert render_key("${NODE_ID}/${ATTEMPT}/${SESSION_ID}", values) == "upload/0/none"


@pytest.mark.parametrize(
    "template",
    [
        "../x",
        "a/../b",
        "/a",
        "a/",
        "a//b",
        ".",
        "a/./b",
        ".files/file_1",
        "a/.parts-1/1",
        "a\nb",
        "a\x00b",
        "",
        "x" * 1025,
        "x" * 256,
        "é" * 128,
        "${COLOUR}",
        "$",
        "${RUN_ID",
    ],
)
def test_an_unsafe_or_unfinished_template_is_refused(template: str) -> None:
    with pytest.raises(InvalidRequest):
        render_key(template, VALUES)


@pytest.mark.parametrize(
    "value", ["..", ".sessions", "../../etc", "/etc", "a\nb", "x" * 300, "", "a//b", "a/..", "\u202e"]
)
def test_a_hostile_value_is_refused_after_it_was_put_in(value: str) -> None:
    with pytest.raises(InvalidRequest, match="not allowed"):
        render_key("${PARAM.album}/x", VALUES | {"PARAM.album": value})


OTHER = "run_019ab3c4d5e6f708192a3b4c5d6e"


@pytest.mark.parametrize(
    "template",
    [
        OTHER,
        f"{OTHER}/out/1.png",
        f"{OTHER.upper()}/out",
        "run_019ab3c4d5e6f708192a3b4c5d6${ATTEMPT}/out",
        "run_${YEAR}${MONTH}${DAY}/out",
        "${PARAM.folder}/out",
        "run_${PARAM.rest}/out",
    ],
)
def test_no_key_leads_to_what_another_run_keeps(template: str) -> None:
    values = VALUES | {"PARAM.folder": OTHER, "PARAM.rest": OTHER.removeprefix("run_")}
    with pytest.raises(InvalidRequest, match="begins with the id of a run"):
        render_key(template, values)


def test_a_written_key_of_another_run_is_found_before_there_is_a_run() -> None:
    for template in (f"{OTHER}/out/1.png", "run_0${ATTEMPT}/x", "run_${DAY}"):
        assert "id of a run" in read_template(template).problem
    for template in ("${RUN_ID}/out", "run_results/${UUID}", "run_${UUID}", f"kept/{OTHER}", "runs/1"):
        assert read_template(template).problem == ""


def test_a_value_is_not_read_as_a_template() -> None:
    assert render_key("${PARAM.album}", VALUES | {"PARAM.album": "$RUN_ID"}) == "$RUN_ID"


def test_a_template_is_judged_before_its_values_are_known() -> None:
    assert read_template("${RUN_ID}/$EDGE-$$").variables == {"RUN_ID", "EDGE"}
    assert read_template("${RUN_ID}/..").problem
    assert read_template("a$").problem
    assert not read_template("${RUN_ID}").problem


def test_the_longest_key_is_allowed() -> None:
    longest = "/".join(["x" * 255] * 4)
    assert len(longest) < MAX_KEY_BYTES
    assert key_problem(longest) == ""
