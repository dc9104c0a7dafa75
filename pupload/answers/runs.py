"""Runs as clients see them: whole, in lists, as events, and as what a call gets. PURE."""

from datetime import datetime
from typing import Any

from pydantic import Field, JsonValue, RootModel, field_serializer, field_validator

from pupload.answers.evals import EvalAnswer
from pupload.document import Document


class LogRecord(Document):
    """One log line; the only object whose members are lower case."""

    timestamp: datetime
    message: str
    level: str
    stream: str
    fields: dict[str, Any] = Field(default_factory=dict)

    model_config = Document.model_config | {"alias_generator": None}


class NodeState(Document):
    """Where a node is. `Progress` in percent; `ExitCode` of its newest attempt, null before its end.

    `ToolRounds` is how often it has asked the client; an attempt that goes on after an answer is not counted anew.
    `ChildRunID` is the newest run of the flow that the node calls.
    """

    status: str
    logs: list[LogRecord] = Field(default_factory=list)
    error: str = ""
    reason: str = ""
    attempt: int = 0
    max_attempts: int = 0
    progress: float = 0.0
    pending_reason: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int | None = None
    worker: str = ""
    tool_rounds: int = 0
    child_run_id: str = ""


class ToolCallAnswer(Document):
    """Something that a node asks of the client."""

    id: str
    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class ArtifactAnswer(Document):
    """An object bound to an edge. `SHA256` and `ContentType` of an upload are "" until a node has read it."""

    store_name: str
    object_name: str
    edge_name: str
    size: int
    content_type: str = ""
    sha256: str = ""


class WaitingURL(Document):
    """An input that is awaited: PUT its bytes to `PutURL` within `TTL` seconds, or ask again for a fresh one.

    A webhook well has a `PostURL` instead, which is good for as long as the run waits.
    """

    artifact: ArtifactAnswer
    put_url: str
    ttl: int
    post_url: str = ""


class RunError(Document):
    """Why a run ended badly."""

    code: str
    message: str
    node_id: str = ""


class NodeCounts(Document):
    """How many of the run's nodes are where."""

    total: int = 0
    executed: int = 0
    running: int = 0
    remaining: int = 0
    skipped: int = 0


class RunSummary(Document):
    """A run in a list. `Error` is `{}` on the wire where there is none."""

    id: str
    flow_name: str
    flow_version: str = ""
    status: str
    status_reason: str = ""
    error: RunError | None = None
    progress: float = 0.0
    session_id: str = ""
    parent_run_id: str = ""
    root_run_id: str = ""
    replay_of: str = ""
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    duration_ms: int | None = None

    @field_serializer("error")
    def _error_or_nothing(self, error: RunError | None) -> dict[str, str]:
        return error.wire() if error else {}

    @field_validator("error", mode="before")
    @classmethod
    def _nothing_is_no_error(cls, error: object) -> object:
        return error or None


class RunPage(Document):
    """Runs, newest first; `NextCursor` is "" on the last page."""

    runs: list[RunSummary]
    next_cursor: str = ""


class FlowRun(RunSummary):
    """A run, whole. `Progress` in percent, 100 only when COMPLETE.

    `Inputs` are the objects on edges that no node writes; `Parameters` the values that the run has, defaults among
    them; `Overrides` and `OnlyNodes` as they were asked for.
    """

    definition: str = ""
    """SHA-256 of the compiled definition."""
    inputs: dict[str, ArtifactAnswer] = Field(default_factory=dict)
    parameters: dict[str, Any] = Field(default_factory=dict)
    overrides: dict[str, dict[str, Any]] = Field(default_factory=dict)
    only_nodes: list[str] = Field(default_factory=list)
    node_state: dict[str, NodeState] = Field(default_factory=dict)
    artifacts: dict[str, ArtifactAnswer] = Field(default_factory=dict)
    waiting_urls: list[WaitingURL] = Field(default_factory=list)
    tool_calls: dict[str, list[ToolCallAnswer]] = Field(default_factory=dict)
    """By node, what is to be answered by `/resume`."""
    counts: NodeCounts = Field(default_factory=NodeCounts)
    deadline: datetime | None = None


class RunEvent(Document):
    """One event of a run's stream."""

    seq: int
    type: str
    run_id: str
    node_id: str = ""
    time: datetime
    data: dict[str, Any] = Field(default_factory=dict)


class OutputAnswer(Document):
    """What came out on an edge. `Value` is its text, or what its JSON says, where it is small; null otherwise."""

    value: JsonValue = None
    url: str
    content_type: str
    size: int
    sha256: str


class OutputMap(RootModel[dict[str, OutputAnswer]]):
    """Outputs by edge, and nothing else."""


class AnsweredRun(FlowRun):
    """A run that somebody waited for. `Evals` are there where they were waited for too."""

    outputs: dict[str, OutputAnswer] = Field(default_factory=dict)
    evals: list[EvalAnswer] = Field(default_factory=list)


class StepPaused(Document):
    """Where a loop of steps stands: what the next call sends back, and the run of the step that was taken.

    `AccumulatedOutputs` are references by node and edge; those of inputs are under `$inputs`.
    """

    run_id: str
    step_index: int
    next_node: str
    definition: str
    accumulated_outputs: dict[str, dict[str, str]]
    run: FlowRun
