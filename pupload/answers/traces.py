"""What attempts read, wrote and took. PURE."""

from datetime import datetime

from pydantic import Field

from pupload.document import Document


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
