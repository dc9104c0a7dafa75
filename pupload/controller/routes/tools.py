"""The client's answers to what nodes asked."""

from aiohttp import web

from pupload.answers.runs import FlowRun
from pupload.controller.routes.answering import answer, read_document
from pupload.controller.routes.declaring import CREATE, Body, post
from pupload.controller.routes.runs import run_id_of
from pupload.controller.state import parts_of
from pupload.controller.tools import ToolAnswers


async def resume_run(request: web.Request) -> web.Response:
    """POST ToolAnswers: the nodes that asked go on; the run as it is then."""
    parts, run_id = parts_of(request), run_id_of(request)
    await parts.tools.resume(run_id, await read_document(request, ToolAnswers))
    return answer(await parts.views.run(run_id))


ROUTES = [
    post(
        "/api/v1/runs/{run}/resume",
        resume_run,
        "Answers what nodes asked; they go on.",
        FlowRun,
        takes=Body(ToolAnswers),
        refuses=(409,),
        scope=CREATE,
    )
]
