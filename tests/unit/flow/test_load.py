"""Documents from bytes: every problem of shape at once, and never another error."""

import json
from pathlib import Path
from typing import Any

import pytest

from pupload.errors import InvalidRequest, Malformed
from pupload.flow.load import load_documents, load_file, read_json
from tests.support.flows import REFERENCE, a_def, a_flow, a_node, documents


def _problems(body: object, *, lenient: bool = False) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        load_documents(body, lenient=lenient)
    return {problem["Path"]: problem["Message"] for problem in caught.value.details if isinstance(problem, dict)}


def test_the_reference_example_is_read() -> None:
    flow, defs, ignored = load_documents(REFERENCE, lenient=True)
    assert (flow.name, flow.nodes[0].id, defs[0].reference, ignored) == (
        "image-resize",
        "resize-1",
        "pupload/resize",
        [],
    )


def test_all_problems_of_shape_are_named_at_once_with_their_paths() -> None:
    body = documents(a_flow(a_node(Colour="red"), 5, {**a_node(), "Inputs": {}}), a_def(MaxAttempts="many"))  # type: ignore[arg-type]
    assert _problems(body) == {
        "$.Flow.Nodes[0]": "unknown member 'Colour'; the nearest known member is Outputs",
        "$.Flow.Nodes[1]": "write an object, { }",
        "$.Flow.Nodes[2].Inputs": "write a list, [ ]",
        "$.NodeDefs[0].MaxAttempts": "write a whole number",
    }


def test_unknown_members_are_collected_where_clients_may_be_newer() -> None:
    body = documents(a_flow(a_node(Colour="red"), Steps=[]), a_def(ID=7))
    _, _, ignored = load_documents(body, lenient=True)
    assert ignored == ["Flow.Steps", "FlowNode.Colour", "NodeDef.ID"]


def test_both_members_are_required_where_the_interface_says_so() -> None:
    assert _problems({"flow": {"Name": "x"}}, lenient=True) == {"$.NodeDefs": "is required"}
    assert load_documents({"flow": {"Name": "x"}}, lenient=False)[1] == []


@pytest.mark.parametrize("empty", [None, ""])
def test_null_and_the_empty_text_are_as_absent(empty: object) -> None:
    node = a_node(Command=empty, Timeout=empty, Tier=empty)
    definition = a_def(Tier=empty, Network=empty, Access=empty, User=empty, Version=empty, Timeout=empty)
    flow, defs, _ = load_documents(
        documents(a_flow(node, Timeout=empty, DefaultDataWell=None), definition), lenient=False
    )
    assert flow == load_documents(documents(a_flow(a_node())), lenient=False)[0]
    assert defs == load_documents(documents(), lenient=False)[1]


def test_null_lists_and_maps_are_empty() -> None:
    flow = {"Name": "x", "Stores": None, "DataWells": None, "Nodes": [{"ID": "a", "Inputs": None, "Flags": None}]}
    read, defs, _ = load_documents(
        {"Flow": flow, "NodeDefs": [a_def(Inputs=None, Env=None, Command=None)]}, lenient=True
    )
    assert (read.stores, read.data_wells, read.nodes[0].inputs, read.nodes[0].flags) == ([], [], [], [])
    assert (defs[0].inputs, defs[0].env, defs[0].command) == ([], {}, None)


@pytest.mark.parametrize("value", ["", "800", 800, 0.5, True, False])
def test_a_flag_takes_text_numbers_and_truth_as_they_are(value: object) -> None:
    flow, _, _ = load_documents(documents(a_flow(a_node(flags={"width": value}))), lenient=False)
    assert flow.nodes[0].flags[0].value == value
    assert type(flow.nodes[0].flags[0].value) is type(value)


@pytest.mark.parametrize("value", [[], {}, [1]])
def test_a_flag_takes_nothing_else(value: object) -> None:
    body = documents(a_flow(a_node(flags={"width": value})))
    assert _problems(body) == {"$.Flow.Nodes[0].Flags[0].Value": "write a text, a number, true or false"}


def test_ports_are_required_unless_they_say_otherwise_and_flags_are_not() -> None:
    definition = a_def(Inputs=[{"Name": "in"}], Outputs=[{"Name": "out", "Required": False}], Flags=[{"Name": "f"}])
    _, defs, _ = load_documents(documents(None, definition), lenient=False)
    assert (defs[0].inputs[0].required, defs[0].outputs[0].required, defs[0].flags[0].required) == (True, False, False)


def test_a_def_with_urls_needs_a_network() -> None:
    assert "Network egress" in _problems(documents(None, a_def(Access="urls")))["$.NodeDefs[0]"]


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("Inputs", [{"Name": "../x"}]),
        ("Inputs", [{}]),
        ("Network", "host"),
        ("Access", "root"),
        ("Env", {"A=B": "1"}),
        ("Retry", {"On": ["type"]}),
        ("Flags", [{"Name": "f", "Type": "colour"}]),
        ("Command", {"Exec": "x" * 20_000}),
        ("Name", None),
        ("MaxAttempts", -1),
    ],
)
def test_a_def_of_the_wrong_shape_is_refused(member: str, value: object) -> None:
    assert _problems(documents(None, {**a_def(), member: value}))


def _nested(depth: int) -> Any:
    value: Any = "end"
    for _ in range(depth):
        value = [value]
    return value


GARBAGE: list[Any] = [
    None,
    True,
    1,
    "flow",
    [],
    [[]],
    {},
    {"Flow": None, "NodeDefs": None},
    {"Flow": [], "NodeDefs": {}},
    {"Flow": {"Nodes": [None, [], "x", 1]}, "NodeDefs": ["x"]},
    {"Flow": {"Evals": [_nested(40)]}, "NodeDefs": []},
    {"Flow": {"Evals": [_nested(100_000)]}, "NodeDefs": []},
    {"Flow": {"Evals": [0] * 100_001}, "NodeDefs": []},
    {"Flow": {"Name": "a\0b"}, "NodeDefs": []},
    {"Flow": {"Name": "\ud800"}, "NodeDefs": []},
    {"Flow": {"\0": 1}, "NodeDefs": []},
    {"Flow": {"Evals": [float("nan")]}, "NodeDefs": []},
    {"Flow": {"Evals": [10**30]}, "NodeDefs": []},
    {"Flow": {"Name": "x" * 70_000}, "NodeDefs": []},
    {"Flow": {"name": "a", "Name": "b"}, "NodeDefs": []},
    {1: 2, None: 3},
    {"Flow": {"Nodes": [{"ID": {"a": 1}}]}, "NodeDefs": [{"Name": "x", "Env": {"a": []}}]},
]


@pytest.mark.parametrize("body", GARBAGE, ids=range(len(GARBAGE)))
@pytest.mark.parametrize("lenient", [True, False])
def test_garbage_of_any_shape_is_refused_and_nothing_else_happens(body: object, *, lenient: bool) -> None:
    assert _problems(body, lenient=lenient)


def test_of_thousands_of_problems_not_all_are_named() -> None:
    assert len(_problems({"Flow": {"Nodes": [1] * 5_000}, "NodeDefs": []})) == 200


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"{} {}", b"[" * 200_000, b"1" * 5000])
def test_what_is_no_json_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed, match="JSON"):
        read_json(body)


def test_a_file_is_json_or_yaml(tmp_path: Path) -> None:
    as_json, as_yaml = tmp_path / "flow.json", tmp_path / "flow.yaml"
    as_json.write_text(json.dumps(REFERENCE))
    as_yaml.write_text("Flow: {Name: image-resize, Timeout: 90}\nNodeDefs:\n  - {Name: x, Version: 1.0}\n")
    assert load_file(as_json)[0].nodes[0].id == "resize-1"
    assert load_file(as_yaml)[1][0].version == "1.0"


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [1]\nb: *a",
        "a: *nowhere",
        "a: &a 1",
        "a: !!python/object/apply:os.system [ls]",
        "a: [",
        "a: 1\n---\nb: 2",
        "[" * 1000,
        "a: \x00",
        "a: 2024-99-99",
    ],
)
def test_yaml_that_is_more_than_plain_values_is_malformed(text: str, tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text(text)
    with pytest.raises(Malformed, match="YAML"):
        load_file(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match=r"absent\.yaml cannot be read"):
        load_file(tmp_path / "absent.yaml")


def test_a_secret_leaves_neither_by_the_wire_nor_by_its_looks() -> None:
    params = {"BucketName": "b", "AccessKey": "key", "secret_key": "hush-hush"}
    flow, _, _ = load_documents(
        documents(a_flow(Stores=[{"Name": "s", "Type": "s3", "Params": params}])), lenient=False
    )
    assert "hush-hush" not in json.dumps(flow.wire()) + repr(flow) + repr(flow.stores[0].read_params())
    assert flow.stores[0].read_params().secret_key.get_secret_value() == "hush-hush"
    assert flow.wire()["Stores"][0]["Params"]["AccessKey"] == "key"
