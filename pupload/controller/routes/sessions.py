"""Sessions: make, look, list, remove."""

from aiohttp import web

from pupload.answers.sessions import SessionAnswer, SessionPage
from pupload.controller.routes.account import account_of, caller_of
from pupload.controller.routes.answering import answer, path_part, query_text, read_body, whole_number
from pupload.controller.routes.declaring import CREATE, LIMIT, NOTHING, PAGE, READ, Answer, Body, delete, get, post
from pupload.controller.sessions import LAST_RUNS
from pupload.controller.state import parts_of
from pupload.flow.load import load_request
from pupload.flow.session import SessionRequest


async def create_session(request: web.Request) -> web.Response:
    """POST {Variables}: a session by itself, for runs to come."""
    wish = load_request(await read_body(request) if request.can_read_body else {}, SessionRequest)
    return answer(await parts_of(request).sessions.create(wish.variables, account_of(request)), status=201)


async def list_sessions(request: web.Request) -> web.Response:
    """GET ?limit&cursor: sessions, newest first."""
    page = await parts_of(request).sessions.page(
        caller_of(request).sees, query_text(request, "cursor"), whole_number(request, "limit", 50, least=1, most=500)
    )
    return answer(page)


async def get_session(request: web.Request) -> web.Response:
    """GET ?limit: one session with its newest runs."""
    limit = whole_number(request, "limit", LAST_RUNS, least=1, most=500)
    session = await parts_of(request).sessions.get(path_part(request, "session"), account_of(request), limit)
    return answer(session)


async def delete_session(request: web.Request) -> web.Response:
    """DELETE the session with its folder."""
    await parts_of(request).sessions.remove(path_part(request, "session"), account_of(request))
    return web.Response(status=204)


_SESSION = "/api/v1/sessions/{session}"

ROUTES = [
    post(
        "/api/v1/sessions",
        create_session,
        "Makes a session, for runs to come.",
        {201: Answer("The session.", SessionAnswer)},
        takes=Body(SessionRequest, required=False),
        scope=CREATE,
    ),
    get("/api/v1/sessions", list_sessions, "Sessions, newest first.", SessionPage, asks=PAGE, scope=READ),
    get(
        _SESSION,
        get_session,
        "A session with its newest runs and their messages.",
        SessionAnswer,
        asks=(LIMIT,),
        scope=READ,
    ),
    delete(
        _SESSION, delete_session, "Removes a session with its folder.", {204: NOTHING}, refuses=(409,), scope=CREATE
    ),
]
