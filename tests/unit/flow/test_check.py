"""What the rules find, beyond the one bad example that each has."""

from typing import Any

import pytest

from pupload.flow.check import MAX_FINDINGS, Finding, Severity, errors_in
from tests.support.flows import COPY, REFERENCE, Json, a_chain, a_def, a_fan, a_flow, a_node, codes, documents, findings

PORTS: Json = {"Inputs": [{"Name": "in"}], "Outputs": [{"Name": "out"}]}
S3: Json = {"Endpoint": "minio:9000", "BucketName": "photos", "AccessKey": "key", "SecretKey": "hush"}


def _well(**members: object) -> Json:
    return documents(a_flow(DataWells=[members]))


def _flag(value: object, kind: str, **flow: object) -> Json:
    return documents(a_flow(a_node(flags={"f": value}), **flow), a_def(Flags=[{"Name": "f", "Type": kind}]))


def _command(text: str, **members: Any) -> Json:
    return documents(None, a_def(Command={"Name": "c", "Exec": text}, **members))


def test_the_reference_example_has_no_finding() -> None:
    assert findings(REFERENCE) == []


@pytest.mark.parametrize("body", [a_chain(50), a_fan(50)], ids=["chain", "fan"])
def test_usual_shapes_have_no_finding(body: Json) -> None:
    assert findings(body) == []


def test_all_findings_come_at_once() -> None:
    body = documents(
        a_flow(
            a_node("one", reads={"in": "b"}, writes={"out": "a"}, Tier="huge"),
            a_node("two", reads={"in": "a"}, writes={"out": "b"}, Uses="pupload/nothing"),
            Timeout="soon",
            DataWells=[{"Edge": "c", "Store": "attic"}],
        )
    )
    assert set(codes(body)) == {"FLOW_001", "FLOW_003", "NODE_001", "NODE_004", "WELL_002", "WELL_004"}


def test_a_warning_does_not_keep_a_flow_from_running() -> None:
    found = findings(documents(a_flow(Stores=[{"Name": "mine", "Type": "s3", "Params": S3}])))
    assert [finding.severity for finding in found] == [Severity.WARNING]
    assert errors_in(found) == []


def test_a_finding_is_written_as_the_interface_says() -> None:
    found = findings({"Flow": {"Name": "x"}, "NodeDefs": []})
    assert [finding.wire() for finding in found] == [
        {
            "Code": "FLOW_002",
            "Name": "FlowEmpty",
            "Severity": "error",
            "Path": "$.Flow.Nodes",
            "Message": "a flow needs at least one node",
        }
    ]
    assert Finding.model_validate(found[0].wire()) == found[0]


def test_a_node_that_reads_what_it_writes_is_a_cycle() -> None:
    assert codes(documents(a_flow(a_node(reads={"in": "x"}, writes={"out": "x"})))) == ["FLOW_001"]


@pytest.mark.parametrize(
    "body",
    [
        documents(a_flow(a_node(Timeout="0s"))),
        documents(None, a_def(Timeout="never")),
        documents(None, a_def(Retry={"Delay": "1"})),
        documents(None, a_def(Retry={"MaxDelay": "-1s"})),
        _well(Edge="in", Lifetime="long"),
        documents(a_flow(Timeout=5)),
        documents(a_flow(DefaultDataWell={"Lifetime": "x"})),
    ],
)
def test_every_duration_is_looked_at(body: Json) -> None:
    assert codes(body) == ["FLOW_003"]


@pytest.mark.parametrize(
    "parameter",
    [{}, {"Name": "1st"}, {"Name": "a", "Type": "colour"}, {"Name": "a", "Type": "int", "Default": 1.5},
     {"Name": "a", "Type": "bool", "Default": 1}, {"Name": "a", "Default": []}],
)  # fmt: skip
def test_a_parameter_must_be_usable(parameter: Json) -> None:
    assert codes(documents(a_flow(Parameters=[parameter]))) == ["FLOW_004"]


def test_a_parameter_is_declared_once() -> None:
    assert codes(documents(a_flow(Parameters=[{"Name": "a"}, {"Name": "a"}]))) == ["FLOW_004"]


def test_uses_may_name_a_version_and_finds_no_other() -> None:
    for version, expected in (("1", []), ("2", ["NODE_001"])):
        body = documents(a_flow(a_node(Uses=f"{COPY}@{version}")), a_def(Version="1"))
        assert codes(body) == expected


def test_a_def_may_be_given_in_two_versions_but_not_twice_in_one() -> None:
    assert codes(documents(None, a_def(Version="1"), a_def(Version="2"))) == []
    assert codes(documents(None, a_def(Version="1"), a_def(Version="1"))) == ["DEF_001"]


def test_optional_ports_need_not_be_bound() -> None:
    definition = a_def(Inputs=[{"Name": "in"}, {"Name": "mask", "Required": False}])
    assert codes(documents(None, definition)) == []


def test_a_def_without_ports_takes_any_that_can_be_a_file() -> None:
    assert codes(documents(a_flow(a_node(reads={"a": "x", "b.c": "y"})))) == []
    assert codes(documents(a_flow(a_node(reads={"../a": "x"})))) == ["NODE_009"]


def test_a_def_without_flags_takes_any_and_one_with_flags_refuses_others() -> None:
    assert codes(documents(a_flow(a_node(flags={"any": 1})))) == []
    assert codes(documents(a_flow(a_node(flags={"any thing": 1})))) == ["NODE_006"]


def test_a_required_flag_is_given_by_its_default() -> None:
    flag = {"Name": "f", "Required": True}
    assert codes(documents(None, a_def(Flags=[flag]))) == ["NODE_005"]
    assert codes(documents(None, a_def(Flags=[{**flag, "Default": ""}]))) == []
    assert codes(documents(a_flow(a_node(flags={"f": None})), a_def(Flags=[flag]))) == ["NODE_005"]


@pytest.mark.parametrize(
    ("value", "kind"),
    [("800", "int"), (800, "int"), (800.0, "int"), ("-5", "int"), ("0.5", "float"), (1, "float"), ("1e3", "float"),
     (True, "bool"), ("False", "bool"), ("x", "string"), (1, "string"), (False, "string"), ("", "string")],
)  # fmt: skip
def test_a_value_of_the_flags_type_is_taken(value: object, kind: str) -> None:
    assert codes(_flag(value, kind)) == []


@pytest.mark.parametrize(
    ("value", "kind"),
    [("wide", "int"), ("", "int"), (1.5, "int"), (True, "int"), ("1_000", "int"), (" 1", "int"), ("1e3", "int"),
     ("nan", "float"), ("inf", "float"), ("٣", "int"), ("yes", "bool"), (1, "bool"), (True, "float")],
)  # fmt: skip
def test_a_value_of_another_type_is_not(value: object, kind: str) -> None:
    assert codes(_flag(value, kind)) == ["NODE_011"]


def test_a_default_of_another_type_is_found_in_the_def() -> None:
    found = findings(documents(None, a_def(Flags=[{"Name": "f", "Type": "int", "Default": "x"}])))
    assert [(f.code, f.path) for f in found] == [("NODE_011", "$.NodeDefs[0].Flags[0].Default")]


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("${PARAM.n}", "int", []),
        ("${PARAM.n}", "float", []),
        ("${PARAM.n}${PARAM.s}", "string", []),
        ("${PARAM.s}", "int", ["NODE_011"]),
        ("1${PARAM.n}", "int", ["NODE_011"]),
        ("${PARAM.other}", "string", ["NODE_011"]),
    ],
)
def test_a_parameter_in_a_flag_must_be_declared_and_fit(value: str, kind: str, expected: list[str]) -> None:
    body = _flag(value, kind, Parameters=[{"Name": "n", "Type": "int"}, {"Name": "s"}])
    assert codes(body) == expected


def test_a_value_that_would_be_an_option_is_refused_before_it_runs() -> None:
    definition = a_def(Command={"Exec": "tool ${f} ${in} ${out}"})
    assert codes(documents(a_flow(a_node(flags={"f": "--force"})), definition)) == ["NODE_011"]


@pytest.mark.parametrize(
    "image",
    [
        "busybox",
        "pupload/resize:latest",
        "localhost:5000/a/b:1",
        "ghcr.io/a/b_c--d:v1.0",
        "a@sha256:" + "0" * 64,
        "host.example/a:1@sha256:" + "a" * 64,
        "[::1]:5000/a",
    ],
)
def test_an_image_reference_is_taken(image: str) -> None:
    assert codes(documents(None, a_def(Image=image))) == []


@pytest.mark.parametrize(
    "image", ["", "Upper", "a b", "a:", "a@sha256:12", "http://a/b", "-a", "a//b", "a:b:c", "a" * 600, "a\n"]
)
def test_what_is_no_image_reference_is_not(image: str) -> None:
    assert codes(documents(None, a_def(Image=image))) == ["DEF_002"]


def test_a_variable_of_a_def_is_one_of_its_ports_or_flags() -> None:
    declared = {**PORTS, "Flags": [{"Name": "f"}]}
    assert codes(_command("c ${in} ${out} ${f} $HOME $0 ${x:-1}", **declared)) == []
    assert codes(_command("c ${in} ${nope}", **declared)) == ["DEF_003"]


def test_a_def_that_leaves_flags_open_has_those_that_its_nodes_set() -> None:
    definition = a_def(Command={"Exec": "c ${in} ${out} ${width}"}, **PORTS)
    assert codes(documents(a_flow(a_node(flags={"width": 8})), definition)) == []
    assert codes(documents(a_flow(a_node()), definition)) == ["DEF_003"]


def test_an_open_def_that_no_node_uses_is_not_judged() -> None:
    assert codes(documents(None, a_def(), a_def("pupload/other", Command={"Exec": "c ${anything}"}))) == []


def test_a_variable_must_mean_one_thing() -> None:
    shared: Json = {"Inputs": [{"Name": "file"}], "Outputs": [{"Name": "file"}], "Flags": [{"Name": "f"}]}
    node = a_node(reads={"file": "in"}, writes={"file": "out"})
    assert codes(documents(a_flow(node), a_def(**shared))) == []
    assert codes(documents(a_flow(node), a_def(**shared, Command={"Exec": "c ${file}"}))) == ["DEF_003"]


def test_names_that_make_one_environment_variable_are_bound_once() -> None:
    assert codes(documents(a_flow(a_node(reads={"a-b": "x", "a_b": "y"})))) == ["NODE_013"]
    assert codes(documents(a_flow(a_node(reads={"file": "x"}, writes={"file": "y"})))) == []


@pytest.mark.parametrize("edge", ["", "a/b", ".hidden", "-x", "a b", "x" * 129, "é"])
def test_an_edge_must_be_usable_in_a_key(edge: str) -> None:
    assert codes(documents(a_flow(a_node(writes={"out": edge})))) == ["EDGE_005"]


def test_an_edge_fed_by_a_well_is_not_made_by_a_node() -> None:
    assert codes(_well(Edge="out", Source="upload")) == ["EDGE_006"]
    assert codes(_well(Edge="out")) == []


def test_one_node_makes_an_edge_once() -> None:
    assert codes(documents(a_flow(a_node(writes={"out": "x", "log": "x"})))) == ["EDGE_006"]


def test_readers_of_an_upload_must_have_a_type_in_common() -> None:
    def takes(kind: str) -> Json:
        return a_def(f"p/{kind.partition('/')[0]}", Inputs=[{"Name": "in", "Type": [kind]}])

    nodes = [a_node("a", Uses="p/image"), a_node("b", Uses="p/audio", writes={"out": "other"})]
    assert codes(documents(a_flow(*nodes), takes("image/png"), takes("audio/*"))) == ["EDGE_003"]


@pytest.mark.parametrize("source", ["upload", "static", "webhook"])
def test_there_are_three_sources(source: str) -> None:
    key = "logo.png" if source == "static" else "${RUN_ID}"
    assert codes(_well(Edge="in", Source=source, Key=key)) == []


@pytest.mark.parametrize(
    ("well", "expected"),
    [
        ({"Edge": "out", "Key": "${RUN_ID}/${PARAM.none}"}, ["WELL_005"]),
        ({"Edge": "out", "Key": "${RUN_ID"}, ["WELL_005"]),
        ({"Edge": "out", "Key": "/a"}, ["WELL_005"]),
        ({"Edge": "out", "Key": "result.png"}, []),
        ({"Edge": "in", "Key": "result.png"}, ["WELL_008"]),
        ({"Edge": "in", "Source": "webhook", "Key": "${DATE}"}, ["WELL_008"]),
        ({"Edge": "in", "Source": "upload", "Key": "${UUID}"}, []),
        ({"Edge": "in", "Source": "upload"}, []),
        ({"Edge": "in", "Source": "static", "Key": "${FLOW_NAME}/${EDGE}.png"}, []),
        ({"Edge": "in", "Source": "static", "Key": "${SESSION_ID}"}, ["WELL_007"]),
    ],
)
def test_a_key_is_judged_by_what_its_well_is_for(well: Json, expected: list[str]) -> None:
    assert codes(_well(**well)) == expected


@pytest.mark.parametrize(
    ("well", "expected"),
    [
        ({"Key": "${RUN_ID}/${EDGE}"}, []),
        ({"Source": "upload", "Key": "${RUN_ID}/${EDGE}"}, []),
        ({"Key": "${RUN_ID}/x"}, ["WELL_005"]),
        ({"Key": "${EDGE}"}, ["WELL_008"]),
        ({"Source": "static"}, ["WELL_001"]),
        ({"Store": "default"}, []),
    ],
)
def test_the_default_well_keeps_edges_apart(well: Json, expected: list[str]) -> None:
    assert codes(documents(a_flow(DefaultDataWell=well))) == expected


def test_a_store_of_the_server_is_named_without_more() -> None:
    body = documents(a_flow(DefaultDataWell={"Store": "archive"}))
    assert codes(body) == ["STORE_001"]
    assert codes(body, stores=["default", "archive"]) == []
    listed = documents(a_flow(Stores=[{"Name": "archive"}], DefaultDataWell={"Store": "archive"}))
    assert codes(listed) == ["STORE_001", "STORE_001"]
    assert codes(listed, stores=["archive"]) == []


@pytest.mark.parametrize(
    ("params", "where"),
    [
        ({**S3, "Colour": "red"}, "$.Flow.Stores[0].Params"),
        ({**S3, "BucketName": ""}, "$.Flow.Stores[0].Params.BucketName"),
        ({**S3, "BucketName": "a/b"}, "$.Flow.Stores[0].Params.BucketName"),
        ({**S3, "Endpoint": "http://minio:9000"}, "$.Flow.Stores[0].Params.Endpoint"),
        ({**S3, "PublicEndpoint": "a b"}, "$.Flow.Stores[0].Params.PublicEndpoint"),
        ({**S3, "Secure": "perhaps"}, "$.Flow.Stores[0].Params.Secure"),
        ({**S3, "SecretKey": ["hush"]}, "$.Flow.Stores[0].Params.SecretKey"),
    ],
)
def test_params_of_a_store_must_be_usable_and_are_not_repeated(params: Json, where: str) -> None:
    flow = a_flow(Stores=[{"Name": "s", "Type": "s3", "Params": params}], DefaultDataWell={"Store": "s"})
    found = findings(documents(flow))
    assert [(f.code, f.path) for f in found] == [("STORE_003", where)]
    assert "hush" not in found[0].message


def test_two_stores_have_two_names() -> None:
    store = {"Name": "s", "Type": "s3", "Params": S3}
    assert codes(documents(a_flow(Stores=[store, store], DefaultDataWell={"Store": "s"}))) == ["STORE_003"]
    unnamed = {**store, "Name": ""}
    assert codes(documents(a_flow(Stores=[unnamed]))) == ["STORE_003"]


def test_a_flow_that_keeps_objects_needs_a_store_somewhere() -> None:
    sealed = documents(a_flow(a_node(reads={})))
    assert set(codes(sealed, stores=[])) == {"STORE_001", "EDGE_002"}


def test_a_flow_beyond_the_limit_is_looked_into_no_further() -> None:
    assert [f.code for f in findings(a_chain(3), max_nodes=2)] == ["FLOW_005"]
    assert findings(a_chain(3), max_nodes=3) == []


def test_a_def_that_thousands_of_nodes_would_copy_must_be_short() -> None:
    body = a_chain(5000)
    body["NodeDefs"][0]["Command"]["Exec"] = "cp ${in} ${out} " + "x" * 14_000
    assert [f.code for f in findings(body)] == ["FLOW_005"]


def test_of_one_code_not_more_than_a_thousand_are_listed() -> None:
    nodes = [a_node(f"n{place}", reads={}, writes={}, Uses="p/none") for place in range(MAX_FINDINGS + 5)]
    assert codes(documents(a_flow(*nodes))) == ["NODE_001"] * MAX_FINDINGS
