"""A new run of what an earlier run was. Source: contract.md 8.2, `/replay`."""

import asyncio
import hashlib

from aiohttp import web

from pupload.controller.calls import Call
from pupload.controller.routes.account import account_of
from pupload.controller.routes.answering import read_bytes
from pupload.controller.routes.calls import Begun, three_ways
from pupload.controller.routes.declaring import Body
from pupload.controller.routes.reference import idempotency_key
from pupload.controller.routes.runs import run_id_of
from pupload.controller.state import parts_of
from pupload.flow.load import load_request, read_json
from pupload.flow.request import ReplayRequest


async def _begin(request: web.Request) -> Begun:
    """The new run of the run that the path names."""
    parts, run_id = parts_of(request), run_id_of(request)
    body = await read_bytes(request)
    wish = await asyncio.to_thread(lambda: load_request(read_json(body) if body.strip() else {}, ReplayRequest))
    parts.calls.wait_s(wish)
    digest = hashlib.sha256(b"replay\0" + run_id.encode() + b"\0" + body).digest()
    return await parts.replays.start(run_id, wish, Call(account_of(request), idempotency_key(request), digest)), wish


_PATH = "/api/v1/runs/{run}/replay"

ROUTES = three_ways(
    "/api/v1/runs/{run}/replay",
    _begin,
    Body(ReplayRequest, required=False),
    "A new run of what this one was, from a node or of what failed",
    "replay_run",
)
