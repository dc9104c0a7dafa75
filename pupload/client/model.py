"""What the server answers, as values. Members that a newer server adds are ignored."""

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, JsonValue

from pupload.document import Document
from pupload.run.commands import TERMINAL_RECORDS
from pupload.run.state import TERMINAL, NodeStatus, RunStatus


def _absent_when_empty(value: object) -> object:
    return value or None


class Answer(Document):
    """The base of what the server writes."""

    @classmethod
    def read(cls, value: object) -> Self:
        """The document in a JSON value. Errors: pydantic's ValidationError."""
        return cls.model_validate(value, context={"unknown": []})


class LogRecord(Answer):
    """One line of a node's log."""

    timestamp: datetime | None = None
    message: str = ""
    level: str = "info"
    stream: str = "stdout"
    fields: dict[str, JsonValue] = Field(default_factory=dict)


class NodeState(Answer):
    """Where a node of a run is. `progress` in percent."""

    status: NodeStatus
    logs: list[LogRecord] = Field(default_factory=list)
    error: str = ""
    attempt: int = 0
    max_attempts: int = 1
    progress: float = 0.0
    pending_reason: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int | None = None
    worker: str = ""


class Artifact(Answer):
    """An object bound to an edge. Units: `size` bytes, -1 where it is not there yet."""

    edge_name: str
    store_name: str = ""
    object_name: str = ""
    size: int = -1
    content_type: str = ""
    sha256: str = ""


class WaitingURL(Answer):
    """An input that is awaited, and where to PUT it. Units: `ttl` seconds."""

    artifact: Artifact
    put_url: str = Field(repr=False)
    ttl: float = 0.0


class RunError(Answer):
    """Why a run failed."""

    code: str = ""
    message: str = ""
    node_id: str = ""


class FlowRun(Answer):
    """A run as the server tells it. Units: `progress` in percent."""

    id: str
    flow_name: str = ""
    flow_version: str = ""
    status: RunStatus
    status_reason: str = ""
    error: Annotated[RunError | None, BeforeValidator(_absent_when_empty)] = None
    node_state: dict[str, NodeState] = Field(default_factory=dict)
    artifacts: dict[str, Artifact] = Field(default_factory=dict)
    waiting_urls: list[WaitingURL] = Field(default_factory=list)
    progress: float = 0.0
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def over(self) -> bool:
        """True when nothing of it will change any more."""
        return self.status in TERMINAL


class RunPage(Answer):
    """Runs, newest first. `next_cursor` is "" on the last page."""

    runs: list[FlowRun] = Field(default_factory=list)
    next_cursor: Annotated[str, BeforeValidator(lambda value: value or "")] = ""


class RunEvent(Answer):
    """One event of a run; `data` depends on the type. Source: contract.md 9."""

    seq: int
    type: str
    run_id: str = ""
    node_id: Annotated[str, BeforeValidator(lambda value: value or "")] = ""
    time: datetime
    data: dict[str, Any] = Field(default_factory=dict)

    @property
    def terminal(self) -> bool:
        """True for the last event of a run."""
        return self.type in TERMINAL_RECORDS
