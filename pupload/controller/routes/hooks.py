"""Webhook wells, as whoever feeds them sees them."""

from aiohttp import web

from pupload.controller.routes.answering import path_part
from pupload.controller.routes.declaring import BYTES, NOTHING, post
from pupload.controller.routes.runs import run_id_of
from pupload.controller.state import parts_of
from pupload.flow.plan import Edge

_CHUNK = 1024 * 1024


async def post_hook(request: web.Request) -> web.Response:
    """POST the bytes of an awaited edge: 204. A wrong token is 404, a second post 409."""
    hooks, run_id, edge = parts_of(request).hooks, run_id_of(request), Edge(path_part(request, "edge"))
    hooks.check(run_id, edge, path_part(request, "token"))
    chunks = request.content.iter_chunked(_CHUNK)
    await hooks.take(run_id, edge, chunks, _size(request), request.content_type)
    return web.Response(status=204)


def _size(request: web.Request) -> int | None:
    """The length of what can be read: a compressed body is unpacked on its way, so its own length says nothing."""
    return None if "Content-Encoding" in request.headers else request.content_length


ROUTES = [
    post(
        "/api/v1/hooks/{run}/{edge}/{token}",
        post_hook,
        "Takes the file of a webhook well; the path is the run's `PostURL`.",
        {204: NOTHING},
        takes=BYTES,
        refuses=(409,),
        open=True,
    )
]
