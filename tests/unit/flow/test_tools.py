"""What a request may offer to its nodes, and what they may ask."""

import json
import sys
from dataclasses import replace
from typing import Any

import pytest

from pupload.errors import CallerError, InvalidRequest
from pupload.flow.plan import NodeID, ToolChoice, ToolOffer, dump_plan, load_plan
from pupload.flow.request import RunRequest
from pupload.flow.tools import MAX_CALLS, Refusal, equipped, file_for_node, read_offer, schema_problem, weigh_calls
from tests.support.runs import a_plan

pytestmark = pytest.mark.unit

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def a_tool(name: str = "look", **parameters: Any) -> Any:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def offered(*tools: Any, choice: Any = None) -> ToolOffer:
    return read_offer(tools or (a_tool("look", **CITY), a_tool("listen")), choice)


def asked(offer: ToolOffer, *calls: Any) -> Any:
    return weigh_calls(offer, json.dumps(calls))


def code_of(weighed: Any) -> str:
    assert isinstance(weighed, Refusal), weighed
    return weighed.code


def test_a_call_that_is_on_offer_is_taken() -> None:
    (call,) = asked(offered(), {"id": "1", "name": "look", "arguments": {"city": "Oslo"}})
    assert (call.id, call.name, call.arguments) == ("1", "look", {"city": "Oslo"})
    assert call.wire() == {"ID": "1", "Name": "look", "Arguments": {"city": "Oslo"}}


def test_arguments_may_be_their_own_json_text_or_left_out() -> None:
    calls = asked(
        offered(), {"id": "1", "name": "look", "arguments": '{"city": "Oslo"}'}, {"id": "2", "name": "listen"}
    )
    assert [call.arguments for call in calls] == [{"city": "Oslo"}, {}]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "{}",
        "[]",
        "[1]",
        '[{"id": "1"}]',
        '[{"id": "", "name": "listen"}]',
        '[{"id": "1", "name": "listen", "arguments": [1]}]',
        '[{"id": "1", "name": "listen", "arguments": "no"}]',
        '[{"id": "1", "name": "listen", "why": "so"}]',
        '[{"id": "1\\u0000", "name": "listen"}]',
        '[{"id": "1", "name": "listen"}, {"id": "1", "name": "listen"}]',
        json.dumps([{"id": str(n), "name": "listen"} for n in range(MAX_CALLS + 1)]),
        '[{"id": "1", "name": "listen", "arguments": {"a": "\\ud800"}}]',
        '[{"id": "1", "name": "listen", "arguments": {"a": 1e999}}]',
        "[" * 100_000,
    ],
)
def test_what_is_no_list_of_calls_is_refused(text: str) -> None:
    assert code_of(weigh_calls(offered(), text)) == "TOOL_CALLS_INVALID"


def test_a_name_that_is_not_on_offer_is_refused_with_those_that_are() -> None:
    refusal = asked(offered(), {"id": "1", "name": "smell"})
    assert code_of(refusal) == "TOOL_NAME_INVALID"
    assert "listen, look" in refusal.message


def test_arguments_that_do_not_fit_are_refused_with_their_place() -> None:
    refusal = asked(offered(), {"id": "1", "name": "look", "arguments": {"city": 7}})
    assert code_of(refusal) == "TOOL_ARGUMENTS_INVALID"
    assert "$.city" in refusal.message
    assert code_of(asked(offered(), {"id": "1", "name": "look"})) == "TOOL_ARGUMENTS_INVALID"


def test_nothing_may_be_asked_for_where_the_choice_is_none() -> None:
    assert code_of(asked(offered(choice="none"), {"id": "1", "name": "listen"})) == "TOOL_CHOICE_VIOLATED"


def test_only_the_named_tool_may_be_asked_for() -> None:
    offer = offered(choice={"type": "function", "function": {"name": "listen"}})
    assert not isinstance(asked(offer, {"id": "1", "name": "listen"}), Refusal)
    look = {"id": "1", "name": "look", "arguments": {"city": "Oslo"}}
    assert code_of(asked(offer, look)) == "TOOL_NAME_INVALID"


@pytest.mark.parametrize(
    ("tools", "choice"),
    [
        (["look"], None),
        ([{"type": "retrieval"}], None),
        ([{"type": "function", "function": {"name": ""}}], None),
        ([a_tool("a b")], None),
        ([a_tool("x" * 65)], None),
        ([a_tool("look"), a_tool("look")], None),
        ([a_tool("look", type="strong")], None),
        ([a_tool(f"t{n}") for n in range(65)], None),
        ([a_tool("look")], "maybe"),
        ([a_tool("look")], 7),
        ([a_tool("look")], {"type": "function", "function": {"name": "listen"}}),
        ([], "required"),
    ],
)
def test_an_offer_of_a_wrong_shape_is_refused(tools: list[Any], choice: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_offer(tools, choice)
    assert caught.value.code == "INVALID_TOOLS"


def test_a_schema_may_refer_to_its_own_parts() -> None:
    schema: dict[str, Any] = {"$defs": {"city": {"type": "string"}}, "properties": {"a": {"$ref": "#/$defs/city"}}}
    assert schema_problem(schema) == ""
    offer = offered(a_tool("look", **schema))
    assert code_of(asked(offer, {"id": "1", "name": "look", "arguments": {"a": 1}})) == "TOOL_ARGUMENTS_INVALID"


def doubling(times: int) -> dict[str, Any]:
    """A small schema that unfolds to 2 to the power of `times` parts."""
    parts: dict[str, Any] = {
        f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": f"#/$defs/d{n + 1}"}]} for n in range(times)
    }
    return {"$defs": {**parts, f"d{times}": {"type": "object"}}, "$ref": "#/$defs/d0"}


def leading_far(steps: int) -> dict[str, Any]:
    """A schema whose references are a long chain."""
    return {
        "$defs": {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(steps)} | {f"d{steps}": {}},
        "$ref": "#/$defs/d0",
    }


def nested_far(steps: int, depth: int) -> dict[str, Any]:
    """A schema with a chain of references, each from deep below."""
    parts: dict[str, Any] = {f"d{steps}": {}}
    for n in range(steps):
        part: dict[str, Any] = {"$ref": f"#/$defs/d{n + 1}"}
        for _ in range(depth):
            part = {"not": part}
        parts[f"d{n}"] = part
    return {"$defs": parts, "$ref": "#/$defs/d0"}


def hidden(schema: dict[str, Any], name: str, property_name: str) -> dict[str, Any]:
    """The schema's first definition, reached from a place, or by a spelling, that is easily overlooked."""
    return {
        "$defs": {**schema["$defs"], "%640": {}},
        "properties": {property_name: {"$ref": f"#/$defs/{name}"}},
    }


@pytest.mark.parametrize(
    "schema",
    [
        leading_far(5000),
        nested_far(31, 22),
        hidden(doubling(40), "d0", "$defs"),
        hidden(doubling(40), "%640", "a"),
        {"$defs": {"ab": {"$ref": "#/$defs/ab"}, "a%62": {}}, "properties": {"a": {"$ref": "#/$defs/a%62"}}},
        {"patternProperties": {f"{n}$": {} for n in range(1000)}},
        {"anyOf": [{"pattern": f"{n}$"} for n in range(1000)]},
        {"pattern": "(.{0,200}x){0,50}$"},
        {"$ref": "http://127.0.0.1:1/x"},
        {"$ref": "file:///etc/passwd"},
        {"$ref": "#"},
        {"$ref": "#/$defs/nothing"},
        {"$defs": {"a": {"properties": {"b": {"$ref": "#/$defs/a"}}}}, "$ref": "#/$defs/a"},
        {"$id": "http://elsewhere/", "properties": {}},
        {"$dynamicRef": "#a"},
        {"pattern": "(?=look)ahead"},
        {"pattern": "("},
        doubling(40),
    ],
    ids=lambda schema: str(schema)[:60],
)
def test_a_schema_that_could_lead_astray_or_take_for_ever_is_refused(schema: dict[str, Any]) -> None:
    assert schema_problem(schema)


def test_how_deep_a_schema_may_be_does_not_hang_on_how_far_the_interpreter_goes() -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    try:
        assert "too deeply" in schema_problem(nested_far(31, 22))
    finally:
        sys.setrecursionlimit(limit)


def test_the_schemas_of_an_offer_are_bounded_together() -> None:
    def tools(count: int) -> list[Any]:
        return [a_tool(f"t{n}", anyOf=[{"const": each} for each in range(500)]) for n in range(count)]

    assert len(read_offer(tools(10), None).functions) == 10
    with pytest.raises(InvalidRequest, match="with the other tools"):
        read_offer(tools(64), None)


def test_arguments_too_large_for_their_schema_are_refused_and_not_checked() -> None:
    tool = a_tool("look", anyOf=[{"const": each} for each in range(5000)])
    small, large = {"a": 1}, {f"{n}": "x" for n in range(20_000)}
    offer = offered(tool, a_tool("listen"))
    assert code_of(asked(offer, {"id": "1", "name": "look", "arguments": small})) == "TOOL_ARGUMENTS_INVALID"
    refused = asked(offer, {"id": "1", "name": "look", "arguments": large})
    assert "too large to be checked" in refused.message
    assert not isinstance(asked(offer, {"id": "1", "name": "listen", "arguments": large}), Refusal)


@pytest.mark.parametrize("value", ["\\u0000", "\\ud800"])
def test_arguments_as_text_hold_nothing_that_others_must_not(value: str) -> None:
    call = {"id": "1", "name": "listen", "arguments": f'{{"a": "{value}"}}'}
    assert code_of(asked(offered(), call)) == "TOOL_CALLS_INVALID"


def test_a_pattern_takes_linear_time() -> None:
    offer = offered(a_tool("look", properties={"a": {"type": "string", "pattern": "^(a+)+$"}}))
    arguments = {"a": "a" * 60_000 + "b"}
    assert code_of(asked(offer, {"id": "1", "name": "look", "arguments": arguments})) == "TOOL_ARGUMENTS_INVALID"


def test_tools_that_no_node_takes_are_refused() -> None:
    plan = a_plan("n: in -> out")
    for request in (RunRequest(tools=[a_tool()]), RunRequest(tool_choice="none")):
        with pytest.raises(CallerError) as caught:
            equipped(plan, request)
        assert caught.value.code == "TOOLS_NOT_ENABLED"
    assert equipped(plan, RunRequest()) is plan


def test_a_plan_with_tools_survives_its_store() -> None:
    plan = a_plan("n: in -> out")
    node = replace(plan.nodes[NodeID("n")], ask_exit_code=85)
    asking = replace(plan, nodes={node.id: node})
    with_tools = equipped(asking, RunRequest(tools=[a_tool("look", **CITY)], tool_choice="required", trace=True))
    assert (with_tools.tools.choice, with_tools.trace) == (ToolChoice.REQUIRED, True)
    assert load_plan(dump_plan(with_tools)) == with_tools


def test_a_node_reads_the_offer_as_a_request_would_write_it() -> None:
    choice = {"type": "function", "function": {"name": "look"}}
    written = json.loads(file_for_node(offered(a_tool("look", **CITY), choice=choice)))
    assert written["ToolChoice"] == choice
    assert read_offer(written["Tools"], written["ToolChoice"]) == offered(a_tool("look", **CITY), choice=choice)
