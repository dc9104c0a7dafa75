"""How a flow is to be run: what callers may say, and the body that says it to the server. PURE but for flows' files."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, TypedDict

from pydantic import BaseModel

from pupload.answers.runs import ToolCallAnswer
from pupload.answers.uploads import FileAnswer
from pupload.document import fold, pascal
from pupload.errors import Malformed
from pupload.flow.load import FlowDocuments, read_file
from pupload.flow.model import Flow, FlowStore
from pupload.flow.nodedef import NodeDef
from pupload.flow.overrides import Override
from pupload.flow.request import Attachment, EvalsWish, FileInput

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None
"""What JSON can say."""

Input: TypeAlias = Json | bytes | Path | FileInput | FileAnswer
"""What an edge may begin with: a value, or a file: its bytes, its path here, its URL, or one that the server keeps."""

Written: TypeAlias = Mapping[str, object]
"""A document as it is written in JSON. The server says what is wrong with it."""

FlowLike = Path | Flow | FlowDocuments | Written
"""A flow: a file of `{Flow, NodeDefs}`, such a mapping, a mapping that is the flow itself, or a model of either."""

NodeDefLike = NodeDef | Written

ToolHandler: TypeAlias = (
    Callable[[ToolCallAnswer], Json | Awaitable[Json]] | Mapping[str, Callable[..., Json | Awaitable[Json]]]
)
"""Answers what nodes ask: one callable that gets each call, or one for each name that gets the arguments by keyword."""


class How(TypedDict, total=False):
    """How a flow is to be run, this time; docs/running.md has each. What is None is as if it were not said.

    `nodedefs` come with a flow that is not kept. `idempotency_key` is made up unless told: the same one gives the same
    run.
    """

    message: str | None
    parameters: Mapping[str, Json] | None
    attachments: Sequence[Attachment | str] | None
    overrides: Mapping[str, Override | Json] | None
    version: str | int | None
    session_id: str | None
    trace: bool | None
    tools: Sequence[Written] | None
    tool_choice: Json
    callback_url: str | None
    callback_events: Sequence[str] | None
    evals: EvalsWish | None
    timeout: str | None
    only_nodes: Sequence[str] | None
    budget: float | None
    nodedefs: Sequence[NodeDefLike] | None
    idempotency_key: str | None


class OverrideParts(TypedDict, total=False):
    """What may be different of a node: the members of Override."""

    flags: Mapping[str, str | int | float | bool | None]
    tier: str | None
    max_attempts: int | None
    timeout: str | None
    env: Mapping[str, str]
    command: str | None
    image: str | None


_NOT_IN_THE_BODY = frozenset({"nodedefs", "idempotency_key"})


def members_of(how: How) -> dict[str, Json]:
    """The members of the request that `how` says.

    Errors: TypeError for what is none of them.
    """
    told = dict(how)
    if unknown := told.keys() - How.__annotations__.keys():
        raise TypeError(f"there is no {min(unknown)!r} here; a run takes {', '.join(sorted(How.__annotations__))}")
    spelled = {"attachments": [_attachment(each) for each in how.get("attachments") or ()] or None}
    said = {name: value for name, value in (told | spelled).items() if value is not None}
    return {pascal(name): plain(value) for name, value in said.items() if name not in _NOT_IN_THE_BODY}


def refuse_nodedefs(how: How) -> None:
    """Errors: TypeError where definitions are given beside a flow that is kept, which has its own."""
    if how.get("nodedefs"):
        raise TypeError("nodedefs come with a flow that is not kept; see put_nodedef for those that all flows share")


def _attachment(given: Attachment | str) -> Attachment:
    return Attachment(uri=given) if isinstance(given, str) else given


def documents(flow: FlowLike, nodedefs: Sequence[NodeDefLike] = ()) -> dict[str, Json]:
    """`{Flow, NodeDefs}`, the `nodedefs` after those that come with the flow, and nothing else.

    Errors: Malformed for a file that cannot be read, or is no such object.
    """
    if isinstance(flow, Path):
        read = read_file(flow)
        if not isinstance(read, dict) or "flow" not in {fold(str(name)) for name in read}:
            raise Malformed(f"{flow} is no object of Flow and NodeDefs")
        return documents(read, nodedefs)
    if isinstance(flow, FlowDocuments):
        return documents(flow.flow, [*flow.node_defs, *nodedefs])
    if isinstance(flow, Flow):
        return {"Flow": _with_secrets(flow), "NodeDefs": plain(nodedefs)}
    members = {fold(name): value for name, value in flow.items()}
    if "flow" not in members:
        return {"Flow": plain(flow), "NodeDefs": plain(nodedefs)}
    own = members.get("nodedefs") or ()
    return {
        **{name: plain(value) for name, value in flow.items() if fold(name) not in {"flow", "nodedefs"}},
        "Flow": plain(members["flow"]),
        "NodeDefs": [*plain_list(own), *plain_list(nodedefs)],
    }


def _with_secrets(flow: Flow) -> Json:
    """A flow as it was given. Written the usual way, a model leaves its secrets out."""
    told = flow.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return told | ({"Stores": [_store(each) for each in flow.stores]} if flow.stores else {})


def _store(store: FlowStore) -> Json:
    return {"Name": store.name, "Type": store.type, "Params": store.params}


def plain(value: object) -> Json:
    """The value as JSON: models as what was set in them."""
    match value:
        case Flow():
            return _with_secrets(value)
        case BaseModel():
            told: dict[str, Json] = value.model_dump(mode="json", by_alias=True, exclude_unset=True)
            return told
        case Mapping():
            return {str(name): plain(each) for name, each in value.items()}
        case None | bool() | int() | float() | str():
            return value
        case Sequence() if not isinstance(value, bytes | bytearray):
            return [plain(each) for each in value]
        case _:
            raise TypeError(f"{type(value).__name__} is no JSON value")


def plain_list(values: object) -> list[Json]:
    """Each of `values` as JSON. Errors: TypeError for what is no list."""
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        raise TypeError("NodeDefs are a list")
    return [plain(each) for each in values]
