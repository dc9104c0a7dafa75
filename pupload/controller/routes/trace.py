"""What became of each attempt of a run."""

from aiohttp import web

from pupload.answers.traces import RunTrace
from pupload.controller.routes.answering import answer, query_text
from pupload.controller.routes.declaring import READ, Asked, get
from pupload.controller.routes.runs import run_id_of
from pupload.controller.state import parts_of
from pupload.controller.trace import LATEST


async def get_trace(request: web.Request) -> web.Response:
    """GET ?attempt=latest|all|N&node."""
    attempt, node = query_text(request, "attempt") or LATEST, query_text(request, "node")
    return answer(await parts_of(request).traces.of(run_id_of(request), attempt, node))


_ATTEMPT = Asked("attempt", "`latest` of each node, `all`, or a number.")
_NODE = Asked("node", "One node's alone.")

ROUTES = [
    get(
        "/api/v1/runs/{run}/trace",
        get_trace,
        "What became of each attempt.",
        RunTrace,
        asks=(_ATTEMPT, _NODE),
        scope=READ,
    ),
]
