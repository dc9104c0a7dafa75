"""Is this flow allowed: every finding at once. PURE."""

from collections.abc import Collection, Mapping, Sequence
from itertools import islice

from pupload.flow.callee import NO_CALLEES, Callees
from pupload.flow.model import Flow
from pupload.flow.nodedef import NodeDef
from pupload.flow.rules import callee, edge, node, nodedef, store, well
from pupload.flow.rules import flow as whole_flow
from pupload.flow.rules.rule import Finding, Rule, Severity, rules_of
from pupload.flow.survey import survey
from pupload.tiers import Tier

__all__ = ["RULES", "Finding", "Rule", "Severity", "check", "errors_in"]

MAX_NODES = 10_000
MAX_FINDINGS = 1_000

RULES: dict[str, Rule] = {
    rule.code: rule
    for module in (whole_flow, node, nodedef, edge, well, store, callee)
    for rule in rules_of(module.__name__)
}
"""Every rule by its code, in the order in which findings are listed."""


def check(
    flow: Flow,
    defs: Sequence[NodeDef],
    *,
    tiers: Mapping[str, Tier],
    stores: Collection[str],
    max_nodes: int = MAX_NODES,
    callees: Callees = NO_CALLEES,
) -> list[Finding]:
    """Everything that is wrong with `flow`; it can run when `errors_in` the findings is empty.

    `stores` are the names of the server's stores, `callees` what the flows that it names turned out to be. A flow that
    is too large is not looked into any further, and of one code at most `MAX_FINDINGS` are listed.
    """
    surveyed = survey(flow, defs, tiers=tiers, stores=stores, max_nodes=max_nodes, callees=callees)
    too_large = list(RULES["FLOW_005"].findings(surveyed))
    return too_large or [f for rule in RULES.values() for f in islice(rule.findings(surveyed), MAX_FINDINGS)]


def errors_in(findings: Sequence[Finding]) -> list[Finding]:
    """The findings with which a flow cannot run."""
    return [finding for finding in findings if finding.severity is Severity.ERROR]
