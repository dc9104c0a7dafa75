"""What a flow becomes: defaults applied, names looked up, nothing left open."""

import pytest

from pupload.errors import InvalidRequest
from pupload.flow.plan import Binding, Edge, NodeID, NodePlan, Plan, Reason, Retry, Source
from pupload.tiers import TIERS
from tests.support.flows import COPY, REFERENCE, Json, a_chain, a_def, a_flow, a_node, documents, planned

PARAMETERS = [{"Name": "n", "Type": "int", "Default": 800}, {"Name": "s", "Required": True}, {"Name": "o"}]


def _node(body: Json, node_id: str = "copy") -> NodePlan:
    return planned(body).nodes[NodeID(node_id)]


def _with_parameters(flags: Json, given: Json) -> Plan:
    return planned(documents(a_flow(a_node(flags=flags), Parameters=PARAMETERS)), parameters=given)


def test_the_reference_example_becomes_an_upload_a_node_and_a_kept_output() -> None:
    plan = planned(REFERENCE)
    node, source, result = (
        plan.nodes[NodeID("resize-1")],
        plan.edges[Edge("input-image")],
        plan.edges[Edge("output-image")],
    )
    assert (node.image, node.tier, node.argv, node.max_attempts) == ("pupload/resize:latest", TIERS["c-small"], None, 3)
    assert (node.flags, node.timeout_s, node.network, node.access) == ({"width": "800"}, 3600, "none", "files")
    assert node.inputs == (Binding("image", Edge("input-image")),)
    assert (source.source, source.store, source.consumers, source.key) == (
        Source.UPLOAD,
        "default",
        ("resize-1",),
        None,
    )
    assert (result.source, result.store, result.producer, result.types) == (None, "default", "resize-1", ("*/*",))


def test_nodes_are_in_topological_order_ties_by_their_place() -> None:
    nodes = [
        a_node("last", reads={"a": "x", "b": "y"}),
        a_node("second", writes={"out": "y"}),
        a_node("first", writes={"out": "x"}),
    ]
    plan = planned(documents(a_flow(*nodes)))
    assert list(plan.nodes) == ["second", "first", "last"]
    assert [node.position for node in plan.nodes.values()] == [0, 1, 2]


def test_an_edge_read_by_several_ports_of_one_node_has_it_once() -> None:
    plan = planned(documents(a_flow(a_node(reads={"a": "in", "b": "in"}))))
    assert plan.edges[Edge("in")].consumers == ("copy",)


@pytest.mark.parametrize(
    ("versions", "newest"),
    [(["1.9", "1.10", "1.2"], "1.10"), (["2.0-rc1", "2.0", ""], "2.0"), (["", "1"], "1"), (["v3", "2"], "v3")],
)
def test_without_a_version_the_newest_def_is_used(versions: list[str], newest: str) -> None:
    defs = [a_def(Version=version, Image=f"copy:{version or 'none'}") for version in versions]
    assert _node(documents(None, *defs)).image == f"copy:{newest}"


def test_a_named_version_is_used() -> None:
    defs = [a_def(Version=version, Image=f"copy:{version}") for version in ("1", "2")]
    assert _node(documents(a_flow(a_node(Uses=f"{COPY}@1")), *defs)).image == "copy:1"


def test_a_node_overrides_its_def() -> None:
    definition = a_def(Tier="c-large", MaxAttempts=2, Timeout="5m")
    assert _node(documents(None, definition)).max_attempts == 2
    node = _node(documents(a_flow(a_node(Tier="c-nano", MaxAttempts=7, Timeout="90s")), definition))
    assert (node.tier.name, node.max_attempts, node.timeout_s) == ("c-nano", 7, 90)


def test_a_def_says_how_its_container_is_run() -> None:
    definition = a_def(Env={"B": 1, "A": "x"}, Network="egress", User="1000", Access="urls")
    node = _node(documents(None, definition))
    assert (node.env, node.network, node.user, node.access) == ({"A": "x", "B": "1"}, "egress", "1000", "urls")


def test_retries_are_those_of_the_def() -> None:
    retry = {"Delay": "10m", "MaxDelay": "1m", "On": ["exit", "lost"]}
    assert _node(documents(None, a_def(Retry=retry))).retry == Retry(600, 600, frozenset({Reason.EXIT}))
    assert _node(documents(None, a_def(Retry={"On": []}))).retry.on == frozenset()
    assert _node(documents(None, a_def())).retry == Retry()


def test_the_command_is_the_one_named_or_the_first() -> None:
    commands = [{"Name": "a", "Exec": "first '${in} x'"}, {"Name": "b", "Exec": "second"}]
    assert _node(documents(None, a_def(Commands=commands))).argv == ("first", "${in} x")
    assert _node(documents(a_flow(a_node(Command="b")), a_def(Commands=commands))).argv == ("second",)
    assert _node(documents(None, a_def(Command={"Name": "", "Exec": " "}))).argv is None


def test_flags_are_final_text() -> None:
    flags = {"t": True, "n": 800.0, "f": 0.25, "s": "a b", "e": "", "none": None}
    node = _node(documents(a_flow(a_node(flags=flags))))
    assert node.flags == {"t": "true", "n": "800", "f": "0.25", "s": "a b", "e": ""}
    assert set(node.flag_names) == set(flags)


def test_defaults_fill_what_a_node_leaves_out_and_an_unset_flag_is_known_by_name() -> None:
    declared = [
        {"Name": "q", "Type": "int", "Default": 85},
        {"Name": "w"},
        {"Name": "b", "Type": "bool", "Default": "TRUE"},
    ]
    node = _node(documents(None, a_def(Flags=declared)))
    assert (node.flags, node.flag_names) == ({"b": "true", "q": "85"}, ("b", "q", "w"))


def test_what_a_command_may_name_includes_optional_ports_that_are_not_bound() -> None:
    definition = a_def(
        Inputs=[{"Name": "in"}, {"Name": "mask", "Required": False}], Command={"Exec": "c ${in} ${mask}"}
    )
    assert _node(documents(None, definition)).flag_names == ("mask",)


def test_an_output_of_exactly_one_type_has_its_extension() -> None:
    outputs = [
        {"Name": "out", "Type": ["image/jpg"]},
        {"Name": "any"},
        {"Name": "two", "Type": ["image/png", "image/gif"]},
    ]
    plan = planned(documents(a_flow(a_node(writes={"out": "a", "any": "b", "two": "c"})), a_def(Outputs=outputs)))
    assert [binding.extension for binding in plan.nodes[NodeID("copy")].outputs] == [".jpg", "", ""]
    assert [plan.edges[Edge(edge)].extension for edge in "abc"] == [".jpg", "", ""]


def test_an_upload_takes_what_all_its_readers_take() -> None:
    defs = [
        a_def("p/a", Inputs=[{"Name": "in", "Type": ["image/*"]}]),
        a_def("p/b", Inputs=[{"Name": "in", "Type": "image/png"}]),
    ]
    nodes = [a_node("a", Uses="p/a", writes={"out": "x"}), a_node("b", Uses="p/b", writes={"out": "y"})]
    edge = planned(documents(a_flow(*nodes), *defs)).edges[Edge("in")]
    assert (edge.types, edge.extension) == (("image/png",), ".png")


def test_a_well_says_where_and_how_an_edge_is_kept() -> None:
    well = {
        "Edge": "in",
        "Source": "upload",
        "Store": "default",
        "Key": "${RUN_ID}",
        "Lifetime": "1d",
        "Primary": True,
        "MaxSize": "1mb",
    }
    edge = planned(documents(a_flow(DataWells=[well]))).edges[Edge("in")]
    assert (edge.key, edge.lifetime_s, edge.primary, edge.max_size_bytes) == ("${RUN_ID}", 86400, True, 1024**2)


def test_the_default_well_serves_every_edge_without_one() -> None:
    flow = a_flow(DefaultDataWell={"Store": "archive", "Key": "${RUN_ID}/${EDGE}"}, DataWells=[{"Edge": "out"}])
    plan = planned(documents(flow), stores=["archive"])
    assert plan.edges[Edge("in")].key == "${RUN_ID}/${EDGE}"
    assert {edge.store for edge in plan.edges.values()} == {"archive"}
    assert plan.edges[Edge("out")].key is None


def test_a_well_without_a_source_on_an_edge_from_outside_is_an_upload_kept_there() -> None:
    edge = planned(documents(a_flow(DataWells=[{"Edge": "in", "Store": "archive"}])), stores=["archive"]).edges[
        Edge("in")
    ]
    assert (edge.source, edge.store) == (Source.UPLOAD, "archive")


def test_a_store_of_the_flow_is_planned_without_its_secret() -> None:
    params = {
        "Endpoint": "s:9000",
        "Bucket": "b",
        "AccessKey": "k",
        "SecretKey": "hush",
        "Secure": False,
        "Region": "eu",
    }
    plan = planned(documents(a_flow(Stores=[{"Name": "mine", "Type": "minio", "Params": params}])), stores=[])
    store = plan.stores["mine"]
    assert (store.bucket, store.location, store.secure) == ("b", "eu", False)
    assert {edge.store for edge in plan.edges.values()} == {"mine"}
    assert "hush" not in repr(plan)


def test_parameters_are_put_into_flags() -> None:
    plan = _with_parameters(
        {"a": "${PARAM.n}px", "b": "${PARAM.s}", "c": "${PARAM.o}", "d": "<${PARAM.o}>"}, {"s": "x y", "n": 5}
    )
    assert plan.nodes[NodeID("copy")].flags == {"a": "5px", "b": "x y", "d": "<>"}
    assert plan.parameters == {"n": "5", "s": "x y"}


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({}, "s is required"),
        ({"s": "x", "n": "wide"}, "n wants a int"),
        ({"s": "x", "z": 1}, "no parameter 'z'"),
        ({"s": []}, "s wants"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(given: Json, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        _with_parameters({}, given)


def test_all_parameters_that_do_not_fit_are_told_each_with_its_place() -> None:
    with pytest.raises(InvalidRequest) as refused:
        _with_parameters({}, {"n": "wide", "z": 1})
    assert [detail["Path"] for detail in refused.value.details if isinstance(detail, dict)] == [
        "$.Parameters.n",
        "$.Parameters.s",
        "$.Parameters.z",
    ]


def test_a_short_flow_cannot_become_a_huge_one_by_its_parameters() -> None:
    flow = a_flow(a_node(flags={f"f{place}": "${PARAM.s}" * 50 for place in range(10)}), Parameters=PARAMETERS)
    with pytest.raises(InvalidRequest, match="too long"):
        planned(documents(flow), parameters={"s": "x" * 60_000})


@pytest.mark.parametrize("value", ["../..", "/etc", "a\nb", "x" * 300, ""])
def test_a_parameter_cannot_make_a_key_unsafe(value: str) -> None:
    body = documents(a_flow(Parameters=PARAMETERS, DataWells=[{"Edge": "out", "Key": "${PARAM.s}/${RUN_ID}"}]))
    assert planned(body, parameters={"s": "a/b"}).edges[Edge("out")].key == "${PARAM.s}/${RUN_ID}"
    with pytest.raises(InvalidRequest, match="not allowed"):
        planned(body, parameters={"s": value})


@pytest.mark.parametrize(
    ("key", "error"), [("${FLOW_NAME}/${RUN_ID}", "not allowed"), ("${PARAM.o}/${RUN_ID}", "has no value")]
)
def test_a_key_that_can_never_be_made_is_refused_before_the_run(key: str, error: str) -> None:
    flow = a_flow(Parameters=PARAMETERS, DataWells=[{"Edge": "out", "Key": key}], Name="..")
    with pytest.raises(InvalidRequest, match=error):
        planned(documents(flow), parameters={"s": "x"})


def test_a_parameter_cannot_smuggle_an_option() -> None:
    flow = a_flow(a_node(flags={"f": "${PARAM.s}"}), Parameters=PARAMETERS)
    body = documents(flow, a_def(Command={"Exec": "tool ${f}"}))
    with pytest.raises(InvalidRequest, match="node copy: the value of flag f begins with '-'"):
        planned(body, parameters={"s": "--force"})


def test_plans_that_mean_the_same_have_one_digest() -> None:
    spelled = documents(a_flow(a_node(flags={"a": 1, "b": 2}, timeout="90s")))
    again = documents(a_flow(a_node(flags={"b": "2", "a": 1.0}, Timeout="1m30s", Tier="c-small", MaxAttempts=3)))
    assert planned(spelled).digest == planned(again).digest


@pytest.mark.parametrize("change", [{"Timeout": "91s"}, {"Tier": "c-nano"}, {"MaxAttempts": 4}, {"ID": "other"}])
def test_a_change_of_meaning_changes_the_digest(change: Json) -> None:
    before = planned(documents(a_flow(a_node(Timeout="90s")))).digest
    assert planned(documents(a_flow({**a_node(Timeout="90s"), **change}))).digest != before


def test_the_digest_is_that_of_the_definition_whatever_the_parameters() -> None:
    assert (
        _with_parameters({"a": "${PARAM.s}"}, {"s": "x"}).digest
        == _with_parameters({"a": "${PARAM.s}"}, {"s": "y"}).digest
    )


def test_an_unnamed_flow_still_has_a_name_for_keys() -> None:
    assert planned(documents({"Nodes": [a_node()]})).name == "flow"


def test_a_chain_of_thousands_is_planned_in_order() -> None:
    plan = planned(a_chain(2000))
    assert list(plan.nodes) == [f"n{place}" for place in range(2000)]
