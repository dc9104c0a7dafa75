"""What an event does to a run: one pure function, complete over every status and event. PURE.

Who is authoritative: the attempt number. A report about an attempt counts only while it is the node's current one
and the node is RUNNING; whatever else arrives (a duplicate, an older attempt, anything after the end) is stale and
changes nothing. That is normal traffic, not a fault. Only what cannot come from this program raises.

Once a run is ending (`run.end`), no node starts, and whatever an attempt that still runs reports, its node becomes
STOPPED: a cancel that was accepted has won.
"""

from dataclasses import replace
from datetime import datetime
from typing import assert_never

from pupload.errors import Defect
from pupload.flow.plan import Edge, NodeID, Plan, Reason, Source
from pupload.run.commands import Command, DispatchNode, Record, RecordType, Step, StopAttempt
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
    STOPPABLE,
    TERMINAL,
    Artifact,
    End,
    Failure,
    Node,
    NodeStatus,
    Run,
    RunStatus,
    status_of,
    status_reason,
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
    draft = _Draft(run, event.at)
    match event:
        case RunCreated():
            _create(draft, event)
        case UploadReceived():
            _receive(draft, event.artifact)
        case NodeClaimed():
            _claim(draft, event)
        case NodeSucceeded():
            _succeed(draft, event)
        case NodeFailed():
            _fail(draft, event)
        case NodeAsked():
            _ask(draft, event)
        case NodeReleased() | ToolsAnswered():
            _queue_again(draft, event.node)
        case RunCancelled() | RunTimedOut() | RunExhausted():
            draft.end_early(*_early_end(event))
        case _:
            assert_never(event)
    return draft.step()


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


class _Draft:
    """A run being changed by one event: collects what differs, then becomes a `Step`."""

    def __init__(self, run: Run, at: datetime) -> None:
        self.before = run
        self.plan = run.plan
        self.at = at
        self.nodes = dict(run.nodes)
        self.counts = dict(run.counts)
        self.present = run.present
        self.end, self.failure, self.started_at = run.end, run.failure, run.started_at
        self.artifacts: list[Artifact] = []
        self.commands: list[Command] = []
        self.records: list[Record] = []
        self.ready: list[NodeID] = []

    def put(self, node: Node) -> None:
        self.counts[self.nodes[node.id].status] -= 1
        self.counts[node.status] = self.counts.get(node.status, 0) + 1
        self.nodes[node.id] = node

    def finish(self, node: Node, status: NodeStatus) -> None:
        self.put(replace(node, status=status, finished_at=self.at))

    def record(self, kind: RecordType, of: NodeID | None = None, /, **data: object) -> None:
        self.records.append(Record(kind, of, data))

    def dispatch(self, node: Node, delay_s: float = 0.0) -> None:
        self.commands.append(DispatchNode(node.id, node.attempt + 1, delay_s))

    def add(self, artifact: Artifact) -> None:
        self.artifacts.append(artifact)
        self.resolve(artifact.edge, exists=True)

    def resolve(self, edge: Edge, *, exists: bool) -> None:
        """Tell the readers of `edge` that its object exists, or never will.

        A reader that needs what never comes is skipped, and what it would have written never comes either.
        """
        news = [(edge, exists)]
        while news:
            edge, exists = news.pop()
            for reader in self._idle_readers(edge):
                if not exists and self._needs(reader.id, edge):
                    self.finish(replace(reader, error=f"skipped: nothing came on edge {edge!r}"), NodeStatus.SKIPPED)
                    news.extend((output.edge, False) for output in self.plan.nodes[reader.id].outputs)
                else:
                    self._count_down(reader)

    def _idle_readers(self, edge: Edge) -> list[Node]:
        readers = (self.nodes[reader] for reader in dict.fromkeys(self.plan.edges[edge].consumers))
        return [reader for reader in readers if reader.status is NodeStatus.IDLE]

    def _needs(self, node: NodeID, edge: Edge) -> bool:
        return any(binding.required for binding in self.plan.nodes[node].inputs if binding.edge == edge)

    def _count_down(self, node: Node) -> None:
        self.put(replace(node, unresolved=node.unresolved - 1))
        if node.unresolved == 1:
            self.ready.append(node.id)

    def end_early(self, end: End, failure: Failure | None) -> None:
        """No node starts from now on; those that wait stop here, those that run are told to."""
        self.end, self.failure = end, failure or self.failure
        for node in sorted(self.nodes.values(), key=self._position):
            if node.status is NodeStatus.RUNNING:
                self.commands.append(StopAttempt(node.id, node.attempt, Reason.CANCELLED))
            elif node.status in STOPPABLE:
                self.finish(node, NodeStatus.STOPPED)

    def _position(self, node: Node) -> int:
        return self.plan.nodes[node.id].position

    def _start_ready(self) -> None:
        for node_id in sorted(self.ready, key=lambda ready: self.plan.nodes[ready].position):
            node = replace(self.nodes[node_id], status=NodeStatus.READY)
            self.put(node)
            self.dispatch(node)
            self.record(RecordType.NODE_QUEUED, node_id, Attempt=node.attempt + 1)

    def step(self) -> Step:
        self._start_ready()
        run = replace(
            self.before,
            nodes=self.nodes,
            counts={status: count for status, count in self.counts.items() if count},
            present=self.present,
            end=self.end,
            failure=self.failure,
            started_at=self.started_at,
        )
        changed = [node for node in self.nodes.values() if node is not self.before.nodes[node.id]]
        if status_of(run) in TERMINAL:
            run = replace(run, finished_at=self.at)
        self._record_status(run)
        return Step(
            run,
            changed=tuple(sorted(changed, key=self._position)),
            artifacts=tuple(self.artifacts),
            commands=tuple(self.commands),
            records=tuple(self.records),
        )

    def _record_status(self, run: Run) -> None:
        now = status_of(run)
        newly = self.before.started_at is None or status_of(self.before) is not now
        if run.finished_at is not None:
            self.records.append(Record(_TERMINAL_RECORD[now], data=_ending(run)))
        elif now is RunStatus.WAITING and newly and not run.counts.get(NodeStatus.WAITING, 0):
            self.record(RecordType.WAITING_UPLOADS)


def _early_end(event: RunCancelled | RunTimedOut | RunExhausted) -> tuple[End, Failure | None]:
    match event:
        case RunCancelled():
            return End.CANCELLED, None
        case RunTimedOut():
            return End.TIMEOUT, Failure("RUN_TIMEOUT", "the run did not end within its timeout")
        case RunExhausted():
            return End.QUOTA, Failure(event.code, event.message)


_TERMINAL_RECORD = {
    RunStatus.COMPLETE: RecordType.RUN_COMPLETED,
    RunStatus.ERROR: RecordType.RUN_FAILED,
    RunStatus.STOPPED: RecordType.RUN_CANCELLED,
}


def _ending(run: Run) -> dict[str, object]:
    failure = run.failure
    error = {"Code": failure.code, "Message": failure.message, "NodeID": failure.node or ""} if failure else {}
    return {"Status": status_of(run).value, "StatusReason": status_reason(run), "Error": error}


def _create(draft: _Draft, event: RunCreated) -> None:
    draft.started_at = event.at
    draft.record(RecordType.RUN_STARTED, FlowName=draft.plan.name, **_begun_with(draft.plan, event))
    for node_id in event.kept:
        draft.finish(draft.nodes[node_id], NodeStatus.COMPLETE)
    for node_id in event.skipped:
        draft.finish(replace(draft.nodes[node_id], error="skipped: not asked for"), NodeStatus.SKIPPED)
    draft.ready.extend(n.id for n in draft.nodes.values() if n.status is NodeStatus.IDLE and not n.unresolved)
    for artifact in event.present:
        if draft.plan.edges[artifact.edge].source is None:
            draft.add(artifact)
        else:
            _receive(draft, artifact)
    _resolve_what_never_comes(draft, event)


def _begun_with(plan: Plan, event: RunCreated) -> dict[str, object]:
    """What a reader of the stream must know to tell where each node is; a plain run has nothing to tell."""
    present = {artifact.edge for artifact in event.present}
    written = {node: [out.edge for out in plan.nodes[node].outputs if out.edge in present] for node in event.kept}
    told = {"Kept": dict(sorted(written.items())), "Skipped": sorted(event.skipped), "Absent": sorted(event.absent)}
    return {member: value for member, value in told.items() if value}


def _resolve_what_never_comes(draft: _Draft, event: RunCreated) -> None:
    """Kept nodes wrote what is present and no more; skipped ones write nothing."""
    for edge in sorted(event.absent):
        draft.resolve(edge, exists=False)
    present = {artifact.edge for artifact in event.present}
    for node_id in sorted(event.kept | event.skipped, key=lambda each: draft.plan.nodes[each].position):
        for output in draft.plan.nodes[node_id].outputs:
            if output.edge not in present:
                draft.resolve(output.edge, exists=False)


def _receive(draft: _Draft, artifact: Artifact) -> None:
    edge = draft.plan.edges[artifact.edge]
    draft.present |= {artifact.edge}
    if edge.source is not Source.STATIC:
        draft.record(RecordType.UPLOAD_RECEIVED, Edge=edge.name, Size=artifact.size_bytes)
    draft.add(artifact)


def _claim(draft: _Draft, event: NodeClaimed) -> None:
    node = draft.nodes[event.node]
    draft.put(
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
    draft.record(RecordType.NODE_STARTED, node.id, Attempt=event.attempt, Worker=event.worker)


def _succeed(draft: _Draft, event: NodeSucceeded) -> None:
    node = replace(draft.nodes[event.node], exit_code=event.exit_code)
    if draft.end is not None:
        draft.finish(node, NodeStatus.STOPPED)
        return
    draft.finish(replace(node, error="", reason=None), NodeStatus.COMPLETE)
    for artifact in event.artifacts:
        draft.record(
            RecordType.NODE_OUTPUT,
            node.id,
            Edge=artifact.edge,
            Size=artifact.size_bytes,
            ContentType=artifact.content_type,
            SHA256=artifact.sha256,
        )
        draft.add(artifact)
    for edge in event.absent:
        draft.resolve(edge, exists=False)
    draft.record(RecordType.NODE_COMPLETED, node.id, Attempt=event.attempt, ExitCode=event.exit_code)


def _fail(draft: _Draft, event: NodeFailed) -> None:
    node = replace(draft.nodes[event.node], exit_code=event.exit_code)
    if draft.end is not None:
        draft.finish(node, NodeStatus.STOPPED)
        return
    charged, restarts = charge(node, event.reason)
    plan = draft.plan.nodes[event.node]
    node = replace(node, error=event.message, reason=event.reason, charged=charged, restarts=restarts)
    if may_retry(plan, draft.plan.max_restarts, event, charged, restarts):
        _retry(draft, node, event)
    else:
        _give_up(draft, node, event)


def _retry(draft: _Draft, node: Node, event: NodeFailed) -> None:
    delay_s = backoff_s(draft.plan.nodes[node.id].retry, node.charged + node.restarts, event.jitter)
    draft.put(replace(node, status=NodeStatus.RETRYING, finished_at=draft.at))
    draft.dispatch(node, delay_s)
    draft.record(
        RecordType.NODE_RETRYING,
        node.id,
        Attempt=event.attempt,
        Reason=event.reason.value,
        Message=event.message,
        ExitCode=event.exit_code,
        DelayS=round(delay_s, 3),
    )


def _give_up(draft: _Draft, node: Node, event: NodeFailed) -> None:
    draft.finish(node, NodeStatus.ERROR)
    draft.record(
        RecordType.NODE_FAILED,
        node.id,
        Attempt=event.attempt,
        Reason=event.reason.value,
        Message=event.message,
        ExitCode=event.exit_code,
    )
    failure = Failure(event.code or f"NODE_{event.reason.name}", event.message, node.id)
    if draft.plan.fail_fast:
        draft.end_early(End.NODE_FAILED, failure)
        return
    draft.failure = draft.failure or failure
    for output in draft.plan.nodes[node.id].outputs:
        draft.resolve(output.edge, exists=False)


def _queue_again(draft: _Draft, node_id: NodeID) -> None:
    node = draft.nodes[node_id]
    if draft.end is not None:
        draft.finish(node, NodeStatus.STOPPED)
        return
    ready = replace(node, status=NodeStatus.READY, finished_at=node.finished_at or draft.at)
    draft.put(ready)
    draft.dispatch(ready)
    draft.record(RecordType.NODE_QUEUED, node.id, Attempt=ready.attempt + 1)


def _ask(draft: _Draft, event: NodeAsked) -> None:
    node = replace(draft.nodes[event.node], exit_code=event.exit_code)
    if draft.end is not None:
        draft.finish(node, NodeStatus.STOPPED)
        return
    rounds = node.rounds + 1
    draft.finish(replace(node, rounds=rounds, asked=event.attempt, error="", reason=None), NodeStatus.WAITING)
    draft.record(
        RecordType.TOOL_CALLS_REQUIRED, node.id, Attempt=event.attempt, Round=rounds, ToolCalls=list(event.calls)
    )
