"""The flow document: what a user writes to have files worked on. PURE.

Source: contract.md 1.
"""

from typing import Any, ClassVar

from pydantic import Field, JsonValue, SecretStr, field_serializer

from pupload.document import fold
from pupload.flow.given import Env, Given, Scalar, Size, Strings, Text

DEFAULT_LOCATION = "us-east-1"


class FlowParameter(Given):
    """A value that each run may give; used as `${PARAM.name}` in flag values and keys."""

    EMPTY_IS_A_VALUE: ClassVar[frozenset[str]] = frozenset({"Default"})

    name: Text = ""
    type: Text = "string"
    default: JsonValue = None
    required: bool = False
    description: str = ""


class StoreParams(Given):
    """How a store of the flow's own is reached. Read from `FlowStore.params` by `FlowStore.read_params`."""

    ALIASES: ClassVar[dict[str, str]] = {"bucket": "bucket_name", "region": "location"}

    endpoint: str = "s3.amazonaws.com"
    public_endpoint: str | None = None
    bucket_name: str
    location: str = DEFAULT_LOCATION
    access_key: str
    secret_key: SecretStr
    secure: bool = True


_SHOWN = StoreParams.members().keys() - {"secretkey"}


def is_secret(param: str) -> bool:
    """True for the secret of a store, and for whatever else may be one, misspelt.

    >>> is_secret("secret_key"), is_secret("SecretAccessKey"), is_secret("Bucket")
    (True, True, False)
    """
    return fold(param) not in _SHOWN


class FlowStore(Given):
    """A store declared in the flow. `params` stay as they were given, so that a rule can judge them.

    The secret key never leaves by `wire()`, and is not shown by `repr`.
    """

    name: Text = ""
    type: Text = ""
    params: dict[str, JsonValue] = Field(default_factory=dict, repr=False)

    @property
    def names_a_server_store(self) -> bool:
        """True for a declaration by name alone: the server's configuration has the rest."""
        return not self.type and not self.params

    def read_params(self) -> StoreParams:
        """`params` as typed values. Errors: pydantic's ValidationError; rule STORE_003 reports it."""
        return StoreParams.model_validate(self.params)

    @field_serializer("params")
    def _without_secrets(self, params: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in params.items() if not is_secret(name)}


class DataWell(Given):
    """Where an edge's object comes from or is kept. As a flow's `DefaultDataWell` it has no edge."""

    edge: Text = ""
    store: Text | None = None
    source: Text | None = None
    key: Text | None = None
    lifetime: Text | None = None
    primary: bool = False
    max_size: Size | None = None


class FlowBinding(Given):
    """A port of a node bound to an edge."""

    name: Text = ""
    edge: Text = ""


class FlowInput(FlowBinding):
    """An input port bound to the edge it reads."""


class FlowOutput(FlowBinding):
    """An output port bound to the edge it writes."""


class FlowFlag(Given):
    """A value for a flag of the node's def."""

    EMPTY_IS_A_VALUE: ClassVar[frozenset[str]] = frozenset({"Value"})

    name: Text = ""
    value: Scalar | None = None


class FlowNode(Given):
    """One step of the flow. `tier`, `timeout` and `max_attempts` override the def's, `env` adds to it; 0 attempts are
    as absent.
    """

    id: Text = ""
    uses: Text = ""
    inputs: list[FlowInput] = Field(default_factory=list)
    outputs: list[FlowOutput] = Field(default_factory=list)
    flags: list[FlowFlag] = Field(default_factory=list)
    command: Text | None = None
    timeout: Text | None = None
    tier: Text | None = None
    max_attempts: int = Field(default=0, ge=0, le=1000)
    env: Env = Field(default_factory=dict, max_length=256)


class EvalInput(Given):
    """What an evaluation gets on one of its input edges: the object of an edge of the judged run, or a value.

    `from_` is input, output or external; "" is told by what else is given.
    """

    EMPTY_IS_A_VALUE: ClassVar[frozenset[str]] = frozenset({"Value"})

    from_: Text = Field(default="", alias="From")
    edge: Text = ""
    value: JsonValue = None


class FlowEval(Given):
    """A flow that judges the runs of this one. `on` are the statuses of a run that is judged."""

    name: Text = ""
    flow: Text = ""
    auto_run: bool = True
    on: Strings = Field(default_factory=lambda: ["COMPLETE"])
    inputs: dict[str, EvalInput] = Field(default_factory=dict)


class Flow(Given):
    """A graph of container steps over files."""

    name: Text = Field(default="", max_length=200)
    timeout: Text | None = None
    parameters: list[FlowParameter] = Field(default_factory=list)
    stores: list[FlowStore] = Field(default_factory=list)
    default_data_well: DataWell | None = None
    data_wells: list[DataWell] = Field(default_factory=list)
    nodes: list[FlowNode] = Field(default_factory=list)
    fail_fast: bool = True
    evals: list[FlowEval] = Field(default_factory=list, max_length=64)
    allow_image_override: bool = False
