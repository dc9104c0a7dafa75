"""Files kept for runs to come: take, list, give, remove."""

import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import cast

from aiohttp import BodyPartReader, MultipartReader, StreamReader, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.multipart import content_disposition_filename, parse_content_disposition

from pupload.answers.uploads import FileAnswer, FilePage
from pupload.controller.files import File, Label
from pupload.controller.routes.account import account_of, caller_of
from pupload.controller.routes.answering import answer, path_part, query_text, whole_number
from pupload.controller.routes.declaring import ANYTHING, FILES, NOTHING, PAGE, Answer, Asked, Body, delete, get, post
from pupload.controller.spool import Spool, a_spool
from pupload.controller.state import parts_of
from pupload.errors import InvalidRequest, Malformed, StoreUnavailable
from pupload.stores.saving import attachment

_LOG = logging.getLogger(__name__)
_PIECE_BYTES = 1024 * 1024
_FORM = "multipart/form-data"
_FIELDS = "application/x-www-form-urlencoded"
_MOST_LINES = 500
"""Of a form beside its file: boundaries, heads, and what stands where nothing should. They are read one by one."""


async def post_file(request: web.Request) -> web.Response:
    """POST a file: the body itself, or the one file of a form. What has no length yet is counted on the disk first."""
    files, account, label = parts_of(request).files, account_of(request), _label_of(request)
    limit = parts_of(request).config.max_upload_bytes
    if request.content_type != _FORM and request.content_length is not None:
        pieces = request.content.iter_chunked(_PIECE_BYTES)
        return answer(_told(await files.add(account, label, pieces, request.content_length)), status=201)
    async with a_spool() as spool:
        if request.content_type == _FORM:
            label = await _read_form(request, spool, limit, label.name)
        else:
            await spool.fill(request.content.iter_chunked(_PIECE_BYTES), limit)
        return answer(_told(await files.add_spooled(account, label, spool)), status=201)


def _label_of(request: web.Request) -> Label:
    _, told = parse_content_disposition(request.headers.get(hdrs.CONTENT_DISPOSITION))
    name = query_text(request, "name") or content_disposition_filename(told) or ""
    # curl says this of every body that it is not told the type of.
    return Label(name, "" if request.content_type == _FIELDS else request.content_type)


async def _read_form(request: web.Request, spool: Spool, limit_bytes: int, name: str) -> Label:
    """What the form says of the one file, which is in `spool` then; `name` wins."""
    found: Label | None = None
    try:
        async for part in MultipartReader(request.headers, cast("StreamReader", _FewLines(request.content))):
            if not isinstance(part, BodyPartReader) or part.filename is None:
                continue
            if found is not None:
                raise InvalidRequest("send one file at a time", code="ONE_FILE")
            found = Label(name or part.filename, part.headers.get(hdrs.CONTENT_TYPE, ""))
            await spool.fill(_pieces(part), limit_bytes)
    except (ValueError, RuntimeError, HttpProcessingError) as error:
        # What the library finds wrong with a form has no class of its own.
        raise Malformed(f"the body is no {_FORM}: {error}") from error
    if found is None:
        raise InvalidRequest("the form has no file: send one part with a filename", code="ONE_FILE")
    return found


class _FewLines:
    """A body of not too many lines, but for what is read of it in pieces."""

    def __init__(self, content: StreamReader) -> None:
        self._content, self._left = content, _MOST_LINES

    async def readline(self, **how: int) -> bytes:
        """The next line.

        Errors: ValueError after too many.
        """
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"more than {_MOST_LINES} lines of it are no file")
        return await self._content.readline(**how)

    def __getattr__(self, name: str) -> object:
        return getattr(self._content, name)


async def _pieces(part: BodyPartReader) -> AsyncIterator[bytes]:
    while piece := await part.read_chunk(_PIECE_BYTES):
        yield piece


async def list_files(request: web.Request) -> web.Response:
    """GET ?limit&cursor: files, newest first."""
    limit = whole_number(request, "limit", 50, least=1, most=500)
    found = await parts_of(request).files.page(caller_of(request).sees, query_text(request, "cursor"), limit + 1)
    page = FilePage(files=[_told(file) for file in found[:limit]])
    return answer(page.model_copy(update={"next_cursor": found[limit - 1].id}) if len(found) > limit else page)


async def get_file(request: web.Request) -> web.StreamResponse:
    """GET the bytes, to be saved: a browser must never show what a stranger sent as if it were ours."""
    files = parts_of(request).files
    file = await files.find(account_of(request), path_part(request, "file"))
    response = web.StreamResponse(
        headers={
            "Content-Type": file.content_type,
            "Content-Disposition": attachment(file.name),
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'; sandbox",
        }
    )
    response.content_length = file.size_bytes
    if request.method != hdrs.METH_GET:
        return response
    async with aclosing(files.read(file)) as pieces:
        # A store that does not answer is told while it still can be.
        first = await anext(pieces, b"")
        await response.prepare(request)
        await response.write(first)
        await _pass_on(request, response, pieces)
    return response


async def _pass_on(request: web.Request, response: web.StreamResponse, pieces: AsyncIterator[bytes]) -> None:
    try:
        async for piece in pieces:
            await response.write(piece)
        await response.write_eof()
    except StoreUnavailable as error:
        # An answer that says so would become part of the file.
        _LOG.warning("%s", error)
        if request.transport is not None:
            request.transport.abort()


async def delete_file(request: web.Request) -> web.Response:
    """DELETE: nobody can name it any more."""
    await parts_of(request).files.remove(account_of(request), path_part(request, "file"))
    return web.Response(status=204)


def _told(file: File) -> FileAnswer:
    return FileAnswer(
        id=file.id,
        uri=f"file://{file.id}",
        name=file.name,
        size=file.size_bytes,
        content_type=file.content_type,
        sha256=file.sha256,
        created_at=file.created_at,
    )


_NAME = Asked("name", "What it is called; else what the form or `Content-Disposition` says.")
_FILE = "/api/v1/files/{file}"

ROUTES = [
    post(
        "/api/v1/files",
        post_file,
        "Keeps a file for runs to come: the body, or the one file of a form.",
        {201: Answer("The file.", FileAnswer)},
        takes=Body(form=True),
        asks=(_NAME,),
        scope=FILES,
    ),
    get("/api/v1/files", list_files, "Files, newest first.", FilePage, asks=PAGE, scope=FILES),
    get(
        _FILE,
        get_file,
        "The bytes of a file.",
        {200: Answer("The bytes, as an attachment.", media=ANYTHING)},
        scope=FILES,
    ),
    delete(_FILE, delete_file, "Nobody can name the file any more.", {204: NOTHING}, scope=FILES),
]
