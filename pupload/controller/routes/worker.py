"""The worker's routes. Source: pupload/protocol.py."""

from typing import TypeVar

from aiohttp import web

from pupload.controller.leasing import KnownWorker
from pupload.controller.lines import record_lines
from pupload.controller.routes.answering import answer, read_document
from pupload.controller.state import parts_of
from pupload.document import Document
from pupload.errors import Unauthorized
from pupload.protocol import Beat, Claim, Finish, Finished, Hello, Lines, Pin, Sign

_MOST_BYTES = 64 * 1024**2
"""Of one message: the end of an attempt with ten thousand outputs and all its lines. Users' limit is not workers'."""

D = TypeVar("D", bound=Document)


async def _told(request: web.Request, kind: type[D]) -> D:
    return await read_document(request.clone(client_max_size=_MOST_BYTES), kind)


async def _worker(request: web.Request) -> KnownWorker:
    """Who calls. Wrong tokens are counted as wrong keys are: nobody may let the database look for them for ever."""
    parts, remote = parts_of(request), request.remote or ""
    with parts.limits.counting_wrong_keys(remote):
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthorized("send the worker's token as `Authorization: Bearer …`")
        return await parts.claims.know(token, parts.limits.turn(remote))


async def hello(request: web.Request) -> web.Response:
    """POST Hello → Welcome."""
    worker = await _worker(request)
    return answer(await parts_of(request).claims.hello(worker, await _told(request, Hello)))


async def claim(request: web.Request) -> web.Response:
    """POST Claim → Claimed, when there is work or the wait is over."""
    worker = await _worker(request)
    return answer(await parts_of(request).claims.claim(worker, await _told(request, Claim)))


async def beat(request: web.Request) -> web.Response:
    """POST Beat → BeatAnswer, when there is news or the wait is over."""
    worker = await _worker(request)
    return answer(await parts_of(request).claims.beat(worker, await _told(request, Beat)))


async def sign(request: web.Request) -> web.Response:
    """POST Sign → Signed."""
    await _worker(request)
    return answer(await parts_of(request).presigning.sign(await _told(request, Sign)))


async def image(request: web.Request) -> web.Response:
    """POST Pin → Pinned."""
    await _worker(request)
    return answer(await parts_of(request).reports.pin(await _told(request, Pin)))


async def lines(request: web.Request) -> web.Response:
    """POST Lines → 204."""
    await _worker(request)
    await record_lines(parts_of(request).service.database, await _told(request, Lines))
    return web.Response(status=204)


async def finish(request: web.Request) -> web.Response:
    """POST Finish → Finished, with what the worker may take next."""
    worker = await _worker(request)
    parts = parts_of(request)
    finished = await _told(request, Finish)
    await parts.reports.finish(finished)
    taken = await parts.claims.follow_up(worker, finished.next) if finished.next else []
    return answer(Finished(assignments=taken))


ROUTES = [
    web.post("/api/v1/worker/hello", hello),
    web.post("/api/v1/worker/claim", claim),
    web.post("/api/v1/worker/beat", beat),
    web.post("/api/v1/worker/image", image),
    web.post("/api/v1/worker/sign", sign),
    web.post("/api/v1/worker/logs", lines),
    web.post("/api/v1/worker/finish", finish),
]
