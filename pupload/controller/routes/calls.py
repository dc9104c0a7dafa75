"""The ways to run a flow: at once, waited for, streamed. Source: contract.md 8.2."""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic
from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel

from pupload.answers.evals import EvalAnswer
from pupload.answers.runs import AnsweredRun, FlowRun, OutputMap, RunEvent
from pupload.controller.calls import Call
from pupload.controller.routes.account import account_of
from pupload.controller.routes.answering import answer, path_part, read_bytes
from pupload.controller.routes.declaring import CREATE, READ, REPEATED, TRUTH, Answer, Asked, Body, Route, get, post
from pupload.controller.routes.events import TYPES, send_events, types_of
from pupload.controller.routes.reference import idempotency_key
from pupload.controller.routes.runs import run_id_of
from pupload.controller.state import Parts, parts_of
from pupload.errors import InvalidRequest, PuploadError
from pupload.flow.evals import mode_of
from pupload.flow.load import PostedRun, load_request, read_json
from pupload.flow.request import RunRequest
from pupload.run.state import RunID, RunStatus

_LOG = logging.getLogger(__name__)
_ENDED = {RunStatus.COMPLETE, RunStatus.ERROR, RunStatus.STOPPED}
RUN_ID = "X-Run-ID"
"""The header that names the new run, also where the body does not."""
GOING_DOWN = web.AppKey("going_down", asyncio.Event)
"""Set when the server stops: the calls that this ends were not given up by their callers."""

R = TypeVar("R", bound=RunRequest)
Begun = tuple[RunID, RunRequest]
Beginner = Callable[[web.Request], Awaitable[Begun]]


async def _begin(request: web.Request) -> Begun:
    """The new run of the flow that the path names."""
    parts, flow = parts_of(request), path_part(request, "flow")
    body = await read_bytes(request)
    wish = await _read(body, RunRequest)
    parts.calls.wait_s(wish)
    return await parts.calls.start(flow, wish, _call(request, flow.encode() + b"\0" + body)), wish


async def _begin_posted(request: web.Request) -> Begun:
    """The new run of the flow that the body brings."""
    parts = parts_of(request)
    body = await read_bytes(request)
    wish = await _read(body, PostedRun)
    parts.calls.wait_s(wish)
    return await parts.calls.start_posted(wish, _call(request, b"\0" + body)), wish


async def _read(body: bytes, kind: type[R]) -> R:
    # Large documents take long enough to hold up everybody else.
    return await asyncio.to_thread(lambda: load_request(read_json(body) if body.strip() else {}, kind))


def _call(request: web.Request, known_by: bytes) -> Call:
    return Call(account_of(request), idempotency_key(request), hashlib.sha256(known_by).digest())


def at_once(begin: Beginner) -> Callable[[web.Request], Awaitable[web.Response]]:
    """POST: 202 and the new run, which is stored by then."""

    async def start_run(request: web.Request) -> web.Response:
        run_id, _ = await begin(request)
        return _about(run_id, await parts_of(request).views.run(run_id), 202)

    return start_run


def waited_for(begin: Beginner) -> Callable[[web.Request], Awaitable[web.Response]]:
    """POST: 200 and the run with its outputs when it is over, 202 when the wait is."""

    async def run_and_wait(request: web.Request) -> web.Response:
        parts, cancel = parts_of(request), _yes(request, "cancel_on_disconnect")
        only_outputs = _yes(request, "output_only")
        begun = asyncio.ensure_future(begin(request))
        try:
            # A run that is just being stored when its caller hangs up must not get away.
            run_id, wish = await asyncio.shield(begun)
            until = monotonic() + parts.calls.wait_s(wish)
            await parts.calls.settle(run_id, until - monotonic())
            evals = await _evals(parts, run_id, wish, until - monotonic())
        except asyncio.CancelledError:
            if cancel and not request.app[GOING_DOWN].is_set():
                await asyncio.shield(asyncio.ensure_future(_cancel(parts, begun)))
            begun.cancel()
            raise
        return await _answered(parts, run_id, evals, only_outputs=only_outputs)

    return run_and_wait


async def _cancel(parts: Parts, begun: Awaitable[Begun]) -> None:
    try:
        run_id, _ = await begun
        await parts.service.cancel(run_id)
    except (PuploadError, OSError) as error:
        _LOG.warning("a caller hung up, and its run goes on or never was: %s", error)


async def _evals(parts: Parts, run_id: RunID, wish: RunRequest, wait_s: float) -> list[EvalAnswer]:
    """What the evaluations found by now, or, where the caller waits for them too, at their end."""
    waited = mode_of(wish.evals) == "block"
    return (await (parts.evaluations.settled(run_id, wait_s) if waited else parts.evaluations.of_run(run_id))).evals


async def _answered(parts: Parts, run_id: RunID, evals: list[EvalAnswer], *, only_outputs: bool) -> web.Response:
    run = await parts.views.run(run_id)
    outputs = await parts.outputs.of(run)
    if only_outputs and run.status == RunStatus.COMPLETE:
        return _about(run_id, OutputMap(outputs), 200)
    over = run.status in _ENDED or run.status_reason == "tool_calls"
    return _about(run_id, AnsweredRun.model_construct(**dict(run), outputs=outputs, evals=evals), 200 if over else 202)


def streamed(begin: Beginner) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """POST: the new run's events, until it is over."""

    async def run_and_follow(request: web.Request) -> web.StreamResponse:
        types = types_of(request)
        run_id, _ = await begin(request)
        return await send_events(request, run_id, types=types, headers={RUN_ID: run_id})

    return run_and_follow


async def get_outputs(request: web.Request) -> web.Response:
    """GET the outputs of a run that there are by now."""
    parts = parts_of(request)
    return answer(OutputMap(await parts.outputs.of(await parts.views.run(run_id_of(request)))))


def _yes(request: web.Request, name: str) -> bool:
    text = request.query.get(name, "false").lower()
    if text not in {"true", "1", "false", "0"}:
        raise InvalidRequest(f"{name} is true or false")
    return text in {"true", "1"}


def _about(run_id: RunID, document: BaseModel, status: int) -> web.Response:
    response = answer(document, status)
    response.headers[RUN_ID] = run_id
    return response


async def note_shutdown(app: web.Application) -> None:
    """From here on a call that ends was ended by the server."""
    app[GOING_DOWN].set()


_NAMED = {RUN_ID: "The run's ID."}
WAITING = (
    Asked("cancel_on_disconnect", "Cancels the run when the caller hangs up.", TRUTH),
    Asked("output_only", "Answers outputs by edge and nothing else, where the run is complete.", TRUTH),
)
AT_ONCE = {202: Answer("The new run, which is stored.", FlowRun, headers=_NAMED)}
WAITED_FOR = {
    200: Answer("The run is over: with its outputs, or these alone.", OutputMap, other=AnsweredRun, headers=_NAMED),
    202: Answer("The wait is over, the run goes on.", AnsweredRun, headers=_NAMED),
}
STREAMED = {200: Answer("The run's events, until it is over.", stream=RunEvent, headers=_NAMED)}


def three_ways(path: str, begin: Beginner, takes: Body, does: str, name: str) -> list[Route]:
    """The routes to have what `begin` begins at once, waited for, and streamed."""
    way = partial(post, takes=takes, refuses=(402, 404, 409, 410), scope=CREATE)
    sync, stream = (REPEATED, *WAITING), (REPEATED, *TYPES)
    return [
        way(path, at_once(begin), f"{does}: at once.", AT_ONCE, asks=(REPEATED,), name=name),
        way(f"{path}/sync", waited_for(begin), f"{does}: waited for.", WAITED_FOR, asks=sync, name=f"{name}_sync"),
        way(f"{path}/stream", streamed(begin), f"{does}: streamed.", STREAMED, asks=stream, name=f"{name}_stream"),
    ]


ROUTES = [
    *three_ways(
        "/api/v1/flows/{flow}/runs", _begin, Body(RunRequest, required=False), "Runs a flow by name", "run_flow"
    ),
    *three_ways(
        "/api/v1/runs", _begin_posted, Body(PostedRun), "Runs a flow that comes with the request", "run_posted"
    ),
    get("/api/v1/runs/{run}/outputs", get_outputs, "What came out by now, small text at once.", OutputMap, scope=READ),
]
