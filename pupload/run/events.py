"""What can happen to a run: a closed union of past-tense values. PURE.

Everything that a decision needs and that is not in the run comes in the event: the time, the random number.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pupload.flow.plan import Edge, NodeID, Reason
from pupload.run.state import Artifact


@dataclass(frozen=True, slots=True)
class RunCreated:
    """The run was accepted.

    `present` are the artifacts that exist from the start: static wells, given inputs, and what the `kept` nodes wrote
    in an earlier run. A kept node is COMPLETE without an attempt of its own; a skipped one is not wanted. `absent` are
    edges from outside that nobody will feed.
    """

    at: datetime
    present: tuple[Artifact, ...] = ()
    kept: frozenset[NodeID] = frozenset()
    skipped: frozenset[NodeID] = frozenset()
    absent: frozenset[Edge] = frozenset()


@dataclass(frozen=True, slots=True)
class UploadReceived:
    """The object of an input edge exists."""

    at: datetime
    artifact: Artifact


@dataclass(frozen=True, slots=True)
class NodeClaimed:
    """A worker took the node's next attempt."""

    at: datetime
    node: NodeID
    attempt: int
    worker: str


@dataclass(frozen=True, slots=True)
class NodeSucceeded:
    """The attempt ended well. `absent` are the output edges that an optional port left without an object."""

    at: datetime
    node: NodeID
    attempt: int
    artifacts: tuple[Artifact, ...] = ()
    absent: tuple[Edge, ...] = ()
    exit_code: int | None = 0


@dataclass(frozen=True, slots=True)
class NodeFailed:
    """The attempt ended badly. `final` says that another try cannot help; `jitter` is random in [0, 1).

    `code` is what the run's error is called if it ends of this; "" is `NODE_` and the reason.
    """

    at: datetime
    node: NodeID
    attempt: int
    reason: Reason
    message: str
    exit_code: int | None = None
    final: bool = False
    jitter: float = field(default=0.0)
    code: str = ""


@dataclass(frozen=True, slots=True)
class NodeReleased:
    """The worker gave the attempt back unfinished and of its own will; it charges nobody."""

    at: datetime
    node: NodeID
    attempt: int


@dataclass(frozen=True, slots=True)
class NodeAsked:
    """The attempt ended to ask the client for something; its node goes on once that is answered.

    `calls` are as the client sees them, JSON with PascalCase members.
    """

    at: datetime
    node: NodeID
    attempt: int
    calls: tuple[Mapping[str, object], ...] = ()
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class ToolsAnswered:
    """The client answered what the node had asked in its `round`-th round."""

    at: datetime
    node: NodeID
    round: int


@dataclass(frozen=True, slots=True)
class RunCancelled:
    """Somebody who may asked for the run to stop."""

    at: datetime


@dataclass(frozen=True, slots=True)
class RunTimedOut:
    """The run's deadline has passed."""

    at: datetime


@dataclass(frozen=True, slots=True)
class RunExhausted:
    """What the run may cost is used up; `code` and `message` say whose limit it was."""

    at: datetime
    code: str
    message: str


Event = (
    RunCreated
    | UploadReceived
    | NodeClaimed
    | NodeSucceeded
    | NodeFailed
    | NodeReleased
    | NodeAsked
    | ToolsAnswered
    | RunCancelled
    | RunTimedOut
    | RunExhausted
)
