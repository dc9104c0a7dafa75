"""What was told of a run, and once more."""

from aiohttp import web

from pupload.answers.webhooks import WebhookAnswer, WebhookList
from pupload.controller.routes.answering import answer, path_part
from pupload.controller.routes.declaring import CREATE, READ, Answer, get, post
from pupload.controller.routes.runs import run_id_of
from pupload.controller.state import parts_of


async def list_webhooks(request: web.Request) -> web.Response:
    """GET the run's deliveries, each with its tries."""
    return answer(WebhookList(webhooks=await parts_of(request).webhooks.of_run(run_id_of(request))))


async def redeliver(request: web.Request) -> web.Response:
    """POST: deliver it again, under the same id."""
    return answer(await parts_of(request).webhooks.redeliver(path_part(request, "webhook")), status=202)


ROUTES = [
    get(
        "/api/v1/runs/{run}/webhooks",
        list_webhooks,
        "What was told of the run, each with its tries.",
        WebhookList,
        scope=READ,
    ),
    post(
        "/api/v1/webhooks/{webhook}/redeliver",
        redeliver,
        "Tells it again, under the same id.",
        {202: Answer("It is told soon.", WebhookAnswer)},
        scope=CREATE,
    ),
]
