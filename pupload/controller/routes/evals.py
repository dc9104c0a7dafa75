"""What evaluations found of a run."""

from aiohttp import web

from pupload.answers.evals import RunEvals
from pupload.controller.routes.answering import answer
from pupload.controller.routes.declaring import READ, get
from pupload.controller.routes.runs import run_id_of
from pupload.controller.state import parts_of


async def get_evals(request: web.Request) -> web.Response:
    """GET the evaluations of a run, pending ones too."""
    return answer(await parts_of(request).evaluations.of_run(run_id_of(request)))


ROUTES = [
    get(
        "/api/v1/runs/{run}/evals",
        get_evals,
        "What evaluations found of the run, pending ones too.",
        RunEvals,
        scope=READ,
    )
]
