"""What an event does to a run: one pure function, complete over every status and event. PURE.

Who is authoritative: the attempt number. A report about an attempt counts only while it is the node's current one
and the node is RUNNING; whatever else arrives (a duplicate, an older attempt, anything after the end) is stale and
changes nothing. That is normal traffic, not a fault. Only what cannot come from this program raises.

Once a run is ending (`run.end`), no node starts, and whatever an attempt that still runs reports, its node becomes
STOPPED: a cancel that was accepted has won.
"""

from dataclasses import replace
from typing import assert_never

from pupload.errors import Defect
from pupload.flow.plan import NodeID, Plan, Source
from pupload.run.change import Change
from pupload.run.commands import RecordType, Step
from pupload.run.events import (
    Event,
    NodeAsked,
    NodeClaimed,
    NodeFailed,
    NodeReleased,
    NodeSucceeded,
    RunCancelled,
    RunCreated,
    RunExhausted,
    RunTimedOut,
    ToolsAnswered,
    UploadReceived,
)
from pupload.run.retry import backoff_s, charge, may_retry
from pupload.run.state import (
    Artifact,
    End,
    Failure,
    Node,
    NodeStatus,
    Run,
)


def transition(run: Run, event: Event) -> Step:
    """The run after the event, and what is to be done about it.

    Shape: `run` holds at least the nodes of `scope_of(run.plan, event)`; `step.changed` is in topological order.
    Errors: KeyError for a node or edge that the plan does not have, or that was not loaded; Defect for an object on an
    edge that is not the reporter's to write.
    """
    if _is_stale(run, event):
        return Step(run, stale=True)
    _refuse_foreign_edges(run.plan, event)
    change = Change(run, event.at)
    match event:
        case RunCreated():
            _create(change, event)
        case UploadReceived():
            _receive(change, event.artifact)
        case NodeClaimed():
            _claim(change, event)
        case NodeSucceeded():
            _succeed(change, event)
        case NodeFailed():
            _fail(change, event)
        case NodeAsked():
            _ask(change, event)
        case NodeReleased() | ToolsAnswered():
            _queue_again(change, event.node)
        case RunCancelled() | RunTimedOut() | RunExhausted():
            change.end_early(*_early_end(event))
        case _:
            assert_never(event)
    return change.step()


def _is_stale(run: Run, event: Event) -> bool:
    if run.finished_at is not None:
        return True
    match event:
        case RunCreated():
            return run.started_at is not None
        case RunCancelled() | RunTimedOut() | RunExhausted():
            return run.end is not None
        case UploadReceived():
            return run.started_at is None or run.end is not None or event.artifact.edge in run.present
        case NodeClaimed():
            node = run.nodes[event.node]
            claimable = run.end is None and node.status in {NodeStatus.READY, NodeStatus.RETRYING}
            return not claimable or event.attempt != node.attempt + 1
        case NodeSucceeded() | NodeFailed() | NodeReleased() | NodeAsked():
            node = run.nodes[event.node]
            return node.status is not NodeStatus.RUNNING or event.attempt != node.attempt
        case ToolsAnswered():
            node = run.nodes[event.node]
            waits = run.end is None and node.status is NodeStatus.WAITING
            return not waits or event.round != node.rounds
        case _:
            assert_never(event)


def _refuse_foreign_edges(plan: Plan, event: Event) -> None:
    """Errors: Defect when an event would count a reader down twice, or never.

    An edge is fed either from outside or by its producer; a producer speaks of each of its outputs exactly once.
    """
    match event:
        case RunCreated(present=artifacts, kept=kept, skipped=skipped):
            edges = [artifact.edge for artifact in artifacts]
            theirs = [plan.edges[edge].producer for edge in edges]
            foreign = any(producer is not None and producer not in kept for producer in theirs)
            if len(set(edges)) < len(edges) or foreign or kept & skipped:
                raise Defect(f"a run cannot begin with exactly these objects present: {edges}")
        case UploadReceived(artifact=artifact):
            if plan.edges[artifact.edge].source is None:
                raise Defect(f"edge {artifact.edge!r} is written by a node, not from outside")
        case NodeSucceeded(node=node, artifacts=artifacts, absent=absent):
            told = sorted([*(artifact.edge for artifact in artifacts), *absent])
            if told != sorted(output.edge for output in plan.nodes[node].outputs):
                raise Defect(f"node {node!r} must speak of each of its outputs once, not of {told}")
        case _:
            pass


def _early_end(event: RunCancelled | RunTimedOut | RunExhausted) -> tuple[End, Failure | None]:
    match event:
        case RunCancelled():
            return End.CANCELLED, None
        case RunTimedOut():
            return End.TIMEOUT, Failure("RUN_TIMEOUT", "the run did not end within its timeout")
        case RunExhausted():
            return End.QUOTA, Failure(event.code, event.message)


def _create(change: Change, event: RunCreated) -> None:
    change.started_at = event.at
    change.record(RecordType.RUN_STARTED, FlowName=change.plan.name, **_begun_with(change.plan, event))
    for node_id in event.kept:
        change.finish(change.nodes[node_id], NodeStatus.COMPLETE)
    for node_id in event.skipped:
        change.finish(replace(change.nodes[node_id], error="skipped: not asked for"), NodeStatus.SKIPPED)
    change.ready.extend(n.id for n in change.nodes.values() if n.status is NodeStatus.IDLE and not n.unresolved)
    for artifact in event.present:
        if change.plan.edges[artifact.edge].source is None:
            change.add(artifact)
        else:
            _receive(change, artifact)
    _resolve_what_never_comes(change, event)


def _begun_with(plan: Plan, event: RunCreated) -> dict[str, object]:
    """What a reader of the stream must know to tell where each node is; a plain run has nothing to tell."""
    present = {artifact.edge for artifact in event.present}
    written = {node: [out.edge for out in plan.nodes[node].outputs if out.edge in present] for node in event.kept}
    told = {"Kept": dict(sorted(written.items())), "Skipped": sorted(event.skipped), "Absent": sorted(event.absent)}
    return {member: value for member, value in told.items() if value}


def _resolve_what_never_comes(change: Change, event: RunCreated) -> None:
    """Kept nodes wrote what is present and no more; skipped ones write nothing."""
    for edge in sorted(event.absent):
        change.resolve(edge, exists=False)
    present = {artifact.edge for artifact in event.present}
    for node_id in sorted(event.kept | event.skipped, key=lambda each: change.plan.nodes[each].position):
        for output in change.plan.nodes[node_id].outputs:
            if output.edge not in present:
                change.resolve(output.edge, exists=False)


def _receive(change: Change, artifact: Artifact) -> None:
    edge = change.plan.edges[artifact.edge]
    change.present |= {artifact.edge}
    if edge.source is not Source.STATIC:
        change.record(RecordType.UPLOAD_RECEIVED, Edge=edge.name, Size=artifact.size_bytes)
    change.add(artifact)


def _claim(change: Change, event: NodeClaimed) -> None:
    node = change.nodes[event.node]
    change.put(
        replace(
            node,
            status=NodeStatus.RUNNING,
            attempt=event.attempt,
            worker=event.worker,
            started_at=event.at,
            finished_at=None,
            exit_code=None,
        )
    )
    change.record(RecordType.NODE_STARTED, node.id, Attempt=event.attempt, Worker=event.worker)


def _succeed(change: Change, event: NodeSucceeded) -> None:
    node = replace(change.nodes[event.node], exit_code=event.exit_code)
    if change.end is not None:
        change.finish(node, NodeStatus.STOPPED)
        return
    change.finish(replace(node, error="", reason=None), NodeStatus.COMPLETE)
    for artifact in event.artifacts:
        change.record(
            RecordType.NODE_OUTPUT,
            node.id,
            Edge=artifact.edge,
            Size=artifact.size_bytes,
            ContentType=artifact.content_type,
            SHA256=artifact.sha256,
        )
        change.add(artifact)
    for edge in event.absent:
        change.resolve(edge, exists=False)
    change.record(RecordType.NODE_COMPLETED, node.id, Attempt=event.attempt, ExitCode=event.exit_code)


def _fail(change: Change, event: NodeFailed) -> None:
    node = replace(change.nodes[event.node], exit_code=event.exit_code)
    if change.end is not None:
        change.finish(node, NodeStatus.STOPPED)
        return
    charged, restarts = charge(node, event.reason)
    plan = change.plan.nodes[event.node]
    node = replace(node, error=event.message, reason=event.reason, charged=charged, restarts=restarts)
    if may_retry(plan, change.plan.max_restarts, event, charged, restarts):
        _retry(change, node, event)
    else:
        _give_up(change, node, event)


def _retry(change: Change, node: Node, event: NodeFailed) -> None:
    delay_s = backoff_s(change.plan.nodes[node.id].retry, node.charged + node.restarts, event.jitter)
    change.put(replace(node, status=NodeStatus.RETRYING, finished_at=change.at))
    change.dispatch(node, delay_s)
    change.record(
        RecordType.NODE_RETRYING,
        node.id,
        Attempt=event.attempt,
        Reason=event.reason.value,
        Message=event.message,
        ExitCode=event.exit_code,
        DelayS=round(delay_s, 3),
    )


def _give_up(change: Change, node: Node, event: NodeFailed) -> None:
    change.finish(node, NodeStatus.ERROR)
    change.record(
        RecordType.NODE_FAILED,
        node.id,
        Attempt=event.attempt,
        Reason=event.reason.value,
        Message=event.message,
        ExitCode=event.exit_code,
    )
    failure = Failure(event.code or f"NODE_{event.reason.name}", event.message, node.id)
    if change.plan.fail_fast:
        change.end_early(End.NODE_FAILED, failure)
        return
    change.failure = change.failure or failure
    for output in change.plan.nodes[node.id].outputs:
        change.resolve(output.edge, exists=False)


def _queue_again(change: Change, node_id: NodeID) -> None:
    node = change.nodes[node_id]
    if change.end is not None:
        change.finish(node, NodeStatus.STOPPED)
        return
    ready = replace(node, status=NodeStatus.READY, finished_at=node.finished_at or change.at)
    change.put(ready)
    change.dispatch(ready)
    change.record(RecordType.NODE_QUEUED, node.id, Attempt=ready.attempt + 1)


def _ask(change: Change, event: NodeAsked) -> None:
    node = replace(change.nodes[event.node], exit_code=event.exit_code)
    if change.end is not None:
        change.finish(node, NodeStatus.STOPPED)
        return
    rounds = node.rounds + 1
    change.finish(replace(node, rounds=rounds, asked=event.attempt, error="", reason=None), NodeStatus.WAITING)
    change.record(
        RecordType.TOOL_CALLS_REQUIRED, node.id, Attempt=event.attempt, Round=rounds, ToolCalls=list(event.calls)
    )
