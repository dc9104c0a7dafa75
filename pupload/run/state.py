"""What is known of a run, as values. PURE.

A `Run` may hold only some of its nodes: those that one event concerns (`scope.py` says which). `counts` always speaks
of all of them, so the run's status follows from it without looking at each.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NewType

from pupload.flow.plan import Edge, NodeID, Plan, Reason

RunID = NewType("RunID", str)


class NodeStatus(StrEnum):
    """Where a node is. See docs/lifecycle.md."""

    IDLE = "IDLE"
    READY = "READY"
    RUNNING = "RUNNING"
    RETRYING = "RETRYING"
    COMPLETE = "COMPLETE"
    ERROR = "ERROR"
    STOPPED = "STOPPED"
    SKIPPED = "SKIPPED"
    WAITING = "WAITING"


class RunStatus(StrEnum):
    """Where a run is; always derived from its nodes."""

    STOPPED = "STOPPED"
    WAITING = "WAITING"
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    ERROR = "ERROR"


ACTIVE = frozenset({NodeStatus.READY, NodeStatus.RUNNING, NodeStatus.RETRYING})
"""A node in one of these will move without any outside act."""

STOPPABLE = ACTIVE | {NodeStatus.WAITING}
"""A node in one of these has begun and not ended: a run that is ending stops it."""

ENDED = frozenset({NodeStatus.COMPLETE, NodeStatus.ERROR, NodeStatus.STOPPED, NodeStatus.SKIPPED})
"""A node in one of these never moves again."""

TERMINAL = frozenset({RunStatus.STOPPED, RunStatus.COMPLETE, RunStatus.ERROR})


class End(StrEnum):
    """Why a run ends before its nodes are through."""

    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    NODE_FAILED = "node_failed"
    QUOTA = "quota"


@dataclass(frozen=True, slots=True)
class Failure:
    """What a run's `Error` says."""

    code: str
    message: str
    node: NodeID | None = None


@dataclass(frozen=True, slots=True)
class Artifact:
    """An object bound to an edge.

    `sha256` and `content_type` of an upload are "" until a worker has read its bytes. `etag` is the store's mark of
    exactly this content; a later overwrite has another. `attempt` is 0 for what no node made. `origin` is the id of
    the run or file that the object belongs to, "" where it is this run's own.
    """

    edge: Edge
    store: str
    key: str
    size_bytes: int
    content_type: str = ""
    sha256: str = ""
    etag: str = ""
    node: NodeID | None = None
    attempt: int = 0
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a run.

    `unresolved` counts the distinct input edges that are neither present nor known to stay absent.
    `attempt` is the number of the newest attempt, 0 before the first. `charged` counts the failures that used up the
    user's `MaxAttempts`, `restarts` those that used up the infrastructure's budget. `rounds` counts the attempts that
    ended by asking the client, `asked` is the newest of them.
    """

    id: NodeID
    status: NodeStatus = NodeStatus.IDLE
    unresolved: int = 0
    attempt: int = 0
    charged: int = 0
    restarts: int = 0
    rounds: int = 0
    asked: int = 0
    error: str = ""
    reason: Reason | None = None
    exit_code: int | None = None
    worker: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None


def tries(attempt: int, rounds: int, asked: int) -> int:
    """The attempt that a user counts: one that goes on after an answer is still the one that had asked.

    >>> tries(attempt=1, rounds=1, asked=1), tries(attempt=2, rounds=1, asked=1), tries(attempt=3, rounds=1, asked=1)
    (1, 1, 2)
    """
    return attempt - rounds + (rounds > 0 and asked == attempt)


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of a plan.

    `end` is set once the run is to end early; it is over when no node is active any more. `failure` is the first
    final failure. `present` are edges fed from outside whose object exists, as far as the event at hand concerns them.
    `called` says that another run waits for this one's end.
    """

    id: RunID
    plan: Plan
    counts: Mapping[NodeStatus, int]
    nodes: Mapping[NodeID, Node] = field(default_factory=dict)
    present: frozenset[Edge] = frozenset()
    end: End | None = None
    failure: Failure | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    called: bool = False


def new_run(run_id: RunID, plan: Plan, *, called: bool = False) -> Run:
    """The run before its first event: every node idle."""
    nodes = {
        node.id: Node(node.id, unresolved=len({binding.edge for binding in node.inputs}))
        for node in plan.nodes.values()
    }
    return Run(run_id, plan, counts={NodeStatus.IDLE: len(nodes)}, nodes=nodes, called=called)


def status_of(run: Run) -> RunStatus:
    """The status that follows from the run's nodes.

    A run whose nodes have all ended is over. One that is ending early is over once no node is active. Otherwise an
    active node makes it RUNNING, and where only idle or waiting ones are left, an outside act is needed: WAITING.
    """
    if any(run.counts.get(status, 0) for status in ACTIVE):
        return RunStatus.RUNNING
    if run.end is End.CANCELLED:
        return RunStatus.STOPPED
    if run.end is not None:
        return RunStatus.ERROR
    if run.counts.get(NodeStatus.WAITING, 0) or run.counts.get(NodeStatus.IDLE, 0):
        return RunStatus.WAITING
    return RunStatus.ERROR if run.counts.get(NodeStatus.ERROR, 0) else RunStatus.COMPLETE


def status_reason(run: Run) -> str:
    """Why the run is where it is; "" where the status says it all."""
    match status_of(run):
        case RunStatus.WAITING:
            return "tool_calls" if run.counts.get(NodeStatus.WAITING, 0) else "uploads"
        case RunStatus.RUNNING:
            return "stopping" if run.end else ""
        case RunStatus.ERROR:
            if run.end is End.QUOTA:
                return End.QUOTA.value
            timed_out = run.failure is not None and run.failure.code in {"RUN_TIMEOUT", "NODE_TIMEOUT"}
            return "timeout" if timed_out else End.NODE_FAILED.value
        case RunStatus.STOPPED:
            return End.CANCELLED.value
        case RunStatus.COMPLETE:
            return ""
