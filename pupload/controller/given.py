"""What a value among a request's inputs is: the content itself, or a word on where it is. PURE."""

import binascii
import json
import re
from base64 import b64decode
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from pydantic import JsonValue, ValidationError

from pupload.document import fold
from pupload.errors import InvalidRequest
from pupload.flow.mime import UNKNOWN, is_concrete, is_known, matches, normal
from pupload.flow.request import FileInput

_DATA = re.compile(
    r"data:(?P<type>[^;,]*)(?P<options>(?:;[^;,]*)*?)(?P<base64>;base64)?,(?P<data>.*)", re.DOTALL | re.IGNORECASE
)
_FILE = re.compile(r"file://(?P<id>file_[0-9a-f]+)", re.IGNORECASE)
_MEMBERS = frozenset({"uri", "url", "name"})


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes themselves. `told` is the type that came with them, "" for none."""

    content: bytes
    told: str


@dataclass(frozen=True, slots=True)
class AtURL:
    """A file somewhere else."""

    url: str


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file that was sent to `/files` before."""

    file_id: str


GivenInput = Content | AtURL | KeptFile


def read_input(value: JsonValue) -> GivenInput:
    """What the value of one edge says.

    An object whose only members are `Uri` (or `Url`) and perhaps `Name`, all texts, tells where a file is. Any other
    object is a JSON document like every other value that is no text.
    Errors: InvalidRequest.
    """
    if isinstance(value, str):
        return Content(value.encode(), "text/plain")
    if isinstance(value, dict) and _tells_where(value):
        return _at(_place(value).uri)
    return Content(json.dumps(value, ensure_ascii=False).encode(), "application/json")


def _tells_where(value: dict[str, JsonValue]) -> bool:
    members = {fold(name) for name in value}
    located = len(members & {"uri", "url"}) == 1 and len(members) == len(value) and members <= _MEMBERS
    return located and all(_is_text(name, each) for name, each in value.items())


def _is_text(member: str, value: JsonValue) -> bool:
    return value is None or isinstance(value, str) if fold(member) == "name" else isinstance(value, str) and value != ""


def _place(value: dict[str, JsonValue]) -> FileInput:
    try:
        return FileInput.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidRequest(f"Inputs: a file's {first['loc'][0]} cannot be read: {first['msg']}") from error


def _at(uri: str) -> GivenInput:
    scheme = uri.partition(":")[0].lower()
    if scheme == "data":
        return read_data_uri(uri)
    if scheme != "file":
        return AtURL(uri)
    found = _FILE.fullmatch(uri)
    if found is None:
        raise InvalidRequest(
            f"{uri[:100]!r}: write file:// and the ID that POST /files answered", code="FILE_NOT_FOUND"
        )
    return KeptFile(found["id"].lower())


def read_data_uri(uri: str) -> Content:
    """The bytes in a `data:` URI, and the type that it says.

    >>> read_data_uri("data:image/x-mine;base64,YWJj")
    Content(content=b'abc', told='image/x-mine')

    Errors: InvalidRequest `DATA_URI_INVALID`. Source: RFC 2397.
    """
    found = _DATA.fullmatch(uri)
    if found is None:
        raise _bad_data("write it as data:<type>;base64,<bytes>")
    told = found["type"].strip() or "text/plain"
    if not (is_known(told) and is_concrete(told)):
        raise _bad_data(f"{told!r} is no media type")
    data = unquote_to_bytes(found["data"])
    try:
        return Content(b64decode(data, validate=True) if found["base64"] else data, told)
    except binascii.Error as error:
        raise _bad_data(f"its base64 is not good: {error}") from error


def _bad_data(why: str) -> InvalidRequest:
    return InvalidRequest(f"a data: URI cannot be read: {why}", code="DATA_URI_INVALID")


def agreed_type(found: str, told: str) -> str:
    """The type of bytes that were sniffed as `found`: what was told of them, where the bytes do not contradict it.

    >>> agreed_type("text/plain", "text/csv; charset=utf-8"), agreed_type("image/png", "image/jpeg")
    ('text/csv', 'image/png')
    """
    bare = normal(told)
    credible = is_known(bare) and is_concrete(bare) and bare != UNKNOWN
    return bare if credible and matches(found, [bare]) else found
