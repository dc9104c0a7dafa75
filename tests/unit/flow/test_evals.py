"""Which evaluations a run has, and what counts as a verdict."""

from typing import Any

import pytest

from pupload.controller.evaluations import read_verdict
from pupload.errors import InvalidRequest, Malformed
from pupload.flow.evals import chosen
from pupload.flow.plan import Edge, EvalPlan, FlowRef
from pupload.flow.request import EvalsWish
from tests.support.flows import a_def, a_flow, a_node, codes_with, documents

Json = dict[str, Any]
PLANS = [
    EvalPlan(name, FlowRef("judge", "1", ""), Edge("verdict"), auto_run=auto)
    for name, auto in (("first", True), ("second", False), ("third", True))
]
JUDGE = documents(a_flow(a_node(reads={"in": "photo"}, writes={"out": "verdict"})))


@pytest.mark.parametrize(
    ("wish", "names"),
    [
        ({}, ["first", "third"]),
        ({"RunMode": "block"}, ["first", "third"]),
        ({"RunMode": "Skip"}, []),
        ({"Runs": ["second", "second"]}, ["second"]),
        ({"Runs": []}, []),
        ({"RunMode": "skip", "Runs": ["second"]}, []),
    ],
)
def test_a_wish_picks_evaluations(wish: Json, names: list[str]) -> None:
    assert [plan.name for plan in chosen(PLANS, EvalsWish.model_validate(wish))] == names


@pytest.mark.parametrize("wish", [{"RunMode": "later"}, {"Runs": ["fourth"]}, {"RunMode": "skip", "Runs": ["fourth"]}])
def test_a_wish_for_what_is_not_there_is_refused(wish: Json) -> None:
    with pytest.raises(InvalidRequest):
        chosen(PLANS, EvalsWish.model_validate(wish))


@pytest.mark.parametrize(
    ("inputs", "codes"),
    [
        ({"photo": {"From": "output", "Edge": "out"}}, []),
        ({"photo": {"From": "input", "Edge": "in"}}, []),
        ({"photo": {"Edge": "out"}}, []),
        ({"photo": {"From": "external", "Value": "a text"}}, []),
        ({"photo": {"Value": ""}}, []),
        ({}, ["EVAL_002"]),
        ({"photo": {}}, ["EVAL_002"]),
        ({"photo": {"From": "external"}}, ["EVAL_002"]),
        ({"photo": {"From": "external", "Value": 1, "Edge": "out"}}, ["EVAL_002"]),
        ({"photo": {"From": "output", "Edge": "out", "Value": 1}}, ["EVAL_002"]),
        ({"photo": {"From": "output", "Edge": "in"}}, ["EVAL_002"]),
        ({"photo": {"From": "input", "Edge": "out"}}, ["EVAL_002"]),
        ({"photo": {"From": "output"}}, ["EVAL_002"]),
        ({"photo": {"From": "elsewhere", "Edge": "out"}}, ["EVAL_002"]),
        ({"photo": {"Edge": "out"}, "painting": {"Edge": "out"}}, ["EVAL_002"]),
    ],
)
def test_an_evaluation_gets_what_its_flow_takes(inputs: Json, codes: list[str]) -> None:
    body = documents(a_flow(Evals=[{"Name": "sharp", "Flow": "judge", "Inputs": inputs}]))
    assert codes_with(body, {"judge": JUDGE}) == codes


def test_an_evaluation_gets_no_type_that_it_does_not_take() -> None:
    typed = a_def(Inputs=[{"Name": "in", "Type": "image/png"}], Outputs=[{"Name": "out"}])
    judge = documents(a_flow(a_node(reads={"in": "photo"}, writes={"out": "verdict"})), typed)
    text = a_def(Inputs=[{"Name": "in"}], Outputs=[{"Name": "out", "Type": "text/plain"}])
    body = documents(a_flow(Evals=[{"Name": "sharp", "Flow": "judge", "Inputs": {"photo": {"Edge": "out"}}}]), text)
    assert codes_with(body, {"judge": judge}) == ["EVAL_002"]


@pytest.mark.parametrize(
    "text",
    [
        '{"type": "metric", "score": 0.5}',
        '{"Type": "pass_fail", "Pass": false, "Reason": "blurred"}',
        '{"type": "category", "category": "cat"}',
    ],
)
def test_a_verdict_is_read_in_any_spelling(text: str) -> None:
    assert read_verdict(text.encode()).wire()["Type"] in text


@pytest.mark.parametrize(
    "text",
    [
        "fine",
        "[]",
        "{}",
        '{"type": "opinion"}',
        '{"type": "metric"}',
        '{"type": "pass_fail", "score": 1}',
        '{"type": "category", "category": ""}',
        '{"type": "metric", "score": 1, "mood": "good"}',
    ],
)
def test_what_is_no_verdict_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        read_verdict(text.encode())
