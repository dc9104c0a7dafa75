"""The node definition: what an image needs and gives, and how it is run. PURE.

Source: contract.md 1.
"""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from pupload.flow.given import Env, Given, Scalar, Strings, Text
from pupload.flow.names import PORT_NAME
from pupload.flow.plan import Reason

ANY_TYPE = "*/*"
MAX_PORTS = 10_000
"""Ports a side; like the other bounds here, it keeps what each of 10,000 nodes takes from its def small."""


class FlagType(StrEnum):
    """What a flag's value must be."""

    STRING = "string"
    INT = "int"
    FLOAT = "float"
    BOOL = "bool"


_FLAG_TYPE_ALIASES = {"str": "string", "text": "string", "integer": "int", "number": "float", "boolean": "bool"}


def _flag_type(value: object) -> object:
    text = value.lower() if isinstance(value, str) else value
    return _FLAG_TYPE_ALIASES.get(text, text) if isinstance(text, str) else text


def _port_name(name: str) -> str:
    if PORT_NAME.fullmatch(name):
        return name
    raise PydanticCustomError(
        "name", "a name has letters, digits, '_', '-' and '.', at most 128, and begins with none of the last two"
    )


PortName = Annotated[str, AfterValidator(_port_name)]
RetryReason = Literal["exit", "oom", "timeout", "image", "transfer", "lost"]


class PortDef(Given):
    """A port. `type` are MIME types; absent means any."""

    name: PortName
    description: str = ""
    required: bool = True
    type: Strings = Field(max_length=64, default_factory=lambda: [ANY_TYPE])


class InputDef(PortDef):
    """A file that the program reads."""


class OutputDef(PortDef):
    """A file that the program writes."""


class FlagDef(Given):
    """A value that the program takes."""

    EMPTY_IS_A_VALUE: ClassVar[frozenset[str]] = frozenset({"Default"})

    name: PortName
    description: str = ""
    required: bool = False
    type: Annotated[FlagType, BeforeValidator(_flag_type)] = FlagType.STRING
    default: Scalar | None = None


class CommandDef(Given):
    """A way to run the image. `exec` is split by POSIX shell quoting; `${name}` is a port's path or a flag's value."""

    name: Text = ""
    description: str = ""
    exec: str = Field(default="", max_length=16_384)


class RetryDef(Given):
    """How failed tries are repeated. `on` absent: every reason that may be repeated; empty: none."""

    delay: Text | None = None
    max_delay: Text | None = None
    on: list[RetryReason] | None = None

    def reasons(self) -> frozenset[Reason] | None:
        """The reasons of `on`; a lost attempt is repeated in any case and so left out."""
        return None if self.on is None else frozenset(Reason(r) for r in self.on) - {Reason.LOST}


class NodeDef(Given):
    """A kind of node: an image with its ports, flags and commands."""

    publisher: Text = ""
    name: Text
    version: Text = ""
    description: str = ""
    image: str = ""
    inputs: list[InputDef] = Field(default_factory=list, max_length=MAX_PORTS)
    outputs: list[OutputDef] = Field(default_factory=list, max_length=MAX_PORTS)
    flags: list[FlagDef] = Field(default_factory=list, max_length=256)
    command: CommandDef | None = None
    commands: list[CommandDef] = Field(default_factory=list, max_length=64)
    tier: Text | None = None
    max_attempts: int = Field(default=0, ge=0, le=1000)
    retry: RetryDef = Field(default_factory=RetryDef)
    timeout: Text | None = None
    network: Literal["none", "egress"] = "none"
    user: Text | None = None
    env: Env = Field(default_factory=dict, max_length=256)
    access: Literal["files", "urls"] = "files"
    session: bool = True
    attachments: bool = False
    allow_tools: bool = False
    tool_exit_code: int = Field(default=85, ge=1, le=255)

    @model_validator(mode="after")
    def _urls_need_a_network(self) -> Self:
        if self.access == "urls" and self.network == "none":
            raise PydanticCustomError(
                "access", "Access urls needs Network egress: the container fetches its files itself"
            )
        return self

    @property
    def reference(self) -> str:
        """`publisher/name`, as a node's `Uses` says it without a version."""
        return f"{self.publisher}/{self.name}" if self.publisher else self.name

    @property
    def all_commands(self) -> list[CommandDef]:
        """Every command that runs something, the default one first."""
        return [c for c in (self.command, *self.commands) if c is not None and c.exec.strip()]
