"""Flows that are kept, their versions, and node definitions. PURE."""

from datetime import datetime
from typing import Any

from pydantic import Field

from pupload.document import Document


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
