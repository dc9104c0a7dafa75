"""Sessions: what runs have in common. PURE."""

from datetime import datetime

from pydantic import Field, JsonValue

from pupload.answers.runs import RunSummary
from pupload.document import Document


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
