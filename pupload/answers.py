"""What the server answers: the shapes that clients rely on, shared by the controller and the Python client. PURE.

Source: contract.md 7 to 9.
"""

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import Field, JsonValue, RootModel, field_serializer, field_validator, model_validator
from pydantic_core import PydanticCustomError

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


class PartAnswer(Document):
    """A part that has arrived. Units: bytes."""

    number: int
    size: int


class UploadAnswer(Document):
    """An upload in parts. All have `PartSize` bytes but the last; `Parts` are those that are there.

    `Status` is open, completing, completed or aborted.
    """

    id: str
    run_id: str
    edge_name: str
    status: str
    size: int
    part_size: int
    part_count: int
    content_type: str = ""
    parts: list[PartAnswer] = Field(default_factory=list)
    created_at: datetime
    expires_at: datetime


class SignedPart(Document):
    """Where to PUT a part of exactly `Size` bytes within `TTL` seconds."""

    number: int
    size: int
    put_url: str
    ttl: int


class SignedParts(Document):
    """The parts that were asked for."""

    parts: list[SignedPart]


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


class OutputAnswer(Document):
    """What came out on an edge. `Value` is its text, or what its JSON says, where it is small; null otherwise."""

    value: JsonValue = None
    url: str
    content_type: str
    size: int
    sha256: str


class OutputMap(RootModel[dict[str, OutputAnswer]]):
    """Outputs by edge, and nothing else."""


class EvalVerdict(Document):
    """What an evaluation says of a run: a number, yes or no, or one of several names; and why."""

    type: Literal["metric", "pass_fail", "category"]
    pass_: bool | None = Field(default=None, alias="Pass")
    score: float | None = None
    category: str = Field(default="", max_length=200)
    reason: str = Field(default="", max_length=10_000)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        said = {"metric": self.score is not None, "pass_fail": self.pass_ is not None, "category": bool(self.category)}
        if not said[self.type]:
            wants = {"metric": "score, a number", "pass_fail": "pass, true or false", "category": "category, a text"}
            raise PydanticCustomError("verdict", "a verdict of this type has {wants}", {"wants": wants[self.type]})
        return self


class EvalAnswer(Document):
    """One evaluation of a run: `Status` is pending, done, failed, or skipped where the run's end is none to judge."""

    name: str
    status: str
    run_id: str = ""
    verdict: EvalVerdict | None = None
    error: str = ""


class AnsweredRun(FlowRun):
    """A run that somebody waited for. `Evals` are there where they were waited for too."""

    outputs: dict[str, OutputAnswer] = Field(default_factory=dict)
    evals: list[EvalAnswer] = Field(default_factory=list)


class TextSnapshot(Document):
    """The beginning of a text file that an attempt read or wrote. `Size` is that of the whole file, in bytes."""

    port: str
    edge: str
    content_type: str
    size: int
    text: str
    truncated: bool = False


class TraceContext(Document):
    """What an attempt read and wrote, as far as it is text."""

    inputs: list[TextSnapshot] = Field(default_factory=list)
    outputs: list[TextSnapshot] = Field(default_factory=list)


class AttemptTrace(Document):
    """One attempt. `Outcome` is running, succeeded, failed, released, asked or lost; `Timings` are seconds by step.

    `Context` is null where the run asked for no trace. `BytesOut` counts what was stored, so none of a failed one.
    """

    node_id: str
    attempt: int
    outcome: str
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    queued_at: datetime | None = None
    started_at: datetime
    finished_at: datetime | None = None
    timings: dict[str, float] = Field(default_factory=dict)
    image_digest: str = ""
    tier: str = ""
    worker: str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    context: TraceContext | None = None


class RunTrace(Document):
    """Attempts of a run, by node and number. `Traced` says whether contexts were asked for."""

    run_id: str
    flow_name: str
    status: str
    traced: bool = False
    attempts: list[AttemptTrace] = Field(default_factory=list)


class RunPage(Document):
    """Runs, newest first; `NextCursor` is "" on the last page."""

    runs: list[RunSummary]
    next_cursor: str = ""


class RunEvent(Document):
    """One event of a run's stream."""

    seq: int
    type: str
    run_id: str
    node_id: str = ""
    time: datetime
    data: dict[str, Any] = Field(default_factory=dict)


class RunReport(RunSummary):
    """A run as a webhook tells of it: what it came to, and no URL that anybody could use."""

    artifacts: dict[str, ArtifactAnswer] = Field(default_factory=dict)


class WebhookBody(RunEvent):
    """What is posted: the event, and the run as it is at that time."""

    run: RunReport


class WebhookTry(Document):
    """One try. `Status` is the receiver's, null where it gave none; `Error` is "" where it arrived."""

    at: datetime
    status: int | None
    error: str
    duration_ms: int


class WebhookAnswer(Document):
    """What was told, or is to be. `Status` is pending, delivered or failed; `URL` is shown without its query."""

    id: str
    run_id: str
    seq: int
    type: str
    url: str
    status: str
    created_at: datetime
    next_at: datetime | None = None
    tries: list[WebhookTry] = Field(default_factory=list)


class WebhookList(Document):
    """The deliveries of a run."""

    webhooks: list[WebhookAnswer]


class SessionSummary(Document):
    """A session in a list. `Version` counts the states of its folder, `Size` is in bytes."""

    id: str
    created_at: datetime
    used_at: datetime
    version: int = 0
    size: int = 0


class MessageAnswer(Document):
    """What was said in a run of a session: by the `user`, or by the `assistant` in the object on `EdgeName`."""

    role: str
    content: str
    truncated: bool = False
    run_id: str
    edge_name: str = ""
    created_at: datetime


class SessionAnswer(SessionSummary):
    """A session, whole. `Runs` are its newest ones, the oldest of them first; `Messages` are of those runs."""

    variables: dict[str, JsonValue] = Field(default_factory=dict)
    runs: list[RunSummary] = Field(default_factory=list)
    messages: list[MessageAnswer] = Field(default_factory=list)


class SessionPage(Document):
    """Sessions, newest first; `NextCursor` is "" on the last page."""

    sessions: list[SessionSummary]
    next_cursor: str = ""


class AccountAnswer(Document):
    """Who pays. `Balance` in credits, null where it is not counted; `Prices` in credits a second, by tier."""

    id: str
    balance: float | None
    prices: dict[str, float] = Field(default_factory=dict)


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


class GpuAnswer(Document):
    """One GPU. Units: bytes."""

    vendor: str
    memory_bytes: int


class TierAnswer(Document):
    """A tier. Units: cores, bytes."""

    name: str
    cpu: float
    memory_bytes: int
    disk_bytes: int
    gpu: GpuAnswer | None = None


class CapacityAnswer(Document):
    """Units: cores after overcommit, bytes, whole GPUs."""

    cpu: float = 0.0
    memory_bytes: int = 0
    disk_bytes: int = 0
    gpus: list[GpuAnswer] = Field(default_factory=list)


class WorkerAnswer(Document):
    """A worker as the controller knows it."""

    id: str
    name: str
    live: bool
    draining: bool = False
    attempts: int = 0
    version: str = ""
    engine: str = ""
    architecture: str = ""
    capacity: CapacityAnswer = Field(default_factory=CapacityAnswer)
    free: CapacityAnswer = Field(default_factory=CapacityAnswer)
    seen_at: datetime | None = None


class FlowSummary(Document):
    """A flow that is kept, in a list. `Draft` is true when it has one; `Production` null when no version is."""

    name: str
    draft: bool = True
    versions: list[int] = Field(default_factory=list)
    production: int | None = None
    updated_at: datetime


class FlowAnswer(FlowSummary):
    """A flow with its draft, without secrets; `Flow` is null when it has none."""

    flow: dict[str, Any] | None = None
    node_defs: list[dict[str, Any]] = Field(default_factory=list)


class FlowPage(Document):
    """Flows by name; `NextCursor` is "" on the last page."""

    flows: list[FlowSummary]
    next_cursor: str = ""


class FindingAnswer(Document):
    """One thing that is wrong with a flow, where, and what to do."""

    code: str
    name: str
    severity: str
    path: str
    message: str


class Findings(Document):
    """Everything that is wrong with a flow; it can run when none is of severity `error`."""

    findings: list[FindingAnswer] = Field(default_factory=list)


class FlowVersionSummary(Document):
    """A published version, in a list. `Definition` is its hash; `Images` the exact image of each reference."""

    name: str
    version: int
    definition: str
    production: bool = False
    images: dict[str, str] = Field(default_factory=dict)
    warnings: list[str] = Field(default_factory=list)
    published_at: datetime


class FlowVersionAnswer(FlowVersionSummary):
    """A published version with its documents, without secrets."""

    flow: dict[str, Any] = Field(default_factory=dict)
    node_defs: list[dict[str, Any]] = Field(default_factory=list)


class FlowVersionPage(Document):
    """Versions, newest first; `NextCursor` is "" on the last page."""

    versions: list[FlowVersionSummary]
    next_cursor: str = ""


class DifferenceAnswer(Document):
    """One place in which two versions differ; `From` or `To` is null where there is nothing."""

    path: str
    from_: Any = None
    to: Any = None


class FlowComparison(Document):
    """Two versions of a flow, and where they differ: nowhere when `Differences` is empty."""

    name: str
    from_: str
    to: str
    differences: list[DifferenceAnswer] = Field(default_factory=list)


class NodeDefSummary(Document):
    """A node definition that every flow may use, in a list. `Version` is "" for one that may change."""

    publisher: str
    name: str
    version: str = ""
    description: str = ""
    image: str = ""
    updated_at: datetime


class NodeDefAnswer(NodeDefSummary):
    """A node definition with its document."""

    node_def: dict[str, Any] = Field(default_factory=dict)


class NodeDefPage(Document):
    """Node definitions by name; `NextCursor` is "" on the last page."""

    node_defs: list[NodeDefSummary]
    next_cursor: str = ""


class FileAnswer(Document):
    """A file that runs can begin with, by its `Uri`."""

    id: str
    uri: str
    name: str
    size: int
    content_type: str
    sha256: str
    created_at: datetime


class FilePage(Document):
    """Files, newest first; `NextCursor` is "" on the last page."""

    files: list[FileAnswer]
    next_cursor: str = ""


class RunEvals(Document):
    """The evaluations of a run, in the flow's order."""

    evals: list[EvalAnswer] = Field(default_factory=list)
