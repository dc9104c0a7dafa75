"""Golden pairs: a flow in, the plan that is expected out."""

import json
from pathlib import Path

import pytest

from pupload.flow.check import errors_in
from pupload.flow.plan import dump_plan, load_plan
from tests.support.flows import findings, planned

PLANS = Path(__file__).parent / "plans"
FLOWS = sorted(path for path in PLANS.glob("*.flow.json"))


@pytest.mark.parametrize("flow", FLOWS, ids=lambda path: path.name.removesuffix(".flow.json"))
def test_a_flow_gives_the_expected_plan(flow: Path, *, write_golden: bool) -> None:
    given = json.loads(flow.read_text())
    plan = planned(given["Documents"], parameters=given.get("Parameters"))
    expected = flow.with_name(flow.name.replace(".flow.", ".plan."))
    if write_golden:
        expected.write_text(json.dumps(json.loads(dump_plan(plan)), indent=2, ensure_ascii=False) + "\n")
    assert json.loads(dump_plan(plan)) == json.loads(expected.read_text())


@pytest.mark.parametrize("flow", FLOWS, ids=lambda path: path.name.removesuffix(".flow.json"))
def test_a_golden_flow_has_no_error(flow: Path) -> None:
    assert errors_in(findings(json.loads(flow.read_text())["Documents"])) == []


@pytest.mark.parametrize("flow", FLOWS, ids=lambda path: path.name.removesuffix(".flow.json"))
def test_a_plan_survives_its_store(flow: Path) -> None:
    given = json.loads(flow.read_text())
    plan = planned(given["Documents"], parameters=given.get("Parameters"))
    assert load_plan(dump_plan(plan)) == plan


def test_every_golden_flow_has_its_plan() -> None:
    plans = {path.name.removesuffix(".plan.json") for path in PLANS.glob("*.plan.json")}
    assert plans == {path.name.removesuffix(".flow.json") for path in FLOWS}
    assert plans
