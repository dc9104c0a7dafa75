"""What comes in: uploads in parts, and files for runs to come. PURE."""

from datetime import datetime

from pydantic import Field

from pupload.document import Document


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
