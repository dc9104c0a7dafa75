"""Who calls, and what it costs them."""

from aiohttp import web

from pupload.answers.server import AccountAnswer
from pupload.controller.routes.answering import Handler, answer
from pupload.controller.routes.declaring import get
from pupload.controller.state import parts_of

_ACCOUNT = web.RequestKey("account", str)
_OPEN = ("/healthz", "/readyz", "/api/v1/worker/", "/api/v1/hooks/", "/openapi.json", "/docs")
"""Paths for which no key is asked: they tell nothing, or have tokens of their own."""


@web.middleware
async def authentication(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Lets in who may call, and notes on whose account."""
    if not request.path.startswith(_OPEN):
        request[_ACCOUNT] = await parts_of(request).keys.account_of(request.headers)
    return await handler(request)


def account_of(request: web.Request) -> str:
    """The account that the request is made for; "" where the server has no keys."""
    return str(request.get(_ACCOUNT, ""))


async def get_account(request: web.Request) -> web.Response:
    """GET the caller's account."""
    return answer(await parts_of(request).accounts.answer(account_of(request)))


ROUTES = [get("/api/v1/account", get_account, "The caller's account, and what tiers cost it.", AccountAnswer)]
