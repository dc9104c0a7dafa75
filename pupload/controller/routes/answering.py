"""Bodies in, answers and errors out: the one place where an exception becomes an HTTP status."""

import asyncio
import logging
import math
import uuid
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from pupload.controller.hooks import shown_path
from pupload.document import Document
from pupload.errors import (
    CallerError,
    Defect,
    InvalidFlow,
    InvalidRequest,
    Malformed,
    NotFound,
    PuploadError,
    TooLarge,
    TooMany,
    TooSlow,
    policy_of,
)
from pupload.flow.load import read_json
from pupload.flow.paths import json_path

_LOG = logging.getLogger(__name__)
_REFERENCE = "/api/v1/flow/"
_REFERENCE_RUN = "/api/v1/flow/status/"
_MOST_DIGITS = 20
_BODY_S = 300.0
"""However steadily it drips, a body of a few megabytes is here by then."""
_CODES = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 413: "TOO_LARGE"}

D = TypeVar("D", bound=Document)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def answer(document: BaseModel, status: int = 200) -> web.Response:
    """The document as a JSON answer."""
    body = document.model_dump_json(by_alias=True).encode()
    return web.Response(body=body, status=status, content_type="application/json")


async def read_body(request: web.Request) -> object:
    """The JSON value of the body.

    Errors: Malformed; TooLarge.
    """
    return read_json(await read_bytes(request))


async def read_bytes(request: web.Request) -> bytes:
    """The body.

    Errors: TooLarge; TooSlow.
    """
    try:
        async with asyncio.timeout(_BODY_S):
            return await request.read()
    except TimeoutError as error:
        raise TooSlow(f"the body was not here after {_BODY_S:g} seconds; send it faster") from error
    except web.HTTPRequestEntityTooLarge as error:
        raise TooLarge(f"a JSON body has at most {request._client_max_size} bytes") from error  # noqa: SLF001 - aiohttp has no other way to ask


async def read_document(request: web.Request, kind: type[D]) -> D:
    """The body as a document.

    Errors: Malformed; InvalidRequest with all problems.
    """
    try:
        return kind.model_validate(await read_body(request))
    except ValidationError as error:
        problems = [{"Path": json_path(e["loc"]), "Message": e["msg"]} for e in error.errors()]
        raise InvalidRequest("the body has the wrong shape", details=problems) from error


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers for errors, in the shape of the interface; every one carries the request's id."""
    request_id = uuid.uuid4().hex
    try:
        return await handler(request)
    except PuploadError as error:
        return _refusal(request, error, request_id)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        refused = CallerError(f"{error.reason}: {request.method} {request.path}", code=_CODES.get(error.status))
        return _render(request, refused, error.status, request_id, headers=_allow(error))
    except web.RequestPayloadError as error:
        broken = Malformed(f"the body cannot be read as its headers say: {' '.join(str(error).split())[:200]}")
        return _refusal(request, broken, request_id)
    except Exception as error:  # noqa: BLE001 - see below
        # The last line of defence: whatever it is, the client gets an answer, and we a trace.
        _LOG.exception("request %s %s %s failed", request_id, request.method, shown_path(request.path))
        return _refusal(request, Defect(f"an internal error; its id is {request_id}"), request_id, cause=error)


def _allow(error: web.HTTPException) -> dict[str, str]:
    return {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}


def _refusal(
    request: web.Request, error: PuploadError, request_id: str, cause: Exception | None = None
) -> web.Response:
    policy = policy_of(error)
    if cause is None:
        told = shown_path(request.path)
        _LOG.log(policy.level, "request %s %s %s: %s", request_id, request.method, told, error)
    if request.path.startswith(_REFERENCE_RUN) and isinstance(error, NotFound):
        # The exact text of the interface.
        return web.Response(status=400, text="Flow run does not exist.")
    status = policy.status
    if request.path.startswith(_REFERENCE) and isinstance(error, InvalidFlow | InvalidRequest | Malformed):
        status = 400
    return _render(request, error, status, request_id, headers=_retry_after(error))


def _retry_after(error: PuploadError) -> dict[str, str]:
    """In whole seconds, never too early. Source: RFC 9110, 10.2.3."""
    if isinstance(error, TooMany):
        return {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
    return {"Retry-After": "1"} if policy_of(error).retry else {}


def _render(
    request: web.Request, error: PuploadError, status: int, request_id: str, headers: dict[str, str]
) -> web.Response:
    body = {
        "Code": error.code,
        "Message": error.message,
        "Details": [each.wire() if isinstance(each, Document) else each for each in error.details],
        "RequestID": request_id,
    }
    member = "error" if request.path.startswith(_REFERENCE) else "Error"
    return web.json_response({member: body}, status=status, headers={"X-Request-ID": request_id, **headers})


def path_part(request: web.Request, name: str) -> str:
    """A variable part of the path.

    Errors: NotFound for a text that names nothing, because nothing can be stored under it.
    """
    part = request.match_info[name]
    if not can_be_stored(part):
        raise NotFound(f"there is no {name} {part!r}", code=f"{name.upper()}_NOT_FOUND")
    return part


def query_text(request: web.Request, name: str) -> str | None:
    """A query parameter; None when it is absent or empty.

    Errors: InvalidRequest for a text that nothing stored can hold.
    """
    text = request.query.get(name) or None
    if text is not None and not can_be_stored(text):
        raise InvalidRequest(f"{name} must be UTF-8 without NUL")
    return text


def can_be_stored(text: str) -> bool:
    """True when the database takes the text: UTF-8, and without NUL."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def whole_number(request: web.Request, name: str, default: int, *, least: int, most: int) -> int:
    """A query parameter as a number in range.

    Errors: InvalidRequest.
    """
    text = request.query.get(name, "")
    if not text:
        return default
    # More digits than any number in range has are not even read: that would take long.
    if not text.isascii() or not text.isdecimal() or len(text) > _MOST_DIGITS or not least <= int(text) <= most:
        raise InvalidRequest(f"{name} must be a number from {least} to {most}")
    return int(text)
