"""Where two definitions differ: named by node, edge and definition, however the documents are written."""

from typing import Any

import pytest

from pupload.flow.compare import Compared, compare
from pupload.flow.load import load_documents
from tests.support.flows import a_def, a_flow, a_node, documents

pytestmark = pytest.mark.unit

Json = dict[str, Any]


def compared(body: Json, images: dict[str, str] | None = None) -> Compared:
    flow, defs, _ = load_documents(body, lenient=False)
    return Compared(flow, defs, images)


def differences(before: Json, after: Json) -> list[tuple[str, Any, Any]]:
    return [(each.path, each.before, each.after) for each in compare(compared(before), compared(after))]


def with_secret(secret: str, **params: str) -> Json:
    store = {"Name": "mine", "Type": "s3", "Params": {"BucketName": "b", "AccessKey": "a", **params}}
    store["Params"]["SecretKey"] = secret  # type: ignore[index]
    return documents(a_flow(Stores=[store]))


def test_a_definition_does_not_differ_from_itself() -> None:
    assert differences(documents(), documents()) == []


def test_a_default_that_is_written_out_is_no_difference() -> None:
    assert differences(documents(a_flow()), documents(a_flow(FailFast=True), a_def(Access="files"))) == []


def test_a_flag_is_named_by_its_node() -> None:
    before, after = (documents(a_flow(a_node("first"), a_node(flags={"w": w}, writes={}))) for w in (1, 2))
    assert differences(before, after) == [("$.Flow.Nodes['copy'].Flags['w'].Value", 1, 2)]


def test_true_is_not_one() -> None:
    before, after = (documents(a_flow(a_node(flags={"w": w}))) for w in (1, True))
    assert [each[1:] for each in differences(before, after)] == [(1, True)]


def test_a_node_that_came_and_one_that_went_are_whole() -> None:
    before, after = documents(a_flow(a_node("old"))), documents(a_flow(a_node("new")))
    found = {path: (was is None, now is None) for path, was, now in differences(before, after)}
    assert found == {"$.Flow.Nodes['old']": (False, True), "$.Flow.Nodes['new']": (True, False)}


def test_nodes_in_another_order_are_one_difference() -> None:
    one, two = a_node("one"), a_node("two", writes={"out": "other"})
    assert differences(documents(a_flow(one, two)), documents(a_flow(two, one))) == [
        ("$.Flow.Nodes", ["one", "two"], ["two", "one"])
    ]


def test_definitions_are_told_apart_by_their_version() -> None:
    defs = [a_def(Version="1"), a_def(Version="2")]
    after = [a_def(Version="1"), a_def(Version="2", Image="other:1")]
    assert differences(documents(a_flow(), *defs), documents(a_flow(), *after)) == [
        ("$.NodeDefs['pupload/copy@2'].Image", "pupload/copy:1", "other:1")
    ]


def test_a_well_is_named_by_its_edge() -> None:
    before, after = (documents(a_flow(DataWells=[{"Edge": "out", "Key": key}])) for key in ("a", "b"))
    assert differences(before, after) == [("$.Flow.DataWells['out'].Key", "a", "b")]


def test_parts_that_cannot_be_told_apart_are_compared_as_one() -> None:
    twice = a_flow(a_node("same"), a_node("same"))
    assert [each[0] for each in differences(documents(a_flow(a_node("same"))), documents(twice))] == ["$.Flow.Nodes"]


def test_another_secret_is_a_difference_that_tells_nothing() -> None:
    found = differences(with_secret("one"), with_secret("two"))
    assert found == [("$.Flow.Stores['mine'].Params.SecretKey", "(hidden)", "(hidden)")]
    assert differences(with_secret("one"), with_secret("one")) == []


def test_no_secret_shows_in_a_store_that_came_or_changed() -> None:
    found = differences(documents(), with_secret("hush")) + differences(
        with_secret("hush"), with_secret("x", Region="e")
    )
    assert len(found) == 3
    assert "hush" not in str(found)


def test_exact_images_are_compared_where_both_are_known() -> None:
    old, new = compared(documents(), {"a.b:1": "sha256:1"}), compared(documents(), {"a.b:1": "sha256:2"})
    assert [(each.path, each.before) for each in compare(old, new)] == [("$.Images['a.b:1']", "sha256:1")]
    assert compare(old, compared(documents())) == []
