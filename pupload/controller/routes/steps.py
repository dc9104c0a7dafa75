"""A flow taken step by step. Source: contract.md 8.2; docs/stepping.md."""

import asyncio
import hashlib

from aiohttp import web

from pupload.answers.runs import RunEvent
from pupload.controller.calls import Call
from pupload.controller.routes.account import account_of
from pupload.controller.routes.answering import path_part, read_bytes
from pupload.controller.routes.calls import RUN_ID
from pupload.controller.routes.declaring import CREATE, REPEATED, Answer, Body, post
from pupload.controller.routes.events import TYPES, send_events, types_of
from pupload.controller.routes.reference import idempotency_key
from pupload.controller.state import parts_of
from pupload.flow.load import load_request, read_json
from pupload.flow.request import StepRequest


async def take_step(request: web.Request) -> web.StreamResponse:
    """POST: the events of the step's run; the last one says where the loop pauses, or how it ended."""
    steps, flow, types = parts_of(request).steps, path_part(request, "flow"), types_of(request)
    body = await read_bytes(request)
    wish = await asyncio.to_thread(lambda: load_request(read_json(body) if body.strip() else {}, StepRequest))
    digest = hashlib.sha256(b"step\0" + flow.encode() + b"\0" + body).digest()
    step = await steps.start(flow, wish, Call(account_of(request), idempotency_key(request), digest))
    return await send_events(
        request,
        step.run_id,
        types=types,
        headers={RUN_ID: step.run_id},
        last=lambda event: steps.last_event(step, event),
    )


ROUTES = [
    post(
        "/api/v1/flows/{flow}/runs/step",
        take_step,
        "One node of a flow; the client holds the outputs.",
        {200: Answer("The step's events; the last says where the loop pauses, or how it ended.", stream=RunEvent)},
        takes=Body(StepRequest, required=False),
        asks=(REPEATED, *TYPES),
        refuses=(402, 409, 410),
        scope=CREATE,
    )
]
