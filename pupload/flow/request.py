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


class StepRequest(RunRequest):
    """One step of a loop over a flow's nodes, in their order. The client holds all that is known of the loop.

    `run_id` is the loop's first run, None in the first call. `accumulated_outputs` are references by node and edge, as
    the last `step_paused` gave them, with those of inputs under `$inputs`. `input_overrides` replace the objects of
    edges, as `inputs` do, in this call. `definition` is that of the last `step_paused`.
    """

    run_id: Text | None = None
    step_index: int = 0
    accumulated_outputs: dict[str, dict[str, str]] = Field(default_factory=dict)
    input_overrides: dict[str, JsonValue] = Field(default_factory=dict)
    definition: Text | None = None
    run_remaining: bool = False


class ReplayRequest(RunRequest):
    """What is different in a new run of what an earlier run was.

    With `from_` it begins at that node, with `failed_only` at what failed, and keeps the rest; with neither, nothing
    is kept but the inputs.
    """

    from_: Text | None = None
    failed_only: bool = False
