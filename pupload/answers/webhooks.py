"""What is posted to whom a request named, and how that went. PURE."""

from datetime import datetime

from pydantic import Field

from pupload.answers.runs import ArtifactAnswer, RunEvent, RunSummary
from pupload.document import Document


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
