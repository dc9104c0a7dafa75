"""The base of documents that users write, and the kinds of value in them. PURE.

What a rule reports as a finding survives parsing as plain text; only a wrong JSON shape is refused here.
"""

from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from pupload.document import Document
from pupload.flow.names import ENV_NAME
from pupload.units import parse_size


class Given(Document):
    """A document of the user's. A member that is null or "" is as absent: other languages' encoders write all."""

    EMPTY_IS_A_VALUE: ClassVar[frozenset[str]] = frozenset()
    """Members for which "" is not the same as absent."""

    @classmethod
    def _spelled(cls, given: dict[Any, Any], info: ValidationInfo) -> dict[str, Any]:
        spelled = super()._spelled(given, info)
        return {m: v for m, v in spelled.items() if v is not None and (v != "" or m in cls.EMPTY_IS_A_VALUE)}


def _text(value: object) -> object:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _scalar(value: object) -> object:
    if isinstance(value, str | int | float | bool):
        return value
    raise PydanticCustomError("scalar", "write a text, a number, true or false")


def _strings(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _size(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise PydanticCustomError("size", "write a size like 512mb or a number of bytes")
    size_bytes = parse_size(str(value))
    if size_bytes <= 0:
        raise PydanticCustomError("size", "a size must be above zero")
    return size_bytes


def _env(value: object) -> object:
    if not isinstance(value, dict):
        return value
    return {
        name: "" if v is None else flag_text(v) if isinstance(v, str | int | float) else v for name, v in value.items()
    }


def _env_names(env: dict[str, str]) -> dict[str, str]:
    bad = [name for name in env if not ENV_NAME.fullmatch(name)]
    if bad:
        raise PydanticCustomError("env", "{name} is no name of an environment variable", {"name": repr(bad[0])})
    return env


def flag_text(value: str | float) -> str:
    """`value` as a program reads it: true or false, whole numbers without a fraction.

    >>> flag_text(True), flag_text(800.0), flag_text(0.5), flag_text("a b")
    ('true', '800', '0.5', 'a b')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value)


MAX_TEXT = 2048
"""Longest name, key or duration: far beyond any use, and short enough to be repeated in a thousand messages."""

Text = Annotated[str, BeforeValidator(_text), Field(max_length=MAX_TEXT)]
"""Text; a number is taken as its text, so that a rule can say what is wrong with it."""

Scalar = Annotated[str | int | float | bool, BeforeValidator(_scalar)]
"""The value of a flag."""

Strings = Annotated[list[str], BeforeValidator(_strings)]
"""A list of texts; one text alone is a list of one."""

Size = Annotated[int, BeforeValidator(_size)]
"""Bytes, written as `512mb` or as a number."""

Env = Annotated[dict[str, str], BeforeValidator(_env), AfterValidator(_env_names)]
"""Environment variables; numbers, true and false are taken as their text."""
