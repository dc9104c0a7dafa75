"""The Plan: a flow with everything decided, inert data that a run keeps for its whole life. PURE.

Names, ports, types, tier, retry, keys and order are resolved once, by `compile.py`; whoever reads a plan asks
nothing else. It is stored as JSON through `dump_plan` and `load_plan`.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Annotated, NewType

from pydantic import JsonValue, PlainSerializer, TypeAdapter

from pupload.tiers import Tier

NodeID = NewType("NodeID", str)
Edge = NewType("Edge", str)

DEFAULT_STORE = "default"
"""Name of the store that the server brings; it is used where a flow names none."""


class Source(StrEnum):
    """Where the object of an input edge comes from."""

    UPLOAD = "upload"
    STATIC = "static"
    WEBHOOK = "webhook"


class Reason(StrEnum):
    """Why an attempt ended without a result."""

    EXIT = "exit"
    OOM = "oom"
    TIMEOUT = "timeout"
    IMAGE = "image"
    TRANSFER = "transfer"
    TYPE = "type"
    LOST = "lost"
    POLICY = "policy"
    CANCELLED = "cancelled"
    INFRA = "infra"


@dataclass(frozen=True, slots=True)
class Retry:
    """Units: seconds. `on` holds the reasons that are tried again."""

    delay_s: float = 1.0
    max_delay_s: float = 360.0
    on: Annotated[frozenset[Reason], PlainSerializer(sorted)] = frozenset(
        {Reason.EXIT, Reason.OOM, Reason.TIMEOUT, Reason.IMAGE, Reason.TRANSFER}
    )


@dataclass(frozen=True, slots=True)
class Binding:
    """One port of a node bound to an edge.

    `types` are the MIME types that the port takes or gives, `("*/*",)` for any. `extension` (with its dot, or "") is
    that of an output whose type is exactly one; an input's is found with its bytes.
    """

    port: str
    edge: Edge
    types: tuple[str, ...] = ("*/*",)
    required: bool = True
    extension: str = ""


NO_TIER = Tier("", cpu=0, memory_bytes=0, disk_bytes=0)
"""The tier of a node that needs none: no worker runs it."""


@dataclass(frozen=True, slots=True)
class FlowRef:
    """A flow at exactly one version, a number or "draft". `digest` says what was meant: a draft may change."""

    name: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class EvalInputPlan:
    """What an evaluation gets on an input edge: the object of the judged run's `edge`, or else `value`."""

    edge: Edge | None = None
    value: JsonValue = None


@dataclass(frozen=True, slots=True)
class EvalPlan:
    """A flow that judges a run that has ended with a status of `on`; `verdict` is its edge that says what it found."""

    name: str
    flow: FlowRef
    verdict: Edge
    inputs: Mapping[Edge, EvalInputPlan] = field(default_factory=dict)
    on: tuple[str, ...] = ("COMPLETE",)
    auto_run: bool = True


class ToolChoice(StrEnum):
    """Whether nodes may ask for tools, or must."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class ToolOffer:
    """What the client does for nodes that ask: functions by name, as the request described them.

    `only` is the one that may be asked for, None for any of them.
    """

    functions: Mapping[str, Mapping[str, JsonValue]] = field(default_factory=dict)
    choice: ToolChoice = ToolChoice.AUTO
    only: str | None = None


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One node, ready to run.

    A node that `calls` a flow has neither image nor tier: its ports are edges of that flow, its flags the flow's
    parameters, and its timeout that of the flow's run, 0 for the run's own.
    `argv` is the command's template, one element an argument; None runs the image's own entrypoint and command.
    `flags` are final values as text, the def's defaults and `${PARAM.name}` already in them; a flag that has no value
    is absent.
    `flag_names` are all flags that `argv` may name, so that an unset one is known from an unknown one.
    `position` is the place in topological order, ties by the place in the flow.
    `ask_exit_code` is what the program exits with to ask the client for tools; None where it may not ask.
    """

    id: NodeID
    position: int
    uses: str
    image: str
    tier: Tier
    argv: tuple[str, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    flags: Mapping[str, str] = field(default_factory=dict)
    flag_names: tuple[str, ...] = ()
    inputs: tuple[Binding, ...] = ()
    outputs: tuple[Binding, ...] = ()
    max_attempts: int = 3
    retry: Retry = Retry()
    timeout_s: float = 3600.0
    network: str = "none"
    user: str | None = None
    access: str = "files"
    session: bool = True
    """Whether the node is lent the session's folder, and so waits for its turn at it."""
    ask_exit_code: int | None = None
    calls: FlowRef | None = None
    attachments: bool = False
    """Whether the node gets every attachment of its run, not only those of its inputs' types."""


@dataclass(frozen=True, slots=True)
class EdgePlan:
    """One edge: who writes it, who reads it, where its object is kept.

    Exactly one of `producer` and `source` is set. `key` is the template of a well that has one of its own; None is the
    default key. `output` marks what a call of the flow is answered with: what a node writes and nobody reads, or a
    well of its own keeps. Units: `lifetime_s` seconds, `max_size_bytes` bytes.
    """

    name: Edge
    producer: NodeID | None = None
    consumers: tuple[NodeID, ...] = ()
    source: Source | None = None
    store: str = DEFAULT_STORE
    key: str | None = None
    lifetime_s: float | None = None
    max_size_bytes: int | None = None
    primary: bool = False
    types: tuple[str, ...] = ("*/*",)
    extension: str = ""
    output: bool = False


@dataclass(frozen=True, slots=True)
class StorePlan:
    """A store that the flow declares itself. Its secret key is not here: it is kept encrypted beside the run."""

    name: str
    type: str
    endpoint: str
    bucket: str
    access_key: str
    public_endpoint: str | None = None
    location: str = "us-east-1"
    secure: bool = True


@dataclass(frozen=True, slots=True)
class Callback:
    """Who is told of the run, and of which of its events. The URL may be a secret."""

    url: str = field(repr=False)
    events: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AttachmentPlan:
    """A file that is fetched into containers and stored nowhere. Where from is kept apart: it may be a secret."""

    name: str
    content_type: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole flow. `nodes` is in topological order; `parameters` are final values by name."""

    name: str
    nodes: Mapping[NodeID, NodePlan]
    edges: Mapping[Edge, EdgePlan]
    stores: Mapping[str, StorePlan] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float | None = None
    fail_fast: bool = True
    max_restarts: int = 3
    """Attempts lost to the infrastructure that each node may have beside its own `max_attempts`."""
    digest: str = ""
    """SHA-256 of the definition: equal for two plans that mean the same."""
    session_id: str = ""
    """The session of the run; it is no part of the definition."""
    account: str = ""
    """Who owns the run, "" for the operator; it is no part of the definition."""
    tools: ToolOffer = ToolOffer()
    trace: bool = False
    """Whether small text inputs and outputs of each attempt are kept for whoever looks for a fault."""
    evals: tuple[EvalPlan, ...] = ()
    callback: Callback | None = None
    attachments: tuple[AttachmentPlan, ...] = ()
    """What came with the run's request; it is no part of the definition."""


@cache
def _adapter() -> TypeAdapter[Plan]:
    # Built when first asked for: a worker imports the names here and never a whole plan.
    return TypeAdapter(Plan)


def dump_plan(plan: Plan, *, without: AbstractSet[str] = frozenset()) -> bytes:
    """`plan` as JSON, without these members."""
    return _adapter().dump_json(plan, exclude=set(without))


def load_plan(document: bytes | str) -> Plan:
    """The plan that `dump_plan` wrote."""
    return _adapter().validate_json(document)
