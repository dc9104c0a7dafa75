"""Runs: list, look, cancel, delete, upload, download."""

from aiohttp import web

from pupload.answers.runs import FlowRun, RunPage
from pupload.controller.routes.account import caller_of
from pupload.controller.routes.answering import answer, path_part, query_text, whole_number
from pupload.controller.routes.declaring import (
    BYTES,
    CREATE,
    NOTHING,
    PAGE,
    READ,
    Answer,
    Asked,
    delete,
    get,
    post,
    put,
)
from pupload.controller.state import parts_of
from pupload.controller.uploads import check_size
from pupload.db.runs import artifact_of
from pupload.db.sql import SQL
from pupload.errors import Gone, InvalidRequest, NotFound
from pupload.flow.mime import extension_for
from pupload.flow.plan import Edge
from pupload.run.state import RunID, RunStatus

_CHUNK = 1024 * 1024
_DOWNLOAD_S = 3600.0


def run_id_of(request: web.Request) -> RunID:
    """The run that the path names.

    Errors: NotFound for what can be no run's id.
    """
    return RunID(path_part(request, "run"))


async def list_runs(request: web.Request) -> web.Response:
    """GET ?flow&status&session&limit&cursor."""
    page = await parts_of(request).views.page(
        caller_of(request).sees,
        flow=query_text(request, "flow"),
        status=_statuses(query_text(request, "status")),
        session=query_text(request, "session"),
        cursor=query_text(request, "cursor"),
        limit=whole_number(request, "limit", 50, least=1, most=500),
    )
    return answer(page)


def _statuses(text: str | None) -> list[str] | None:
    if not text:
        return None
    asked = [part.strip().upper() for part in text.split(",")]
    if unknown := [part for part in asked if part not in RunStatus.__members__]:
        raise InvalidRequest(f"there is no status {unknown[0]!r}; there are {', '.join(RunStatus)}")
    return asked


async def get_run(request: web.Request) -> web.Response:
    """GET one run."""
    return answer(await shown_run(request))


async def shown_run(request: web.Request) -> FlowRun:
    """The run that the path names. Who may only look is not told where to put its inputs: to feed a run is to make it.

    Errors: NotFound.
    """
    run = await parts_of(request).views.run(run_id_of(request))
    if CREATE in caller_of(request).scopes:
        return run
    closed = [each.model_copy(update={"put_url": "", "post_url": ""}) for each in run.waiting_urls]
    return run.model_copy(update={"waiting_urls": closed})


async def delete_run(request: web.Request) -> web.Response:
    """DELETE an ended run with its objects."""
    await parts_of(request).removal.delete(run_id_of(request))
    return web.Response(status=204)


async def cancel_run(request: web.Request) -> web.Response:
    """POST: stop the run; twice, and after its end, is fine."""
    parts = parts_of(request)
    await parts.service.cancel(run_id_of(request))
    return answer(await parts.views.run(run_id_of(request)))


async def put_input(request: web.Request) -> web.Response:
    """PUT the bytes of an awaited edge, through the server."""
    await parts_of(request).uploads.put(
        run_id_of(request),
        Edge(path_part(request, "edge")),
        request.content.iter_chunked(_CHUNK),
        check_size(request.content_length),
        request.content_type,
    )
    return web.Response(status=204)


async def complete_upload(request: web.Request) -> web.Response:
    """POST: the client's upload is done."""
    parts = parts_of(request)
    await parts.uploads.complete(run_id_of(request), Edge(path_part(request, "edge")))
    return answer(await parts.views.run(run_id_of(request)))


async def get_artifact(request: web.Request) -> web.Response:
    """GET: a redirect to a fresh URL of the edge's object, to be saved under the edge's name."""
    parts, run_id, edge = parts_of(request), run_id_of(request), path_part(request, "edge")
    async with parts.service.database.connection() as connection:
        rows = await connection.fetch(SQL["artifacts_of_edges"], run_id, [edge])
    if not rows:
        await parts.views.has_ended(run_id)
        if await parts.removal.has_expired(run_id, Edge(edge)):
            raise Gone(f"the object of edge {edge!r} was kept for its well's Lifetime, which is over", code="EXPIRED")
        raise NotFound(f"run {run_id!r} has no artifact on edge {edge!r}", code="ARTIFACT_NOT_FOUND")
    store = await parts.stores.of_artifact(run_id, artifact_of(rows[0]))
    name = edge + extension_for(rows[0]["content_type"])
    url = store.sign_get(rows[0]["key"], _DOWNLOAD_S, public=True, download_name=name)
    return web.Response(status=302, headers={"Location": url, "Cache-Control": "no-store"})


_RUN = "/api/v1/runs/{run}"
_ASKED = (
    Asked("flow", "Those of one flow."),
    Asked("status", f"Those in one of these, by comma: {', '.join(RunStatus)}."),
    Asked("session", "Those of one session."),
)
_THERE = Answer("There is the object, for an hour.", headers={"Location": "Where it is."})

ROUTES = [
    get("/api/v1/runs", list_runs, "Runs, newest first.", RunPage, asks=(*_ASKED, *PAGE), scope=READ),
    get(_RUN, get_run, "The run.", FlowRun, scope=READ),
    delete(_RUN, delete_run, "Removes an ended run with its objects.", {204: NOTHING}, refuses=(409,), scope=CREATE),
    post(f"{_RUN}/cancel", cancel_run, "Stops the run; twice and after its end is fine.", FlowRun, scope=CREATE),
    put(
        f"{_RUN}/inputs/{{edge}}",
        put_input,
        "Takes an awaited file.",
        {204: NOTHING},
        takes=BYTES,
        refuses=(409,),
        scope=CREATE,
    ),
    post(
        f"{_RUN}/uploads/{{edge}}/complete",
        complete_upload,
        "Looks at once for an upload.",
        FlowRun,
        refuses=(409,),
        scope=CREATE,
    ),
    get(
        f"{_RUN}/artifacts/{{edge}}", get_artifact, "The object of an edge.", {302: _THERE}, refuses=(410,), scope=READ
    ),
]
