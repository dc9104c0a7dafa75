"""One step of a loop: a run in which the nodes behind the cursor are kept, the one at it runs, the rest is skipped.

Nothing is kept of the loop here. The client brings back the outputs of earlier steps as references that this server
signed; so any controller can take the next step, after any restart.
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from pupload.answers.runs import RunEvent, StepPaused
from pupload.controller.calls import Call, Calls
from pupload.controller.existing import existing
from pupload.controller.flows import DRAFT, Flows
from pupload.controller.ground import Ground
from pupload.controller.references import Reference, References, Signed
from pupload.controller.submission import Definition, Start, Submission
from pupload.controller.views import Views
from pupload.db.origins import is_run
from pupload.db.runs import artifact_of
from pupload.db.sql import SQL
from pupload.errors import CallerError, Conflict, DatabaseUnavailable, Forbidden, Gone, InvalidRequest
from pupload.flow.cursor import Behind, Cursor, cursor_at, left_behind
from pupload.flow.partial import no_such_node
from pupload.flow.plan import Edge, NodeID, Plan, Source
from pupload.flow.request import RunRequest, StepRequest
from pupload.run.commands import RecordType
from pupload.run.state import Artifact, RunID

_LOG = logging.getLogger(__name__)
_AGAIN_S = 0.5

INPUTS = "$inputs"
"""The key of `AccumulatedOutputs` for what no node wrote. No node can have it for its id."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step that has begun, and what is needed to tell of its end. `held` are the references that the client goes on
    holding, by edge: also of objects that were replaced for this step alone."""

    run_id: RunID
    root: RunID
    digest: str
    plan: Plan
    cursor: Cursor
    account: str
    held: Mapping[Edge, Signed]


class Steps:
    """Takes steps."""

    def __init__(self, ground: Ground, flows: Flows, submission: Submission, calls: Calls, views: Views) -> None:
        self._service, self._references = ground.service, References(ground.box)
        self._flows, self._submission, self._calls, self._views = flows, submission, calls, views

    async def start(self, flow: str, wish: StepRequest, call: Call) -> Step:
        """The step's run.

        Errors: NotFound; CallerError for a place that the loop cannot be at; Conflict when the definition is another
        one by now; Forbidden for a reference that is not of this loop; Gone; as `Submission.start`.
        """
        definition = await self._flows.resolve(call.account, flow, wish.version)
        _require_steppable(definition, wish)
        request = _as_run(wish)
        prepared = await self._submission.prepare(call.account, definition, request)
        plan, anew = prepared.plan, prepared.inputs.keys()
        cursor = cursor_at(plan, wish.step_index, remaining=wish.run_remaining)
        root = _root(wish, cursor)
        held = dict(_held(plan, cursor, wish))
        given = {edge: self._read(signed, edge, root, definition, call.account) for edge, signed in held.items()}
        behind = _behind(plan, cursor, given.keys() | anew)
        there = await existing(self._submission.keeper_of(definition, plan), given.values())
        _require_there(plan, cursor, given.keys() - there - anew)
        start = Start(
            definition,
            request,
            kept=frozenset(cursor.behind) - behind.skipped,
            present={edge: given[edge] for edge in there - anew},
            only=frozenset(cursor.now),
            called=True,
            root=root,
        )
        run_id = await self._calls.begin(start, call)
        stays = {edge: signed for edge, signed in held.items() if edge not in anew or edge in wish.input_overrides}
        return Step(run_id, root or run_id, definition.digest, plan, cursor, call.account, stays)

    def _read(self, signed: Signed, edge: Edge, root: RunID, definition: Definition, account: str) -> Artifact:
        reference = self._references.read(signed, root, account)
        if reference.artifact.edge != edge:
            raise Forbidden(
                f"this reference is of edge {reference.artifact.edge!r}, not of {edge!r}", code="BAD_REFERENCE"
            )
        if reference.definition != definition.digest:
            raise _stale()
        return reference.artifact

    async def last_event(self, step: Step, event: RunEvent) -> RunEvent:
        """The last event of the step's stream: that the loop pauses here, where the run's own says that it went well
        and a node is left."""
        if step.cursor.next is None or event.type != RecordType.RUN_COMPLETED:
            return event
        while True:
            try:
                paused = await self._paused(step, step.cursor.next)
            except DatabaseUnavailable as error:
                # The answer has begun, so there is no refusing it, and without this event nobody can go on.
                _LOG.warning("the end of step %s waits for the database: %s", step.run_id, error)
                await asyncio.sleep(_AGAIN_S)
            else:
                return event.model_copy(update={"type": RecordType.STEP_PAUSED.value, "data": paused.wire()})

    async def _paused(self, step: Step, next_node: NodeID) -> StepPaused:
        return StepPaused(
            run_id=step.root,
            step_index=step.cursor.index + 1,
            next_node=next_node,
            definition=step.digest,
            accumulated_outputs=await self._accumulated(step),
            run=await self._views.run(step.run_id),
        )

    async def _accumulated(self, step: Step) -> dict[str, dict[str, str]]:
        """References of all that there is after the step; an edge that was replaced for it keeps its own."""
        async with self._service.database.connection() as connection:
            rows = await connection.fetch(SQL["artifacts_of_run"], step.run_id)
        there: dict[Edge, str] = {artifact.edge: self._sign(step, artifact) for artifact in map(artifact_of, rows)}
        there |= step.held
        found: dict[str, dict[str, str]] = {node: {} for node in (*step.cursor.behind, *step.cursor.now)}
        for edge, signed in sorted(there.items()):
            plan = step.plan.edges[edge]
            if plan.source is not Source.STATIC:
                found.setdefault(plan.producer or INPUTS, {})[edge] = signed
        return found

    def _sign(self, step: Step, artifact: Artifact) -> Signed:
        owned = replace(artifact, origin=artifact.origin or step.run_id)
        return self._references.sign(Reference(step.root, step.digest, owned, step.account))


def _require_steppable(definition: Definition, wish: StepRequest) -> None:
    if definition.version == DRAFT:
        raise CallerError(
            "a draft may change between two steps; publish it, and step through the version", code="DRAFT_NOT_STEPPABLE"
        )
    if wish.only_nodes:
        raise InvalidRequest("a step runs one node, or with RunRemaining all that are left; leave out OnlyNodes")
    if wish.definition is not None and wish.definition != definition.digest:
        raise _stale()


def _stale() -> Conflict:
    return Conflict(
        "the flow was published anew since this loop began; begin again, or name the Version that it began with",
        code="STALE_TREE",
    )


def _as_run(wish: StepRequest) -> RunRequest:
    """The part of the request that any run has, with the replaced edges among its inputs."""
    members = {name: getattr(wish, name) for name in wish.model_fields_set if name in RunRequest.model_fields}
    inputs = {"inputs": wish.inputs | wish.input_overrides}
    return RunRequest.model_construct(_fields_set={*members, *inputs}, **{**members, **inputs})


def _root(wish: StepRequest, cursor: Cursor) -> RunID:
    """The loop's first run; "" where this is it."""
    if wish.run_id is None and cursor.index:
        raise CallerError("RunID is missing: give that of the last step_paused", code="STEP_RUN_MISSING")
    if wish.run_id is not None and not is_run(wish.run_id):
        raise InvalidRequest("RunID names no run: give that of the last step_paused")
    return RunID(wish.run_id or "")


def _held(plan: Plan, cursor: Cursor, wish: StepRequest) -> Iterator[tuple[Edge, Signed]]:
    """The references of what is behind the cursor; those of later nodes come from a loop that has gone back."""
    for name, outputs in wish.accumulated_outputs.items():
        if name != INPUTS and name not in plan.nodes:
            raise InvalidRequest(f"AccumulatedOutputs: {no_such_node(name, plan.nodes)}", code="NODE_NOT_FOUND")
        for edge, signed in outputs.items():
            known = plan.edges.get(Edge(edge))
            if known is None or (known.producer or INPUTS) != name:
                raise InvalidRequest(f"AccumulatedOutputs: {name!r} has no edge {edge[:80]!r}", code="EDGE_NOT_FOUND")
            if name == INPUTS or NodeID(name) in cursor.behind:
                yield known.name, Signed(signed)


def _behind(plan: Plan, cursor: Cursor, given: set[Edge]) -> Behind:
    behind = left_behind(plan, cursor, given)
    if behind.missing:
        edge = behind.missing[0]
        raise CallerError(
            f"step {cursor.index} needs edge {edge!r} of node {plan.edges[edge].producer!r}: bring AccumulatedOutputs "
            "as the last step_paused gave them",
            code="STEP_OUTPUTS_MISSING",
        )
    return behind


def _require_there(plan: Plan, cursor: Cursor, gone: set[Edge]) -> None:
    for edge in sorted(gone):
        if plan.edges[edge].producer is not None and not set(cursor.now).isdisjoint(plan.edges[edge].consumers):
            raise Gone(
                f"the object of edge {edge!r} is there no more; take the step of node {plan.edges[edge].producer!r} "
                "again",
                code="OBJECT_GONE",
            )
