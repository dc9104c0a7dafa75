"""What is shown of a run while it goes: its nodes, folded from events, and the lines that each event is worth. PURE."""

from dataclasses import dataclass, field
from datetime import datetime

from pupload.answers.runs import FlowRun, NodeState, RunEvent
from pupload.client.streams import is_last
from pupload.run.commands import RecordType
from pupload.run.state import NodeStatus
from pupload.units import format_size


@dataclass(frozen=True, slots=True)
class Line:
    """One line to print. `node` is "" for what concerns the whole run; `stream` is "" for what is no node's output.

    `routine`: the rows of a terminal show it too.
    """

    text: str
    node: str = ""
    stream: str = ""
    routine: bool = False


@dataclass(slots=True)
class NodeView:
    """One node as it is shown. `progress` in percent; `note` says why it waits, is tried again, or failed."""

    id: str
    status: NodeStatus = NodeStatus.IDLE
    attempt: int = 0
    max_attempts: int = 1
    progress: float = 0.0
    note: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def attempt_text(self) -> str:
        """`2 of 3`; the number alone where attempts that were given back have made it larger than what may fail."""
        return f"{self.attempt} of {self.max_attempts}" if self.attempt <= self.max_attempts else str(self.attempt)

    def elapsed_s(self, now: datetime) -> float | None:
        """Seconds that its newest attempt took or has taken, None before the first."""
        if self.started_at is None:
            return None
        return max(((self.finished_at or now) - self.started_at).total_seconds(), 0.0)


@dataclass(slots=True)
class RunView:
    """A run as it is shown, its nodes in the order of the flow. `over` once the last event came."""

    nodes: dict[str, NodeView] = field(default_factory=dict)
    over: bool = False

    @classmethod
    def of(cls, run: FlowRun, order: list[str]) -> "RunView":
        """The view before the first event."""
        known = [node for node in order if node in run.node_state] or list(run.node_state)
        return cls({node: NodeView(node, max_attempts=run.node_state[node].max_attempts) for node in known})

    def fold(self, event: RunEvent) -> list[Line]:
        """Take in an event. Shape: the lines it is worth, in order."""
        self.over = self.over or is_last(event)
        if event.node_id:
            node = self.nodes.setdefault(event.node_id, NodeView(event.node_id))
            return _fold_node(node, event)
        if is_last(event):
            self._stop_the_rest(event)
        if event.type == RecordType.UPLOAD_RECEIVED:
            size_bytes = int(_number(event.data.get("Size")))
            return [Line(f"{event.data.get('Edge')} received, {format_size(size_bytes)}", routine=True)]
        return []

    def note_pending(self, run: FlowRun) -> list[Line]:
        """Take in why nodes wait, which no event tells. Shape: a line for each reason that is new."""
        known = {node.note for node in self.nodes.values()}
        waiting: dict[str, list[str]] = {}
        for node_id, state in run.node_state.items():
            node = self.nodes.get(node_id)
            if node is not None and node.status is NodeStatus.READY and state.pending_reason:
                node.note = state.pending_reason
                waiting.setdefault(node.note, []).append(node_id)
        return [_waiting_line(reason, ids) for reason, ids in waiting.items() if reason not in known]

    def settle(self, run: FlowRun) -> None:
        """Take in the run's end: what the server says now is what was."""
        self.over = True
        for node_id, state in run.node_state.items():
            _settle_node(self.nodes.setdefault(node_id, NodeView(node_id)), state)

    def count(self, *statuses: NodeStatus) -> int:
        """How many nodes are in one of `statuses`."""
        return sum(node.status in statuses for node in self.nodes.values())

    def waits(self) -> bool:
        """True when a node waits for a worker: then the server can tell why."""
        return bool(self.count(NodeStatus.READY))

    def _stop_the_rest(self, event: RunEvent) -> None:
        for node in self.nodes.values():
            if node.status in {NodeStatus.READY, NodeStatus.RUNNING, NodeStatus.RETRYING}:
                node.status, node.finished_at = NodeStatus.STOPPED, event.time


def _waiting_line(reason: str, ids: list[str]) -> Line:
    who = ids[0] if len(ids) == 1 else f"{ids[0]} and {len(ids) - 1} more"
    return Line(f"{who}: {reason}", routine=True)


def _settle_node(node: NodeView, state: NodeState) -> None:
    node.status, node.attempt, node.max_attempts = NodeStatus(state.status), state.attempt, state.max_attempts
    node.started_at, node.finished_at = state.started_at, state.finished_at
    node.note = state.error if node.status is NodeStatus.ERROR else ""


def _fold_node(node: NodeView, event: RunEvent) -> list[Line]:
    data = event.data
    match event.type:
        case RecordType.NODE_LOG:
            return [Line(str(data.get("Message", "")), node.id, str(data.get("Stream", "stdout")))]
        case RecordType.NODE_PROGRESS:
            node.progress = _number(data.get("Progress"))
            return []
        case RecordType.NODE_OUTPUT:
            return []
        case RecordType.NODE_QUEUED:
            node.status, node.started_at, node.finished_at, node.progress = NodeStatus.READY, None, None, 0.0
            return []
        case RecordType.NODE_STARTED:
            return _started(node, event)
        case RecordType.NODE_RETRYING:
            node.status, node.finished_at, node.note = NodeStatus.RETRYING, event.time, str(data.get("Message", ""))
            wait_s = _number(data.get("DelayS"))
            return [Line(f"attempt {data.get('Attempt')} failed: {node.note}; trying again in {wait_s:.1f} s", node.id)]
        case RecordType.TOOL_CALLS_REQUIRED:
            node.status, node.finished_at = NodeStatus.WAITING, event.time
            asked = ", ".join(f"{call.get('Name')} ({call.get('ID')})" for call in data.get("ToolCalls", []))
            return [Line(f"asks for {asked}; answer by POST /api/v1/runs/{event.run_id}/resume", node.id)]
        case RecordType.NODE_COMPLETED:
            node.status, node.finished_at, node.progress, node.note = NodeStatus.COMPLETE, event.time, 100.0, ""
            return [Line(f"complete{_took(node)}", node.id, routine=True)]
        case RecordType.NODE_FAILED:
            node.status, node.finished_at, node.note = NodeStatus.ERROR, event.time, str(data.get("Message", ""))
            return [Line(f"failed{_took(node)}: {node.note}", node.id)]
        case _:
            return []


def _started(node: NodeView, event: RunEvent) -> list[Line]:
    node.status, node.started_at, node.finished_at = NodeStatus.RUNNING, event.time, None
    node.attempt, node.progress, node.note = int(_number(event.data.get("Attempt"))), 0.0, ""
    again = f" (attempt {node.attempt_text})" if node.attempt > 1 else ""
    return [Line(f"started on {event.data.get('Worker') or 'a worker'}{again}", node.id, routine=True)]


def _took(node: NodeView) -> str:
    elapsed_s = node.elapsed_s(node.finished_at) if node.finished_at else None
    return "" if elapsed_s is None else f" in {format_elapsed(elapsed_s)}"


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def format_elapsed(seconds: float) -> str:
    """A duration as people read it.

    >>> format_elapsed(0.34), format_elapsed(75), format_elapsed(4000)
    ('0.3 s', '1:15', '1:06:40')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def printable(text: str) -> str:
    """`text` without what could steer a terminal: control characters and escapes become visible.

    >>> printable("a\\tb\\x1b[31mc")
    'a  b\\\\x1b[31mc'
    """
    return "".join(c if c.isprintable() else "  " if c == "\t" else ascii(c)[1:-1] for c in text)
