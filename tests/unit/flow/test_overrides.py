"""Overrides: both spellings, what is refused, and what the documents become."""

from typing import Any

import pytest

from pupload.errors import InvalidRequest
from pupload.flow.check import check, errors_in
from pupload.flow.overrides import apply_overrides, read_overrides
from pupload.flow.plan import NodeID, Plan
from pupload.tiers import TIERS
from tests.support.flows import a_def, a_flow, a_node, documents, planned, read

FLAGS = [{"Name": "width", "Type": "int", "Default": 100}, {"Name": "max.height"}]
BODY = documents(
    a_flow(
        a_node("first", flags={"width": 200}),
        a_node("second.b", reads={"in": "out"}, writes={"out": "end"}),
        AllowImageOverride=True,
    ),
    a_def(Flags=FLAGS, Commands=[{"Name": "one", "Exec": "one ${in}"}, {"Name": "two", "Exec": "two ${in}"}]),
)


def effective(given: dict[str, Any], body: dict[str, Any] = BODY) -> dict[str, Any]:
    return {node: override.effective() for node, override in read_overrides(given, *read(body)).items()}


def changed(given: dict[str, Any], body: dict[str, Any] = BODY) -> Plan:
    """The plan of the documents with these overrides."""
    flow, defs = apply_overrides(*read(body), read_overrides(given, *read(body)))
    return planned({"Flow": flow.wire(), "NodeDefs": [each.wire() for each in defs]})


def problems(given: dict[str, Any], body: dict[str, Any] = BODY) -> list[dict[str, str]]:
    with pytest.raises(InvalidRequest) as refused:
        read_overrides(given, *read(body))
    assert refused.value.code == "INVALID_OVERRIDE"
    return list(refused.value.details)  # type: ignore[arg-type]


def test_both_forms_are_one() -> None:
    nested = {"first": {"Flags": {"width": 800}}, "second.b": {"flags": {"max.height": "9"}}}
    flat = {"first.width": 800, "second.b.max.height": "9"}
    assert effective(nested) == effective(flat)
    assert effective(flat) == {"first": {"Flags": {"width": 800}}, "second.b": {"Flags": {"max.height": "9"}}}


def test_the_forms_may_be_mixed() -> None:
    given = {"first.width": 800, "first": {"max_attempts": 2}}
    assert effective(given) == {"first": {"MaxAttempts": 2, "Flags": {"width": 800}}}


def test_every_member_reaches_the_plan_of_its_node_and_of_no_other() -> None:
    given = {
        "first": {
            "Flags": {"width": 800},
            "Tier": "c-nano",
            "MaxAttempts": 7,
            "Timeout": "9s",
            "Env": {"MODE": "fast"},
            "Command": "two",
            "Image": "other/image:2",
        }
    }
    plan, plain = changed(given), planned(BODY)
    node = plan.nodes[NodeID("first")]
    assert dict(node.flags) == {"width": "800"}
    assert (node.tier.name, node.max_attempts, node.timeout_s) == ("c-nano", 7, 9.0)
    assert (dict(node.env), node.argv, node.image) == ({"MODE": "fast"}, ("two", "${in}"), "other/image:2")
    assert plan.nodes[NodeID("second.b")] == plain.nodes[NodeID("second.b")]
    assert plan.edges == plain.edges


def test_the_env_of_a_node_stands_over_that_of_its_def() -> None:
    body = documents(a_flow(a_node(Env={"B": 2})), a_def(Env={"A": "1", "B": "1", "C": "1"}))
    assert dict(changed({"copy": {"Env": {"C": 3}}}, body).nodes[NodeID("copy")].env) == {"A": "1", "B": "2", "C": "3"}


def test_a_flag_that_is_null_is_as_if_the_flow_did_not_set_it() -> None:
    assert dict(changed({"first": {"Flags": {"width": None}}}).nodes[NodeID("first")].flags) == {"width": "100"}


def test_a_flag_may_be_overridden_by_an_empty_text() -> None:
    assert dict(changed({"second.b.max.height": ""}).nodes[NodeID("second.b")].flags)["max.height"] == ""


@pytest.mark.parametrize(
    ("given", "path", "message"),
    [
        ({"frist": {"Tier": "c-nano"}}, "$.Overrides.frist", "there is no node 'frist'; the nearest is 'first'"),
        ({"frist.width": 1}, "$.Overrides.frist.width", "there is no node 'frist'; the nearest is 'first'"),
        ({"first": {"Teir": "c-nano"}}, "$.Overrides.first", "unknown member 'Teir'; the nearest known member is Tier"),
        ({"first.widht": 1}, "$.Overrides.first.Flags.widht", "there is no flag 'widht'; the nearest is 'width'"),
        ({"first": "c-nano"}, "$.Overrides.first", "Input should be"),
        ({"first": {"MaxAttempts": 0}}, "$.Overrides.first.MaxAttempts", "greater than or equal to 1"),
        ({"first": {"Flags": {"width": [1]}}}, "$.Overrides.first.Flags.width", "write a text, a number"),
        ({"first": {"Env": {"A=B": "c"}}}, "$.Overrides.first.Env", "no name of an environment variable"),
        ({"first": {"Flags": {"width": 1}}, "first.width": 2}, "$.Overrides.first.width", "overridden twice"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("$") else "",
)
def test_what_does_not_fit_is_named_with_the_nearest_that_would(given: dict[str, Any], path: str, message: str) -> None:
    [problem] = problems(given)
    assert problem["Path"] == path
    assert message in problem["Message"]


def test_all_problems_come_at_once() -> None:
    assert len(problems({"none": {}, "first.no": 1, "second.b": {"What": 1}})) == 3


def test_an_image_is_overridden_only_where_the_flow_allows_it() -> None:
    closed = {**BODY, "Flow": {**BODY["Flow"], "AllowImageOverride": False}}
    [problem] = problems({"first": {"Image": "other/image:2"}}, closed)
    assert problem["Path"] == "$.Overrides.first.Image"


def test_the_documents_with_another_image_pass_the_check() -> None:
    flow, defs = apply_overrides(*read(BODY), read_overrides({"first": {"Image": "other/image:2"}}, *read(BODY)))
    assert errors_in(check(flow, defs, tiers=TIERS, stores=["default"])) == []


def test_an_image_that_is_none_is_a_finding() -> None:
    flow, defs = apply_overrides(*read(BODY), read_overrides({"first": {"Image": "No Image!"}}, *read(BODY)))
    assert [finding.code for finding in check(flow, defs, tiers=TIERS, stores=["default"])] == ["DEF_002"]


def test_a_def_that_declares_no_flags_takes_any() -> None:
    body = documents(a_flow(a_node()), a_def())
    assert dict(changed({"copy.anything": True}, body).nodes[NodeID("copy")].flags) == {"anything": "true"}


def test_no_override_leaves_the_documents_as_they_are() -> None:
    flow, defs = read(BODY)
    assert apply_overrides(flow, defs, {}) == (flow, defs)
