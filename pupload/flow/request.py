"""The request to run a published or posted flow: one document for every way to run. PURE.

Source: contract.md 8.2.
"""

from typing import ClassVar

from pydantic import Field, JsonValue

from pupload.flow.given import Given, Text

MAX_ATTACHMENTS = 10
MAX_TOOLS = 64
MAX_URL = 2048
MAX_MESSAGE = 1024 * 1024


class FileInput(Given):
    """A file given by where it is: `https:`, `data:`, or `file:` for one uploaded to `/files` before."""

    ALIASES: ClassVar[dict[str, str]] = {"url": "uri"}

    uri: str = Field(min_length=1)
    name: Text = ""


class Attachment(Given):
    """A file fetched straight into containers and stored nowhere. `content_type` "" is told by the name."""

    ALIASES: ClassVar[dict[str, str]] = {"url": "uri", "mime": "content_type", "type": "content_type"}

    uri: str = Field(min_length=1)
    name: Text = ""
    content_type: Text = ""


class EvalsWish(Given):
    """What to do about the flow's evaluations: `run_mode` async, block or skip; `runs` picks some by name."""

    run_mode: str = "async"
    runs: list[Text] | None = None


class RunRequest(Given):
    """How a flow is to be run, this time. See docs/http.md for each member.

    `inputs` by edge: a text or JSON value, or a `FileInput`. `overrides` by node, nested or flat (`"node.flag"`).
    `wait`, `timeout` are durations such as `90s`; `budget` is in credits.
    """

    ALIASES: ClassVar[dict[str, str]] = {
        "input": "inputs",
        "body": "inputs",
        "blockoverrides": "overrides",
        "override": "overrides",
        "flowsessionid": "session_id",
        "evaloptions": "evals",
    }
    EMPTY_IS_A_VALUE: ClassVar[frozenset[str]] = frozenset({"Message"})

    inputs: dict[str, JsonValue] = Field(default_factory=dict)
    message: str | None = Field(default=None, max_length=MAX_MESSAGE)
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    attachments: list[Attachment] = Field(default_factory=list, max_length=MAX_ATTACHMENTS)
    overrides: dict[str, JsonValue] = Field(default_factory=dict)
    version: Text | None = None
    session_id: Text | None = None
    trace: bool = False
    tools: list[JsonValue] = Field(default_factory=list, max_length=MAX_TOOLS)
    tool_choice: JsonValue = None
    callback_url: str | None = Field(default=None, max_length=MAX_URL)
    callback_events: list[Text] = Field(default_factory=list)
    evals: EvalsWish = Field(default_factory=EvalsWish)
    timeout: Text | None = None
    wait: Text | None = None
    only_nodes: list[Text] = Field(default_factory=list)
    budget: float | None = Field(default=None, gt=0)
