"""What is to be done after a step: imperative values that the shell carries out in the same transaction. PURE."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from pupload.flow.plan import NodeID, Reason
from pupload.run.state import Artifact, Node, Run


@dataclass(frozen=True, slots=True)
class DispatchNode:
    """Queue the node's attempt for a worker. Units: `delay_s` seconds from now."""

    node: NodeID
    attempt: int
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class StopAttempt:
    """Tell the worker that runs the attempt to stop it."""

    node: NodeID
    attempt: int
    reason: Reason


Command = DispatchNode | StopAttempt


class RecordType(StrEnum):
    """Types of the run's public event stream. Source: contract.md 9."""

    RUN_STARTED = "run_started"
    NODE_QUEUED = "node_queued"
    NODE_STARTED = "node_started"
    NODE_LOG = "node_log"
    NODE_PROGRESS = "node_progress"
    NODE_OUTPUT = "node_output"
    NODE_RETRYING = "node_retrying"
    NODE_COMPLETED = "node_completed"
    NODE_FAILED = "node_failed"
    WAITING_UPLOADS = "waiting_uploads"
    UPLOAD_RECEIVED = "upload_received"
    TOOL_CALLS_REQUIRED = "tool_calls_required"
    STEP_PAUSED = "step_paused"
    RUN_COMPLETED = "run_completed"
    RUN_FAILED = "run_failed"
    RUN_CANCELLED = "run_cancelled"


TERMINAL_RECORDS = frozenset({RecordType.RUN_COMPLETED, RecordType.RUN_FAILED, RecordType.RUN_CANCELLED})


@dataclass(frozen=True, slots=True)
class Record:
    """One public event, before it has its number. `data` is JSON with PascalCase members."""

    type: RecordType
    node: NodeID | None = None
    data: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """The answer of one transition.

    `changed` are the nodes whose rows differ now, `artifacts` those that this step made valid. A stale step (a
    duplicate, an old attempt, anything after the end) has the same run and nothing to do.
    """

    run: Run
    changed: tuple[Node, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    commands: tuple[Command, ...] = ()
    records: tuple[Record, ...] = ()
    stale: bool = False


def joined(steps: Sequence[Step]) -> Step:
    """Several steps of one run, one after the other, as one: a node stands as the last of them left it."""
    first, *later = steps
    if not later:
        return first
    return Step(
        steps[-1].run,
        changed=tuple({node.id: node for step in steps for node in step.changed}.values()),
        artifacts=tuple(artifact for step in steps for artifact in step.artifacts),
        commands=tuple(command for step in steps for command in step.commands),
        records=tuple(record for step in steps for record in step.records),
        stale=all(step.stale for step in steps),
    )
