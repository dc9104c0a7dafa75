"""How the server says no: one shape for every refusal. PURE."""

from typing import Any

from pydantic import Field

from pupload.document import Document


class ErrorAnswer(Document):
    """What is wrong, and what to do. `Code` is for programs, `Details` name each problem, the log has `RequestID`."""

    code: str
    message: str
    details: list[Any] = Field(default_factory=list)
    request_id: str


class Refusal(Document):
    """The body of every refusal."""

    error: ErrorAnswer


class ReferenceRefusal(Document):
    """The body of every refusal on `/api/v1/flow/…`."""

    error: ErrorAnswer = Field(alias="error")
