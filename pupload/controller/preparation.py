"""From a definition and a request to everything decided about a run; no I/O, but long enough to want a thread."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from pydantic import JsonValue

from pupload.config import ControllerConfig
from pupload.errors import InvalidFlow, InvalidRequest
from pupload.flow.callee import NO_CALLEES, Callees, nodes_in, pinned
from pupload.flow.check import check, errors_in
from pupload.flow.compile import compile_plan
from pupload.flow.evals import chosen
from pupload.flow.load import FlowDocuments
from pupload.flow.message import inputs_with_message
from pupload.flow.model import Flow
from pupload.flow.nodedef import NodeDef
from pupload.flow.overrides import Override, apply_overrides, read_overrides
from pupload.flow.parameters import refuse_reserved
from pupload.flow.partial import needed_for
from pupload.flow.plan import Edge, NodeID, Plan
from pupload.flow.request import RunRequest
from pupload.flow.tools import equipped
from pupload.tiers import Tier
from pupload.units import parse_duration

_BULK = {"inputs", "attachments", "flow", "node_defs"}
"""Members of a request that are not kept with it: inputs become objects, and URLs of files may hold secrets."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run with everything decided, before anything of it is stored.

    `digest` is that of the definition, without the request's overrides. `only` are the nodes that may run, None for
    all. `documents`, `request` and `echo` are JSON without secrets, as `NewRun` keeps them. `nodes` counts those of the
    flows that it calls, too.
    """

    plan: Plan
    nodes: int
    digest: str
    inputs: Mapping[Edge, JsonValue]
    only: frozenset[NodeID] | None
    timeout: timedelta
    documents: str
    request: str
    echo: str


class Preparation:
    """Prepares runs, with the tiers and limits of this server."""

    def __init__(self, config: ControllerConfig, tiers: Mapping[str, Tier]) -> None:
        self._config, self._tiers = config, tiers

    def prepare(
        self,
        flow: Flow,
        defs: Sequence[NodeDef],
        request: RunRequest,
        *,
        stores: Collection[str],
        digest: str = "",
        callees: Callees = NO_CALLEES,
    ) -> Prepared:
        """The run that this request makes of this definition. `digest` is the definition's, "" for one to be found.

        Errors: InvalidFlow with all findings; InvalidRequest or CallerError for what does not fit the flow.
        """
        refuse_reserved(flow.parameters, request.parameters)
        overrides = read_overrides(request.overrides, flow, defs) if request.overrides else {}
        changed, changed_defs = apply_overrides(flow, defs, overrides) if overrides else (flow, defs)
        plan = self._compile(changed, changed_defs, request, stores, callees)
        if not digest:
            digest = self._compile(flow, defs, request, stores, callees).digest if overrides else plan.digest
        return Prepared(
            plan=plan,
            nodes=nodes_in(changed, callees),
            digest=digest,
            inputs=inputs_with_message(plan, request.inputs, request.message),
            only=needed_for(plan, request.only_nodes) if request.only_nodes else None,
            timeout=self._timeout(plan, request),
            documents=_documents(pinned(flow, callees) if callees else flow, defs),
            request=request.model_dump_json(by_alias=True, exclude_unset=True, exclude=_BULK),
            echo=_echo(flow, request, overrides),
        )

    def _compile(
        self, flow: Flow, defs: Sequence[NodeDef], request: RunRequest, stores: Collection[str], callees: Callees
    ) -> Plan:
        most = self._config.max_nodes
        findings = check(flow, defs, tiers=self._tiers, stores=stores, max_nodes=most, callees=callees)
        if errors_in(findings):
            wrong = len(errors_in(findings))
            raise InvalidFlow(f"the flow has {wrong} {'error' if wrong == 1 else 'errors'}", details=findings)
        plan = compile_plan(
            flow,
            defs,
            tiers=self._tiers,
            stores=stores,
            node_timeout_s=self._config.node_timeout_s,
            parameters=request.parameters,
            callees=callees,
        )
        plan = replace(plan, max_restarts=self._config.restarts, evals=chosen(plan.evals, request.evals))
        return equipped(plan, request)

    def _timeout(self, plan: Plan, request: RunRequest) -> timedelta:
        """The flow's, or this server's; the request can only shorten it."""
        longest = timedelta(seconds=plan.timeout_s or self._config.run_timeout_s)
        return min(longest, duration_of("Timeout", request.timeout)) if request.timeout else longest


def _documents(flow: Flow, defs: Sequence[NodeDef]) -> str:
    return FlowDocuments(flow=flow, node_defs=list(defs)).model_dump_json(by_alias=True, exclude_unset=True)


def duration_of(member: str, text: str) -> timedelta:
    """The duration that a member of a request says.

    Errors: InvalidRequest naming the member.
    """
    try:
        return parse_duration(text)
    except ValueError as error:
        details = [{"Code": "FLOW_003", "Path": f"$.{member}", "Message": str(error)}]
        raise InvalidRequest(f"{member}: {error}", code="FLOW_003", details=details) from error


def _echo(flow: Flow, request: RunRequest, overrides: Mapping[str, Override]) -> str:
    parameters = {p.name: request.parameters.get(p.name, p.default) for p in flow.parameters}
    echo = {
        "Parameters": {name: value for name, value in parameters.items() if value is not None},
        "Overrides": {node: override.effective() for node, override in overrides.items()},
        "OnlyNodes": request.only_nodes,
    }
    return json.dumps({member: value for member, value in echo.items() if value}, ensure_ascii=False)
