"""What a worker and its controller say to each other, over HTTP with the worker's own token. PURE.

The worker speaks first in every exchange. An attempt is named by run, node, number and lease token together
(`AttemptRef`); whatever the controller is told about an attempt counts only while that token is the current one.

    POST /api/v1/worker/hello   Hello → Welcome        at start; what an earlier instance held is lost
    POST /api/v1/worker/claim   Claim → Claimed        held open until there is work or `WaitS` is over
    POST /api/v1/worker/beat    Beat → BeatAnswer      extends the leases at once, then held open for news
    POST /api/v1/worker/image   Pin → Pinned           what a tag means in the attempt's run
    POST /api/v1/worker/sign    Sign → Signed          URLs, as late as possible; renewal is asking again
    POST /api/v1/worker/logs    Lines → 204
    POST /api/v1/worker/finish  Finish → Finished      409 LOST_LEASE: drop everything quietly
"""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from pupload.document import Document
from pupload.flow.plan import Reason
from pupload.tiers import Capacity, Tier

MOST_LINES = 2**31 - 1
"""Of the log of one attempt; it is cut long before."""


class AttemptRef(Document):
    """Identity of an attempt and the right to speak for it."""

    run_id: str
    node_id: str
    attempt: int
    lease: str


class Hello(Document):
    """A worker's introduction. `instance` is new at each start of the worker."""

    name: str
    instance: str
    version: str
    capacity: Capacity
    engine: str = ""
    architecture: str = ""


class Welcome(Document):
    """Units: seconds. A worker without a successful beat for `fence_s` kills its containers itself."""

    worker_id: str
    beat_s: float
    fence_s: float
    lease_s: float


class Claim(Document):
    """A wish for work. `most` is how many attempts the worker would take at once.

    `images` are exact images by the tag that means them on this worker just now: runs that have not settled what the
    tag means take it from there. `recalls`: what this worker has waiting here is to be answered at once, since it would
    offer more by now.
    """

    instance: str
    free: Capacity
    most: int = 1
    wait_s: float = 20.0
    recalls: bool = False
    images: dict[str, str] = Field(default_factory=dict)


class ObjectRef(Document):
    """An object to fetch. `sha256` is "" where nobody has read the bytes yet; `etag` must match where it is not "".

    `foreign`: in a store that a flow named, so that it must be looked at where its address leads.
    """

    url: str
    size_bytes: int
    sha256: str = ""
    etag: str = ""
    content_type: str = ""
    foreign: bool = False


class InputSpec(Document):
    """One input port. `content` None: the edge stays without an object, and the port is optional."""

    port: str
    edge: str
    types: list[str]
    required: bool
    content: ObjectRef | None


class OutputSpec(Document):
    """One output port. `extension` has its dot, or is "". `read`: by another node of the run."""

    port: str
    edge: str
    types: list[str]
    required: bool
    extension: str = ""
    max_size_bytes: int
    read: bool = False


class KeptFolder(Document):
    """A folder that the container finds as `/pup/<name>`, may write, and that is kept when the attempt counts.

    `content` is the tar that it begins as, None for an empty one. With `until_done` an attempt that succeeds leaves it
    behind. Units: bytes of all files together, and how many
    files and folders there may be.
    """

    name: str
    content: ObjectRef | None = None
    max_size_bytes: int
    max_entries: int
    until_done: bool = False


class ToolSheet(Document):
    """What a node that may ask the client is given: the text of its `tools.json`, and of its results if it has asked.

    `exit_code` is what its program ends with to ask.
    """

    tools: str
    results: str | None = None
    exit_code: int


class AttachmentSpec(Document):
    """A file to be fetched from its owner, straight into the container. `content_type` is "" where nobody said it."""

    name: str
    url: str = Field(repr=False)
    content_type: str
    limit_bytes: int


class Assignment(Document):
    """Everything that one attempt needs, decided. See `NodePlan` for `argv`, `flags`, `flag_names`.

    `exact` is the exact image that `image` means in this run, "" while that is open or where `image` is exact itself.
    """

    ref: AttemptRef
    flow_name: str
    uses: str
    image: str
    exact: str = ""
    argv: list[str] | None
    env: dict[str, str]
    flags: dict[str, str]
    flag_names: list[str]
    inputs: list[InputSpec]
    outputs: list[OutputSpec]
    folders: list[KeptFolder] = Field(default_factory=list)
    attachments: list[AttachmentSpec] = Field(default_factory=list)
    tier: Tier
    timeout_s: float
    network: str = "none"
    user: str | None = None
    access: str = "files"
    session_id: str = ""
    log_limit_bytes: int = 10 * 1024**2
    live_log_limit_bytes: int = 1024**2
    counts_as: int = 0
    """The attempt as its user counts, who leaves out what only went on after an answer; 0 is the ref's own."""
    tools: ToolSheet | None = None
    snapshot_bytes: int = 0
    """Of each text file that goes in or out, so much is reported; 0 is nothing."""


class Claimed(Document):
    """What the worker got; empty when the wait was over."""

    assignments: list[Assignment] = Field(default_factory=list)


class Beat(Document):
    """A sign of life for the worker and for each attempt it holds."""

    instance: str
    attempts: list[AttemptRef]
    free: Capacity
    draining: bool = False
    wait_s: float = 5.0


class StopOrder(Document):
    """This attempt is to be stopped: TERM, grace, KILL."""

    ref: AttemptRef
    reason: Reason


class BeatAnswer(Document):
    """`lost` are attempts that are no longer the worker's: kill, drop, report nothing."""

    stop: list[StopOrder] = Field(default_factory=list)
    lost: list[AttemptRef] = Field(default_factory=list)


class Pin(Document):
    """What a worker has found `image` to mean: `exact`, a repository digest or its engine's own id."""

    ref: AttemptRef
    image: str
    exact: str


class Pinned(Document):
    """What `image` means in this run: what the first said who asked."""

    exact: str


class PutWish(Document):
    """An output that is about to be uploaded. `md5` is base64, as in Content-MD5; "" is not known beforehand."""

    edge: str
    size_bytes: int
    md5: str
    content_type: str


class Sign(Document):
    """URLs that the worker needs now: inputs again, outputs, its log, folders that changed (by name, as `edge`)."""

    ref: AttemptRef
    gets: list[str] = Field(default_factory=list)
    puts: list[PutWish] = Field(default_factory=list)
    log: PutWish | None = None
    folders: list[PutWish] = Field(default_factory=list)
    expires_s: float = 3600.0


class SignedPut(Document):
    """A PUT that the store accepts, with exactly these headers. `foreign` as of `ObjectRef`."""

    edge: str
    url: str
    headers: dict[str, str]
    key: str
    foreign: bool = False


class SignedGet(Document):
    """A GET that the store accepts."""

    edge: str
    url: str


class Signed(Document):
    """The answer to `Sign`, in the order of the wishes."""

    gets: list[SignedGet] = Field(default_factory=list)
    puts: list[SignedPut] = Field(default_factory=list)
    log: SignedPut | None = None
    folders: list[SignedPut] = Field(default_factory=list)


class Line(Document):
    """One line of a node's log. `stream` is stdout, stderr, or system for what the worker itself has to say."""

    at: datetime
    stream: str
    text: str


def level_of(stream: str) -> str:
    """The level of a line that came by this stream."""
    return "error" if stream == "stderr" else "info"


class Lines(Document):
    """Log lines in order, and the newest progress in percent if it changed.

    `first` is how many lines of the attempt were posted before these: what comes twice is recorded once.
    """

    ref: AttemptRef
    first: int | None = Field(default=None, ge=0, le=MOST_LINES)
    lines: list[Line] = Field(default_factory=list)
    progress: float | None = None


class Outcome(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RELEASED = "released"
    ASKED = "asked"


class OutputFound(Document):
    """An output that lies in the store under `key`."""

    edge: str
    key: str
    size_bytes: int
    sha256: str
    content_type: str
    etag: str = ""


class InputFound(Document):
    """What the bytes of an input were."""

    edge: str
    size_bytes: int
    sha256: str
    content_type: str


class FolderFound(Document):
    """A folder that the attempt has changed; it lies in the store under `key`, as a tar."""

    name: str
    key: str
    size_bytes: int
    sha256: str


class Snapshot(Document):
    """The beginning of a text file that the attempt read or wrote. `side` is input or output."""

    side: str
    port: str
    edge: str
    content_type: str
    size_bytes: int
    text: str
    truncated: bool = False


class Finish(Document):
    """The end of an attempt. `final`: another try cannot help. Lines not yet posted come with it.

    `timings` are seconds by step name, in the order in which the steps ran.
    """

    ref: AttemptRef
    outcome: Outcome
    reason: Reason | None = None
    message: str = ""
    exit_code: int | None = None
    final: bool = False
    outputs: list[OutputFound] = Field(default_factory=list)
    absent: list[str] = Field(default_factory=list)
    inputs: list[InputFound] = Field(default_factory=list)
    folders: list[FolderFound] = Field(default_factory=list)
    lines: list[Line] = Field(default_factory=list)
    first_line: int | None = Field(default=None, ge=0, le=MOST_LINES)
    """As `first` of `Lines`, where a post of these was not answered; None where none was made."""
    log_key: str = ""
    image_digest: str = ""
    timings: dict[str, float] = Field(default_factory=dict)
    tool_calls: str = ""
    """What the program asks of the client, as it wrote it."""
    snapshots: list[Snapshot] = Field(default_factory=list)
    next: Claim | None = None
    """Claimed in the same answer when the finish is accepted; `WaitS` is not waited."""


class Finished(Document):
    """The finish was accepted."""

    assignments: list[Assignment] = Field(default_factory=list)
