"""What the server answers: the shapes that clients rely on, shared by the controller and the Python client. PURE.

Source: contract.md 7 to 9.
"""

from datetime import datetime
from typing import Any

from pydantic import Field, field_serializer, field_validator

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
    """Where a node is. `Progress` in percent; `ExitCode` of its newest attempt, null before its end."""

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


class ArtifactAnswer(Document):
    """An object bound to an edge. `SHA256` and `ContentType` of an upload are "" until a node has read it."""

    store_name: str
    object_name: str
    edge_name: str
    size: int
    content_type: str = ""
    sha256: str = ""


class WaitingURL(Document):
    """An input that is awaited: PUT its bytes to `PutURL` within `TTL` seconds, or ask again for a fresh one."""

    artifact: ArtifactAnswer
    put_url: str
    ttl: int


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
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @field_serializer("error")
    def _error_or_nothing(self, error: RunError | None) -> dict[str, str]:
        return error.wire() if error else {}

    @field_validator("error", mode="before")
    @classmethod
    def _nothing_is_no_error(cls, error: object) -> object:
        return error or None


class FlowRun(RunSummary):
    """A run, whole. `Progress` in percent, 100 only when COMPLETE."""

    definition: str = ""
    """SHA-256 of the compiled definition."""
    node_state: dict[str, NodeState] = Field(default_factory=dict)
    artifacts: dict[str, ArtifactAnswer] = Field(default_factory=dict)
    waiting_urls: list[WaitingURL] = Field(default_factory=list)
    counts: NodeCounts = Field(default_factory=NodeCounts)
    deadline: datetime | None = None


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
