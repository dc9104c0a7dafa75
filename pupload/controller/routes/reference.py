"""The two routes of the reference interface, exactly. Source: contract.md 8.1."""

import asyncio
import hashlib
import logging

from aiohttp import web

from pupload.answers.runs import FlowRun
from pupload.controller.routes.account import account_of
from pupload.controller.routes.answering import answer, can_be_stored
from pupload.controller.routes.declaring import CREATE, READ, REPEATED, Answer, Body, get, post
from pupload.controller.routes.runs import shown_run
from pupload.controller.state import parts_of
from pupload.controller.submission import Definition, Start
from pupload.errors import InvalidRequest, TooLarge
from pupload.flow.load import FlowDocuments, load_documents, read_json

_LOG = logging.getLogger(__name__)
_MOST_KEY = 255


async def test_flow(request: web.Request) -> web.Response:
    """POST {Flow, NodeDefs}: the run that was made of them, at once."""
    parts = parts_of(request)
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise TooLarge(f"the body has more than {parts.config.max_body_bytes} bytes") from error
    # Large documents take long enough to hold up everybody else.
    flow, defs, ignored = await asyncio.to_thread(lambda: load_documents(read_json(body), lenient=True))
    if ignored:
        _LOG.warning("ignored unknown members: %s", ", ".join(ignored[:20]))
    key = idempotency_key(request)
    start = Start(
        Definition(flow, await parts.flows.complete(account_of(request), flow, defs)),
        account=account_of(request),
        idempotency_key=key,
        sha256=hashlib.sha256(body).digest(),
    )
    run_id = await parts.submission.start(start)
    return answer(await parts.views.run(run_id))


async def flow_status(request: web.Request) -> web.Response:
    """GET: the run."""
    return answer(await shown_run(request))


def idempotency_key(request: web.Request) -> str | None:
    """The header's value in the form in which it is stored: no other caller's, and none that the server makes itself.

    Errors: InvalidRequest when it is too long, or no text.
    """
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (0 < len(key) <= _MOST_KEY and can_be_stored(key)):
        raise InvalidRequest(f"Idempotency-Key has 1 to {_MOST_KEY} characters of UTF-8")
    return f"{account_of(request)}/{key}" if key is not None else None


ROUTES = [
    post(
        "/api/v1/flow/test",
        test_flow,
        "Makes a run of a flow. Unknown members are left alone.",
        FlowRun,
        takes=Body(FlowDocuments),
        asks=(REPEATED,),
        refuses=(402, 409),
        scope=CREATE,
    ),
    get(
        "/api/v1/flow/status/{run}",
        flow_status,
        "The run.",
        {200: Answer("The run.", FlowRun), 400: Answer("There is no such run.", media="text/plain")},
        scope=READ,
    ),
]
