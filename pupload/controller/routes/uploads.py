"""Uploads in parts: begin, ask where to put parts, see what is there, complete or abort."""

from aiohttp import web
from pydantic import Field

from pupload.answers.runs import FlowRun
from pupload.answers.uploads import PartAnswer, SignedPart, SignedParts, UploadAnswer
from pupload.controller.multipart import UploadSession
from pupload.controller.routes.answering import answer, path_part, read_document
from pupload.controller.routes.declaring import CREATE, NOTHING, READ, Answer, Body, delete, get, post
from pupload.controller.routes.runs import run_id_of
from pupload.controller.state import Parts, parts_of
from pupload.flow.given import Given, Size, Text
from pupload.flow.plan import Edge

_MOST_SIGNED = 100


class UploadWish(Given):
    """What is to be uploaded in parts."""

    size: Size
    part_size: Size | None = None
    content_type: Text = Field(default="", max_length=255, pattern=r"^[!-~ ]*$")


class PartNumbers(Given):
    """The parts that URLs are asked for."""

    numbers: list[int] = Field(min_length=1, max_length=_MOST_SIGNED)


async def begin_upload(request: web.Request) -> web.Response:
    """POST {Size, PartSize?, ContentType?}: a session for an awaited edge."""
    wish = await read_document(request, UploadWish)
    parts = parts_of(request)
    session = await parts.multiparts.begin(
        run_id_of(request), Edge(path_part(request, "edge")), wish.size, wish.part_size, wish.content_type
    )
    return answer(_shown(session, []), status=201)


async def get_upload(request: web.Request) -> web.Response:
    """GET the session with the parts that are there."""
    parts, session = await _session(request)
    return answer(await _seen(parts, session))


async def sign_parts(request: web.Request) -> web.Response:
    """POST {Numbers}: fresh URLs to PUT these parts to."""
    wish = await read_document(request, PartNumbers)
    parts, session = await _session(request)
    signed = await parts.multiparts.sign(session, wish.numbers)
    ttl = int(parts.config.upload_ttl_s)
    urls = [
        SignedPart(number=number, size=session.part_bytes(number), put_url=each.url, ttl=ttl)
        for number, each in signed.items()
    ]
    return answer(SignedParts(parts=urls))


async def complete_upload(request: web.Request) -> web.Response:
    """POST: all parts are there, make them the edge's object. Right when repeated."""
    parts, session = await _session(request)
    await parts.multiparts.complete(session)
    return answer(await parts.views.run(session.run_id))


async def abort_upload(request: web.Request) -> web.Response:
    """DELETE the session with its parts; one that has ended stays as it is."""
    parts, session = await _session(request)
    await parts.multiparts.abort(session)
    return web.Response(status=204)


async def _session(request: web.Request) -> tuple[Parts, UploadSession]:
    parts = parts_of(request)
    edge, upload = Edge(path_part(request, "edge")), path_part(request, "upload")
    return parts, await parts.multiparts.find(run_id_of(request), edge, upload)


async def _seen(parts: Parts, session: UploadSession) -> UploadAnswer:
    there = await parts.multiparts.parts(session)
    return _shown(session, [PartAnswer(number=part.number, size=part.size_bytes) for part in there])


def _shown(session: UploadSession, there: list[PartAnswer]) -> UploadAnswer:
    return UploadAnswer(
        id=session.id,
        run_id=session.run_id,
        edge_name=session.edge,
        status="aborted" if session.is_aborted else session.state,
        size=session.size_bytes,
        part_size=session.part_size_bytes,
        part_count=session.part_count,
        content_type=session.multipart.content_type,
        parts=there,
        created_at=session.created_at,
        expires_at=session.expires_at,
    )


_UPLOADS = "/api/v1/runs/{run}/uploads/{edge}"
_UPLOAD = f"{_UPLOADS}/{{upload}}"

ROUTES = [
    post(
        _UPLOADS,
        begin_upload,
        "Begins an upload in parts.",
        {201: Answer("The upload.", UploadAnswer)},
        takes=Body(UploadWish),
        refuses=(409,),
        scope=CREATE,
    ),
    get(_UPLOAD, get_upload, "The upload with the parts that are there.", UploadAnswer, scope=READ),
    delete(
        _UPLOAD, abort_upload, "Aborts the upload; one that has ended stays as it is.", {204: NOTHING}, scope=CREATE
    ),
    post(
        f"{_UPLOAD}/parts",
        sign_parts,
        "Fresh URLs to PUT these parts to.",
        SignedParts,
        takes=Body(PartNumbers),
        refuses=(409,),
        scope=CREATE,
    ),
    post(
        f"{_UPLOAD}/complete",
        complete_upload,
        "Makes the parts the edge's object. Right when repeated.",
        FlowRun,
        refuses=(409,),
        name="complete_upload_in_parts",
        scope=CREATE,
    ),
]
