"""A new run of what an earlier run was: it keeps what still exists and need not be made again, and names it."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import asyncpg
from pydantic import JsonValue

from pupload.controller.attachments import attachments_of
from pupload.controller.calls import Call, Calls
from pupload.controller.existing import existing
from pupload.controller.preparation import Prepared
from pupload.controller.secrets import SecretBox
from pupload.controller.service import Service
from pupload.controller.submission import Definition, Start, Submission
from pupload.db.pool import Connection
from pupload.db.runs import artifact_of, no_such_run
from pupload.db.sql import SQL
from pupload.errors import Conflict, InvalidRequest
from pupload.flow.load import FlowDocuments
from pupload.flow.model import Flow, FlowStore
from pupload.flow.nodedef import NodeDef
from pupload.flow.overrides import Override, read_overrides
from pupload.flow.partial import no_such_node
from pupload.flow.plan import Edge, NodeID, Plan, Source
from pupload.flow.request import ReplayRequest, RunRequest
from pupload.run.replay import Earlier, edited_nodes, kept_edges, kept_nodes, to_run_again
from pupload.run.state import Artifact, NodeStatus, RunID

_TOOLS = {"tools", "tool_choice"}
_REPEATED = {"parameters", "overrides", "only_nodes", "timeout", "session_id", "trace", "attachments"} | _TOOLS
"""Members that are as they were unless the new request says otherwise. Whom to tell, and what to pay, is said anew."""


@dataclass(frozen=True, slots=True)
class _Earlier:
    """An ended run with everything that a new run of it begins from."""

    id: RunID
    root: str
    plan: Plan
    definition: Definition
    request: RunRequest
    statuses: Mapping[NodeID, NodeStatus]
    artifacts: Mapping[Edge, Artifact]


class Replays:
    """Makes runs from earlier runs."""

    def __init__(self, service: Service, submission: Submission, calls: Calls, box: SecretBox) -> None:
        self._service, self._submission, self._calls, self._box = service, submission, calls, box

    async def start(self, run_id: RunID, wish: ReplayRequest, call: Call) -> RunID:
        """The new run.

        Errors: NotFound; Conflict while the earlier run has not ended; InvalidRequest; as `Submission.start`.
        """
        if wish.version is not None:
            raise InvalidRequest("a replay runs what its run ran; leave out Version, or call the flow")
        if wish.from_ is not None and wish.failed_only:
            raise InvalidRequest("give From or FailedOnly, not both")
        if same := await self._calls.earlier(call):
            return same
        earlier = await self._earlier(run_id, call.account)
        request = _merged(earlier, wish)
        prepared = await self._submission.prepare(call.account, earlier.definition, request)
        kept, edges = await self._kept(earlier, wish, prepared)
        present = {edge: _borrowed(earlier, edge) for edge in edges}
        start = Start(earlier.definition, request, kept=kept, present=present, root=earlier.root, replay_of=earlier.id)
        return await self._calls.begin(start, call)

    async def _kept(
        self, earlier: _Earlier, wish: ReplayRequest, prepared: Prepared
    ) -> tuple[frozenset[NodeID], frozenset[Edge]]:
        """The nodes that do not run again, and the edges whose objects are there."""
        plan = prepared.plan
        known = {edge: artifact for edge, artifact in earlier.artifacts.items() if edge in plan.edges}
        there = await existing(self._submission.keeper_of(earlier.definition, plan), known.values())
        left = Earlier(earlier.statuses, frozenset(known), there.union(prepared.inputs))
        changed = edited_nodes(plan, earlier.plan) | _readers(plan, prepared.inputs) | _offered_anew(plan, wish)
        kept = kept_nodes(plan, left, to_run_again(plan, left, changed.union(_begin(plan, wish))))
        return kept, kept_edges(plan, left, kept, prepared.inputs)

    async def _earlier(self, run_id: RunID, account: str) -> _Earlier:
        async def read(connection: Connection) -> _Earlier:
            header = await connection.fetchrow(SQL["run_header"], run_id)
            if header is None:
                raise no_such_run(run_id)
            if header["finished_at"] is None:
                raise Conflict("the run has not ended; wait for it, or cancel it first", code="RUN_NOT_ENDED")
            [posted] = await connection.fetch(SQL["run_request"], run_id)
            flow, defs = await asyncio.to_thread(_documents, posted["documents"])
            secrets = await connection.fetch(SQL["run_secrets"], run_id)
            nodes = await connection.fetch(SQL["nodes_of_run"], run_id)
            artifacts = [artifact_of(row) for row in await connection.fetch(SQL["artifacts_of_run"], run_id)]
            plan = await self._service.plans.get(connection, run_id)
            request = RunRequest.model_validate_json(posted["request"])
            if plan.attachments:
                attachments = await attachments_of(connection, self._box, run_id, plan)
                request = request.model_copy(update={"attachments": attachments})
            return _Earlier(
                run_id,
                header["root_run"],
                plan,
                Definition(self._with_secrets(flow, secrets), defs, header["flow_version"], header["digest"]),
                _in_session(request, await connection.fetchrow(SQL["look_up_session"], header["session_id"], account)),
                {NodeID(row["node_id"]): NodeStatus(row["status"]) for row in nodes},
                {artifact.edge: artifact for artifact in artifacts},
            )

        return await self._service.database.transact(read)

    def _with_secrets(self, flow: Flow, sealed: Iterable[asyncpg.Record]) -> Flow:
        secrets = {row["store"]: self._box.open(row["encrypted"]) for row in sealed}
        return flow.model_copy(update={"stores": [_with_secret(store, secrets) for store in flow.stores]})


def _in_session(request: RunRequest, session: asyncpg.Record | None) -> RunRequest:
    """The request as one that names the session that its run was in: what is kept was worked out there.

    One that is gone, or is not the caller's, is no reason to refuse: the new run gets a session of its own.
    """
    return request.model_copy(update={"session_id": session["id"] if session else None})


def _documents(text: str) -> tuple[Flow, Sequence[NodeDef]]:
    if text == "{}":
        raise Conflict("nothing is kept of what this run ran, so it cannot run again", code="NOT_REPLAYABLE")
    read = FlowDocuments.model_validate_json(text)
    return read.flow, read.node_defs


def _with_secret(store: FlowStore, secrets: Mapping[str, str]) -> FlowStore:
    if store.name not in secrets:
        return store
    return store.model_copy(update={"params": {**store.params, "SecretKey": secrets[store.name]}})


def _borrowed(earlier: _Earlier, edge: Edge) -> Artifact:
    """An artifact of the earlier run as the new one names it."""
    artifact = earlier.artifacts[edge]
    if earlier.plan.edges[edge].source is Source.STATIC:
        return artifact
    return replace(artifact, origin=artifact.origin or earlier.id)


def _readers(plan: Plan, edges: Collection[Edge]) -> set[NodeID]:
    return {reader for edge in edges if edge in plan.edges for reader in plan.edges[edge].consumers}


def _offered_anew(plan: Plan, wish: ReplayRequest) -> set[NodeID]:
    """The nodes that get what the new request brings beside inputs."""
    asks, gets = wish.model_fields_set & _TOOLS, "attachments" in wish.model_fields_set
    nodes = plan.nodes.values()
    return {n.id for n in nodes if (asks and n.ask_exit_code is not None) or (gets and (n.attachments or n.inputs))}


def _begin(plan: Plan, wish: ReplayRequest) -> Collection[NodeID]:
    """Where the new run is to begin: at a node, nowhere of its own, or everywhere."""
    if wish.from_ is None:
        return () if wish.failed_only else plan.nodes.keys()
    if wish.from_ not in plan.nodes:
        raise InvalidRequest(f"From: {no_such_node(wish.from_, plan.nodes)}", code="NODE_NOT_FOUND")
    return {NodeID(wish.from_)}


def _merged(earlier: _Earlier, wish: ReplayRequest) -> RunRequest:
    """The earlier request with what is said anew; parameters one by one, overrides node by node and flag by flag."""
    before = earlier.request
    kept = {name: getattr(before, name) for name in before.model_fields_set & _REPEATED}
    anew = {name: getattr(wish, name) for name in wish.model_fields_set - {"from_", "failed_only"}}
    flow, defs = earlier.definition.flow, earlier.definition.defs
    return RunRequest.model_construct(
        _fields_set={*kept, *anew, "parameters", "overrides"},
        **{
            **kept,
            **anew,
            "parameters": before.parameters | wish.parameters,
            "overrides": _merged_overrides(
                read_overrides(before.overrides, flow, defs), read_overrides(wish.overrides, flow, defs)
            ),
        },
    )


def _merged_overrides(before: Mapping[str, Override], anew: Mapping[str, Override]) -> dict[str, JsonValue]:
    return {
        node: _override(before.get(node, Override()).effective(), anew.get(node, Override()).effective())
        for node in before.keys() | anew.keys()
    }


def _override(before: dict[str, JsonValue], anew: dict[str, JsonValue]) -> JsonValue:
    return {**before, **anew, **{member: _both(before, anew, member) for member in ("Flags", "Env")}}


def _both(before: Mapping[str, JsonValue], anew: Mapping[str, JsonValue], member: str) -> JsonValue:
    one, other = before.get(member), anew.get(member)
    return {**(one if isinstance(one, dict) else {}), **(other if isinstance(other, dict) else {})}
