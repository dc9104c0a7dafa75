"""The worker's routes. Source: pupload/protocol.py."""

from aiohttp import web

from pupload.controller.claims import KnownWorker
from pupload.controller.routes.answering import answer, read_document
from pupload.controller.state import parts_of
from pupload.errors import Unauthorized
from pupload.protocol import Beat, Claim, Finish, Finished, Hello, Lines, Pin, Sign


async def _worker(request: web.Request) -> KnownWorker:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthorized("send the worker's token as `Authorization: Bearer …`")
    return await parts_of(request).claims.know(token)


async def hello(request: web.Request) -> web.Response:
    """POST Hello → Welcome."""
    worker = await _worker(request)
    return answer(await parts_of(request).claims.hello(worker, await read_document(request, Hello)))


async def claim(request: web.Request) -> web.Response:
    """POST Claim → Claimed, when there is work or the wait is over."""
    worker = await _worker(request)
    return answer(await parts_of(request).claims.claim(worker, await read_document(request, Claim)))


async def beat(request: web.Request) -> web.Response:
    """POST Beat → BeatAnswer, when there is news or the wait is over."""
    worker = await _worker(request)
    return answer(await parts_of(request).claims.beat(worker, await read_document(request, Beat)))


async def sign(request: web.Request) -> web.Response:
    """POST Sign → Signed."""
    await _worker(request)
    return answer(await parts_of(request).reports.sign(await read_document(request, Sign)))


async def image(request: web.Request) -> web.Response:
    """POST Pin → Pinned."""
    await _worker(request)
    return answer(await parts_of(request).reports.pin(await read_document(request, Pin)))


async def lines(request: web.Request) -> web.Response:
    """POST Lines → 204."""
    await _worker(request)
    await parts_of(request).reports.lines(await read_document(request, Lines))
    return web.Response(status=204)


async def finish(request: web.Request) -> web.Response:
    """POST Finish → Finished, with what the worker may take next."""
    worker = await _worker(request)
    parts = parts_of(request)
    finished = await read_document(request, Finish)
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
