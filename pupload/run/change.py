"""A run while one event changes it. PURE."""

from dataclasses import replace
from datetime import datetime

from pupload.flow.plan import Edge, NodeID, Reason
from pupload.run.commands import Command, DispatchNode, Record, RecordType, Step, StopAttempt
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

_TERMINAL_RECORD = {
    RunStatus.COMPLETE: RecordType.RUN_COMPLETED,
    RunStatus.ERROR: RecordType.RUN_FAILED,
    RunStatus.STOPPED: RecordType.RUN_CANCELLED,
}


class Change:
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
        """The node is so from now on."""
        self.counts[self.nodes[node.id].status] -= 1
        self.counts[node.status] = self.counts.get(node.status, 0) + 1
        self.nodes[node.id] = node

    def finish(self, node: Node, status: NodeStatus) -> None:
        """The node is through, with this status."""
        self.put(replace(node, status=status, finished_at=self.at))

    def record(self, kind: RecordType, of: NodeID | None = None, /, **data: object) -> None:
        """Something that the stream tells."""
        self.records.append(Record(kind, of, data))

    def dispatch(self, node: Node, delay_s: float = 0.0) -> None:
        """The node wants its next attempt."""
        self.commands.append(DispatchNode(node.id, node.attempt + 1, delay_s))

    def add(self, artifact: Artifact) -> None:
        """The object exists, and its readers know."""
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
        """All that was changed; the last thing that is asked of a change."""
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


def _ending(run: Run) -> dict[str, object]:
    failure = run.failure
    error = {"Code": failure.code, "Message": failure.message, "NodeID": failure.node or ""} if failure else {}
    return {"Status": status_of(run).value, "StatusReason": status_reason(run), "Error": error}
