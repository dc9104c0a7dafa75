"""The request to run a flow: how it is read, whose value its message is, which parameters it may name."""

from typing import Any

import pytest

from pupload.errors import CallerError, InvalidRequest
from pupload.flow.load import MAX_CHARACTERS, PostedRun, load_request
from pupload.flow.message import inputs_with_message, missing_message
from pupload.flow.parameters import refuse_reserved
from pupload.flow.plan import Plan
from pupload.flow.request import RunRequest
from tests.support.flows import a_def, a_flow, a_node, documents, planned, read

TWO = {"one": "first", "two": "second"}


def a_plan_of(types: dict[str, list[str]], **flow: Any) -> Plan:
    """The plan of a node with two inputs, `one` on edge `first` and `two` on edge `second`."""
    return planned(a_body(types, **flow))


def a_body(types: dict[str, list[str]], **flow: Any) -> dict[str, Any]:
    ports = [{"Name": port, "Type": types.get(port, ["*/*"])} for port in TWO]
    return documents(a_flow(a_node(reads=TWO), **flow), a_def(Inputs=ports, Outputs=[{"Name": "out"}]))


@pytest.mark.parametrize(
    ("given", "member"),
    [
        ({"input": {"a": 1}}, "inputs"),
        ({"body": {"a": 1}}, "inputs"),
        ({"block_overrides": {"a": 1}}, "overrides"),
        ({"override": {"a": 1}}, "overrides"),
        ({"flow_session_id": "ses_1"}, "session_id"),
        ({"evalOptions": {"runMode": "skip"}}, "evals"),
        ({"only_nodes": ["a"]}, "only_nodes"),
        ({"callback_url": "https://x.test"}, "callback_url"),
    ],
)
def test_the_members_are_read_in_all_their_spellings(given: dict[str, Any], member: str) -> None:
    assert getattr(load_request(given, RunRequest), member) != getattr(RunRequest(), member)


def test_an_unknown_member_is_refused_naming_the_nearest() -> None:
    with pytest.raises(InvalidRequest, match=r"Mesage.*Message"):
        load_request({"Mesage": "hello"}, RunRequest)


@pytest.mark.parametrize("body", [[], "text", 3, None], ids=repr)
def test_a_body_that_is_no_object_is_refused(body: object) -> None:
    with pytest.raises(InvalidRequest, match=r"write an object"):
        load_request(body, RunRequest)


@pytest.mark.parametrize("member", ["Message", "Inputs"])
def test_a_value_may_be_longer_than_any_other_text(member: str) -> None:
    text = "x" * (MAX_CHARACTERS + 1)
    load_request({member: text if member == "Message" else {"in": text}}, RunRequest)
    with pytest.raises(InvalidRequest, match="at most"):
        load_request({"Parameters": {"in": text}}, RunRequest)


@pytest.mark.parametrize("bad", ["\0", "\ud800"], ids=["NUL", "half a surrogate pair"])
def test_a_text_that_nothing_can_store_is_refused(bad: str) -> None:
    with pytest.raises(InvalidRequest):
        load_request({"Message": bad}, RunRequest)


def test_an_empty_message_is_a_message() -> None:
    assert load_request({"Message": ""}, RunRequest).message == ""


def test_a_posted_flow_comes_with_its_request() -> None:
    posted = load_request({**documents(), "Message": "hello", "Timeout": "9s"}, PostedRun)
    assert (posted.flow.name, posted.message, posted.timeout) == ("copying", "hello", "9s")


def test_a_posted_request_without_a_flow_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"\$\.Flow: is required"):
        load_request({"Message": "hello"}, PostedRun)


def test_the_message_is_for_the_only_input_that_takes_text() -> None:
    plan = a_plan_of({"one": ["image/png"], "two": ["text/csv"]})
    assert inputs_with_message(plan, {}, "hello") == {"second": "hello"}


@pytest.mark.parametrize("kind", ["*/*", "text/*", "text/plain", "application/json", "image/svg+xml"])
def test_types_that_text_may_be_take_a_message(kind: str) -> None:
    plan = a_plan_of({"one": ["image/png"], "two": [kind]})
    assert inputs_with_message(plan, {}, "hello") == {"second": "hello"}


def test_the_message_is_for_the_primary_input_before_any_other() -> None:
    plan = a_plan_of({}, DataWells=[{"Edge": "second", "Primary": True}])
    assert inputs_with_message(plan, {}, "hello") == {"second": "hello"}


def test_the_message_is_for_what_the_inputs_leave_open() -> None:
    assert inputs_with_message(a_plan_of({}), {"first": "a"}, "b") == {"first": "a", "second": "b"}


def test_no_message_changes_nothing() -> None:
    assert inputs_with_message(a_plan_of({}), {"first": "a"}, None) == {"first": "a"}


@pytest.mark.parametrize(
    ("types", "flow"),
    [
        ({}, {}),
        ({"one": ["image/png"], "two": ["image/png"]}, {}),
        ({}, {"DataWells": [{"Edge": edge, "Primary": True} for edge in ("first", "second")]}),
    ],
    ids=["two take text", "none takes text", "two are primary"],
)
def test_a_message_that_has_no_one_place_is_refused(types: dict[str, list[str]], flow: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        inputs_with_message(a_plan_of(types, **flow), {}, "hello")
    assert refused.value.code == "AMBIGUOUS_MESSAGE"


def test_an_edge_is_given_once() -> None:
    plan = a_plan_of({}, DataWells=[{"Edge": "first", "Primary": True}])
    with pytest.raises(InvalidRequest, match="twice"):
        inputs_with_message(plan, {"first": "a"}, "b")


@pytest.mark.parametrize(
    ("well", "given", "idle", "missing"),
    [
        ({"Primary": True}, [], [], "second"),
        ({"Primary": True}, ["second"], [], None),
        ({"Primary": True, "Source": "upload"}, [], [], None),
        ({}, [], [], None),
        ({"Primary": True}, [], ["copy"], None),
    ],
    ids=["not given", "given", "to be uploaded", "not primary", "read by nobody"],
)
def test_a_primary_input_without_a_source_must_come_with_the_call(
    well: dict[str, Any], given: list[str], idle: list[str], missing: str | None
) -> None:
    body = a_body({}, DataWells=[{"Edge": "second", **well}])
    flow, _ = read(body)
    assert missing_message(flow, planned(body), given, idle) == missing  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["attachments", "Message", "session_id", "sessionID", "block_overrides"])
def test_a_member_among_the_parameters_is_refused(name: str) -> None:
    with pytest.raises(CallerError, match="beside Parameters") as refused:
        refuse_reserved([], {"width": 1, name: "x"})
    assert refused.value.code == "PARAMETER_NAME_RESERVED"


def test_a_flow_may_call_its_parameter_as_it_likes() -> None:
    flow, _ = read(documents(a_flow(Parameters=[{"Name": "message"}])))
    refuse_reserved(flow.parameters, {"message": "hello"})
