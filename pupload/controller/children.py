"""Nodes that call a flow: the run of that flow is the node's attempt.

The attempt is `calling` from its claim until its run has ended. It has neither worker nor lease: whichever controller
gets to it goes on with it. The called run begins with the caller's objects in place, and its objects become the
caller's artifacts without being moved.
"""

import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from random import random

import asyncpg

from pupload.controller.callees import NamedFlows
from pupload.controller.objects import inputs_of, own_key
from pupload.controller.service import Service
from pupload.controller.stores import Stores
from pupload.controller.submission import Definition, Start, Submission
from pupload.db.creation import Caller
from pupload.db.origins import hold_origins
from pupload.db.pool import Connection
from pupload.db.runs import artifact_of, failure_of, no_such_run
from pupload.db.sql import SQL
from pupload.errors import CallerError, Conflict, Gone, LostLease, NotFound, PuploadError, Unavailable
from pupload.flow.callee import FLOWS, without_evals
from pupload.flow.plan import Binding, Edge, FlowRef, Plan, Reason
from pupload.flow.request import EvalsWish, RunRequest
from pupload.protocol import AttemptRef, Outcome
from pupload.run.events import Event, NodeClaimed, NodeFailed, NodeSucceeded
from pupload.run.state import Artifact, RunID, RunStatus

_LOG = logging.getLogger(__name__)
_DRAFT = "draft"


@dataclass(frozen=True, slots=True)
class _End:
    """How a call ended, for the attempt's row and for the run alike. `reason` None is success."""

    reason: Reason | None = None
    code: str = ""
    message: str = ""
    artifacts: tuple[Artifact, ...] = ()
    absent: tuple[Edge, ...] = ()


class Children:
    """Runs that nodes of other runs wait for."""

    def __init__(self, service: Service, stores: Stores, submission: Submission, named: NamedFlows) -> None:
        self._service, self._stores, self._submission, self._named = service, stores, submission, named

    async def claim_in(self, connection: Connection, call: Caller) -> bool:
        """True when the attempt has begun in this transaction; False when nobody wants it any more."""
        try:
            step = await self._service.apply_in(
                connection, call.run_id, lambda at: NodeClaimed(at, call.node, call.attempt, "")
            )
        except NotFound:
            return False
        if not step.stale:
            await connection.execute(SQL["insert_call"], call.run_id, call.node, call.attempt, secrets.token_hex(16))
        return not step.stale

    async def start(self, call: Caller) -> None:
        """Start the run of a call that has begun; one that was started before stays as it is.

        Errors: Unavailable when it cannot be done now. Whatever else is wrong is the end of the call.
        """
        try:
            await self._submission.start(await self._start_of(call))
        except Unavailable:
            raise
        except PuploadError as error:
            await self._end(call, _End(Reason.POLICY, error.code, f"the flow cannot be called: {error}"))
        except Exception as error:  # noqa: BLE001 - see below
            # It would come back for ever, and nobody would learn why nothing happens.
            _LOG.exception("node %s of run %s cannot call its flow", call.node, call.run_id)
            await self._end(call, _End(Reason.INFRA, message=f"the flow cannot be called: {error}"))
        await self._stop_if_unwanted(call)

    async def _stop_if_unwanted(self, call: Caller) -> None:
        """The caller may have been stopped while its run was being made."""
        async with self._service.database.connection() as connection:
            row = await connection.fetchrow(SQL["call"], call.run_id, call.node, call.attempt)
        if row is None or row["stop"] is not None or row["state"] != "calling":
            await self.stop(call)

    async def _start_of(self, call: Caller) -> Start:
        async with self._service.database.connection() as connection:
            plan = await self._service.plans.get(connection, call.run_id)
            header = await connection.fetchrow(SQL["run_header"], call.run_id)
            node = plan.nodes[call.node]
            inputs = await inputs_of(connection, call.run_id, node)
        if header is None or node.calls is None:
            raise no_such_run(call.run_id)
        timeout = {"timeout": f"{round(node.timeout_s * 1000)}ms"} if node.timeout_s else {}
        return Start(
            await self.definition(header["account"], node.calls),
            RunRequest(parameters=dict(node.flags), evals=EvalsWish(run_mode="skip"), **timeout),
            present=lent(call.run_id, {Edge(each.port): inputs.get(each.edge) for each in node.inputs}),
            closed=True,
            session_id=header["session_id"],
            caller=call,
            root=header["root_run"] or call.run_id,
            account=header["account"],
            idempotency_key=f"child:{call.run_id}/{call.node}/{call.attempt}",
        )

    async def definition(self, account: str, flow: FlowRef) -> Definition:
        """The flow that a plan of the account means, without its evaluations.

        Errors: NotFound; Conflict for a draft that is not what it was.
        """
        found = await self._named.resolve(account, flow.name, flow.version)
        # Or it could not be called any more when a flow that judges it is gone.
        definition = replace(found, flow=without_evals(found.flow))
        if flow.version == _DRAFT:
            now = await self._named.callee(account, f"{FLOWS}/{flow.name}@{_DRAFT}")
            if now.digest != flow.digest:
                raise Conflict(
                    f"the draft of flow {flow.name} was changed after this run began; publish it to call what stays",
                    code="DRAFT_CHANGED",
                )
        return definition

    async def stop(self, call: Caller) -> None:
        """Stop the call's run; a call that has none ends here."""
        async with self._service.database.connection() as connection:
            child = await connection.fetchval(SQL["child_of_call"], call.run_id, call.node, call.attempt)
        if child is not None:
            await self._service.cancel(RunID(child))
        else:
            await self._end(call, _End(Reason.CANCELLED, message="stopped before its run began"))

    async def tell(self, child: asyncpg.Record) -> None:
        """Tell the caller how its run ended. `child` is the run's own row."""
        call = Caller(RunID(child["parent_run"]), child["parent_node"], child["parent_attempt"])
        if child["finished_at"] is None:
            return
        try:
            end = await self._end_of(call, child)
            try:
                await self._end(call, end)
            except Gone as error:
                await self._end(call, _End(Reason.TRANSFER, error.code, error.message))
        except NotFound:
            _LOG.info("run %s has ended, and its caller %s is gone", child["id"], call.run_id)

    async def _end_of(self, call: Caller, child: asyncpg.Record) -> _End:
        failure = failure_of(child["failure"])
        match RunStatus(child["status"]):
            case RunStatus.COMPLETE:
                return await self._result(call, RunID(child["id"]))
            case RunStatus.STOPPED:
                return _End(Reason.CANCELLED, message=f"its run {child['id']} was cancelled")
            case _ if failure is not None:
                reason = Reason.TIMEOUT if failure.code == "RUN_TIMEOUT" else Reason.EXIT
                return _End(reason, failure.code, f"flow {child['flow_name']} failed: {failure.message}")
            case _:
                return _End(Reason.EXIT, message=f"flow {child['flow_name']} failed")

    async def _result(self, call: Caller, child: RunID) -> _End:
        async with self._service.database.connection() as connection:
            plan = await self._service.plans.get(connection, call.run_id)
            rows = await connection.fetch(SQL["artifacts_of_run"], child)
        there = {row["edge"]: artifact_of(row) for row in rows}
        outputs = plan.nodes[call.node].outputs
        try:
            placed = [
                await self._place(plan, call, each, child, there[each.port]) for each in outputs if each.port in there
            ]
        except Conflict as error:
            return _End(Reason.POLICY, error.code, error.message)
        except CallerError as error:
            return _End(Reason.TRANSFER, error.code, f"what run {child} wrote cannot be had: {error}")
        return _End(artifacts=tuple(placed), absent=tuple(each.edge for each in outputs if each.port not in there))

    async def _place(self, plan: Plan, call: Caller, output: Binding, child: RunID, artifact: Artifact) -> Artifact:
        """The called run's object as the caller's artifact: where it is, or copied to the key of a well's own."""
        edge = plan.edges[output.edge]
        ours = replace(artifact, edge=edge.name, node=call.node, attempt=call.attempt, origin=artifact.origin or child)
        if edge.key is None:
            return ours
        theirs, store = (
            await self._stores.of_artifact(call.run_id, ours),
            await self._stores.of_run(call.run_id, edge.store),
        )
        if theirs is not store:
            raise Conflict(
                f"edge {edge.name!r} has a Key in store {edge.store!r}, but the called flow keeps its object in store "
                f"{artifact.store!r}; give both the same store",
                code="STORE_DIFFERS",
            )
        ref = AttemptRef(run_id=call.run_id, node_id=call.node, attempt=call.attempt, lease="")
        head = await store.copy(artifact.key, own_key(plan, edge, call.run_id, ref))
        return replace(ours, store=edge.store, key=head.key, etag=head.etag, origin="")

    async def _end(self, call: Caller, end: _End) -> None:
        """Record the end of the call, once."""

        def event(at: datetime) -> Event:
            if end.reason is None:
                return NodeSucceeded(at, call.node, call.attempt, end.artifacts, end.absent, exit_code=None)
            return NodeFailed(
                at,
                call.node,
                call.attempt,
                end.reason,
                end.message,
                jitter=random(),  # noqa: S311 - spreads retries, guards nothing
                code=end.code,
            )

        async def still_calling(connection: Connection) -> bool:
            await hold_origins(connection, end.artifacts)
            return await connection.fetchval(SQL["end_call"], *_ended_row(call, end)) is not None

        try:
            await self._service.apply(call.run_id, event, guard=still_calling)
        except LostLease:
            _LOG.info("attempt %d of node %s in run %s had ended", call.attempt, call.node, call.run_id)


def _ended_row(call: Caller, end: _End) -> tuple[object, ...]:
    outcome = Outcome.FAILED if end.reason else Outcome.SUCCEEDED
    written = sum(artifact.size_bytes for artifact in end.artifacts)
    reason = end.reason.value if end.reason else None
    return call.run_id, call.node, call.attempt, outcome.value, reason, end.message, written


def lent(owner: RunID, objects: Mapping[Edge, Artifact | None]) -> dict[Edge, Artifact]:
    """Objects of a run as those that another run begins with, by the other's edges."""
    return {
        edge: replace(artifact, edge=edge, node=None, attempt=0, origin=artifact.origin or owner)
        for edge, artifact in objects.items()
        if artifact is not None
    }
