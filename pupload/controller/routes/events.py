"""A run's events and logs, whole and as they come. Source: contract.md 9; the SSE part of the HTML standard."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing

from aiohttp import hdrs, web
from aiohttp_sse import sse_response

from pupload.answers.runs import LogRecord, RunEvent
from pupload.controller.logs import NodeLogs
from pupload.controller.routes.answering import path_part, whole_number
from pupload.controller.routes.declaring import JSON, READ, TRUTH, Answer, Asked, get
from pupload.controller.routes.runs import run_id_of
from pupload.controller.signals import run_topic
from pupload.controller.state import Parts, parts_of
from pupload.document import Document
from pupload.errors import DatabaseUnavailable, InvalidRequest, NotFound, PuploadError
from pupload.run.commands import TERMINAL_RECORDS, RecordType
from pupload.run.state import RunID

_LOG = logging.getLogger(__name__)
_PAGE = 500
_PING_S = 15.0
_AGAIN_S = 0.5
_NO_END = 2**62
LOGS = web.AppKey("logs", NodeLogs)


class Logs(Document):
    """The log of a node, all attempts, in order."""

    logs: list[LogRecord]


async def run_events(request: web.Request) -> web.StreamResponse:
    """GET: every event after `Last-Event-ID` or `?after`, then those to come, up to the last one."""
    run_id, types, after = run_id_of(request), types_of(request), _after(request)
    await parts_of(request).views.has_ended(run_id)
    return await send_events(request, run_id, types=types, after=after)


async def send_events(
    request: web.Request,
    run_id: RunID,
    *,
    types: frozenset[str],
    after: int = 0,
    headers: Mapping[str, str] | None = None,
    last: Callable[[RunEvent], Awaitable[RunEvent]] | None = None,
) -> web.StreamResponse:
    """The run's events of these types, all where there are none, and its last one in any case, as `last` has it."""
    async with sse_response(
        request, sep="\n", ping_interval=_PING_S, headers=headers, allow_all_methods=True
    ) as response:
        async for told in follow(parts_of(request), run_id, after):
            is_last = told.type in TERMINAL_RECORDS
            if types and told.type not in types and not is_last:
                continue
            event = await last(told) if last and is_last else told
            await response.send(event.model_dump_json(by_alias=True), id=str(event.seq), event=event.type)
    stream: web.StreamResponse = response
    return stream


async def node_logs(request: web.Request) -> web.StreamResponse:
    """GET: the node's log; with `?follow=1` as events, until the run is over."""
    run_id, node, parts = run_id_of(request), path_part(request, "node"), parts_of(request)
    logs = request.app[LOGS]
    await logs.require(run_id, node)
    if request.query.get("follow", "0") not in {"1", "true"}:
        async with aclosing(logs.whole(run_id, node)) as pages:
            return await _whole_log(request, pages)
    async with sse_response(request, sep="\n", ping_interval=_PING_S) as response:
        async for event in follow(parts, run_id, _after(request)):
            if event.node_id == node and event.type == RecordType.NODE_LOG:
                await response.send(event.model_dump_json(by_alias=True), id=str(event.seq), event=event.type)
    stream: web.StreamResponse = response
    return stream


async def _whole_log(request: web.Request, pages: AsyncIterator[list[LogRecord]]) -> web.StreamResponse:
    """The lines as `Logs`, written as they are read."""
    # What cannot be read at all is told while it still can be.
    first: list[LogRecord] = await anext(pages, [])
    response = web.StreamResponse(headers={"Content-Type": JSON})
    await response.prepare(request)
    if request.method == hdrs.METH_GET:
        try:
            await response.write(b'{"Logs":[')
            parted = await _write_lines(response, first, parted=False)
            async for page in pages:
                parted = await _write_lines(response, page, parted=parted)
            await response.write(b"]}")
        except PuploadError as error:
            # An answer that looks whole must be whole.
            _LOG.warning("the log of run %s breaks off: %s", run_id_of(request), error)
            if request.transport is not None:
                request.transport.abort()
    return response


async def _write_lines(response: web.StreamResponse, lines: list[LogRecord], *, parted: bool) -> bool:
    """True when some were written by now."""
    if lines:
        await response.write(b"," * parted + await asyncio.to_thread(_as_json, lines))
    return parted or bool(lines)


def _as_json(lines: list[LogRecord]) -> bytes:
    return ",".join(line.model_dump_json(by_alias=True) for line in lines).encode()


async def follow(parts: Parts, run_id: RunID, after: int) -> AsyncIterator[RunEvent]:
    """The run's events from number `after` + 1, each once, in order, ending with the run."""
    idle = True
    with parts.signals.listen(run_topic(run_id)) as heard:
        while True:
            try:
                ended = idle and await parts.views.has_ended(run_id)
                events = await parts.views.events(run_id, after, _PAGE)
            except DatabaseUnavailable as error:
                # The answer has begun, so there is no refusing it; it goes on where it is when the database is back.
                _LOG.warning("followers of run %s wait for the database: %s", run_id, error)
                await asyncio.sleep(_AGAIN_S)
                continue
            except NotFound:
                # Removed while somebody still read it.
                return
            for event in events:
                after = event.seq
                yield event
            idle = not events
            if (events and events[-1].type in TERMINAL_RECORDS) or (ended and len(events) < _PAGE):
                return
            if len(events) < _PAGE:
                await parts.signals.wait(heard, _PING_S)


def _after(request: web.Request) -> int:
    last = request.headers.get("Last-Event-ID", "")
    if last.isascii() and last.isdecimal() and len(last) < 19:
        return int(last)
    return whole_number(request, "after", 0, least=0, most=_NO_END)


def types_of(request: web.Request) -> frozenset[str]:
    """The types that `?types=` names, or `?stream_events=`.

    Errors: InvalidRequest.
    """
    named = request.query.get("types") or request.query.get("stream_events", "")
    asked = frozenset(filter(None, named.split(",")))
    if unknown := asked - set(RecordType):
        raise InvalidRequest(f"there is no event type {min(unknown)!r}; there are {', '.join(RecordType)}")
    return asked


TYPES = (
    Asked("types", "Only events of these types, by comma, and the last one."),
    Asked("stream_events", "The same by another name."),
)
_AFTER = (
    Asked(
        "after", "The number of the last event that is known.", {"type": "integer", "minimum": 0, "maximum": _NO_END}
    ),
    Asked("Last-Event-ID", "The same, as browsers say it.", place="header"),
)
_FOLLOW = Asked("follow", "Events to come too, as a stream.", TRUTH)

ROUTES = [
    get(
        "/api/v1/runs/{run}/events",
        run_events,
        "The run's events, and those to come until its last.",
        {200: Answer("The events.", stream=RunEvent)},
        asks=(*TYPES, *_AFTER),
        scope=READ,
    ),
    get(
        "/api/v1/runs/{run}/nodes/{node}/logs",
        node_logs,
        "The log of a node.",
        {200: Answer("The lines; where they are followed, as events.", Logs, stream=RunEvent)},
        asks=(_FOLLOW, *_AFTER),
        scope=READ,
    ),
]
