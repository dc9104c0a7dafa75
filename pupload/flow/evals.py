"""Evaluations of a flow: flows that judge its runs. PURE."""

from collections.abc import Sequence

from pupload.errors import InvalidRequest
from pupload.flow.callee import Callee, eval_reference
from pupload.flow.model import EvalInput, FlowEval
from pupload.flow.plan import Edge, EvalInputPlan, EvalPlan, FlowRef
from pupload.flow.request import EvalsWish
from pupload.flow.survey import Survey

MODES = ("async", "block", "skip")


def eval_plans(surveyed: Survey) -> tuple[EvalPlan, ...]:
    """The evaluations of a checked flow."""
    callees = surveyed.callees
    return tuple(_eval_plan(each, callees[eval_reference(each.flow)]) for each in surveyed.flow.evals)


def _eval_plan(each: FlowEval, callee: Callee) -> EvalPlan:
    return EvalPlan(
        name=each.name,
        flow=FlowRef(callee.name, callee.version, callee.digest),
        verdict=Edge(callee.finals[0]),
        inputs={Edge(edge): _input_plan(given) for edge, given in sorted(each.inputs.items())},
        on=tuple(sorted({status.upper() for status in each.on})),
        auto_run=each.auto_run,
    )


def _input_plan(given: EvalInput) -> EvalInputPlan:
    return EvalInputPlan(edge=Edge(given.edge)) if given.edge else EvalInputPlan(value=given.value)


def mode_of(wish: EvalsWish) -> str:
    """async, block or skip. Errors: InvalidRequest for another."""
    mode = wish.run_mode.lower()
    if mode not in MODES:
        raise InvalidRequest(f"Evals.RunMode is one of {', '.join(MODES)}, not {mode[:80]!r}", code="INVALID_RUN_MODE")
    return mode


def chosen(plans: Sequence[EvalPlan], wish: EvalsWish) -> tuple[EvalPlan, ...]:
    """The evaluations that a run is to have: those that `wish` names, else those that run of themselves.

    Errors: InvalidRequest for a name that the flow does not have.
    """
    named = {plan.name: plan for plan in plans}
    if unknown := [name for name in wish.runs or () if name not in named]:
        known = ", ".join(named) or "none"
        raise InvalidRequest(f"there is no evaluation {unknown[0]!r}; there is {known}", code="EVAL_NOT_FOUND")
    if mode_of(wish) == "skip":
        return ()
    if wish.runs is not None:
        return tuple(named[name] for name in dict.fromkeys(wish.runs))
    return tuple(plan for plan in plans if plan.auto_run)
