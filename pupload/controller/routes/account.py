"""Who calls, how far they get, and what it costs them."""

from collections.abc import Mapping

from aiohttp import web

from pupload.answers.server import AccountAnswer
from pupload.controller.keys import Caller
from pupload.controller.owners import OWNED
from pupload.controller.routes.answering import Handler, answer, path_part
from pupload.controller.routes.declaring import READ, get
from pupload.controller.scopes import KeyScope
from pupload.controller.state import parts_of

SCOPES = web.AppKey("scopes", Mapping[Handler, KeyScope | None])
"""What each route asks of a key, by its handler; None where it asks for no key, or for a token of its own."""
CALLER = web.RequestKey("caller", Caller)


@web.middleware
async def authentication(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Lets in who may call, as far as the key goes, to what is theirs; and notes who it is.

    Shape: `request[CALLER]`, which is absent where no key is asked for.
    """
    if request.match_info.http_exception is not None:
        # No such route: that too is told to callers alone.
        request[CALLER] = await _known(request)
    elif (scope := request.app[SCOPES][request.match_info.handler]) is not None:
        caller = await _known(request)
        caller.require(scope)
        request[CALLER] = await _in_place(request, caller)
    return await handler(request)


async def _known(request: web.Request) -> Caller:
    """Who calls.

    Errors: Unauthorized.
    """
    return await parts_of(request).keys.caller_of(request.headers)


async def _in_place(request: web.Request, caller: Caller) -> Caller:
    """The caller, as who may act on what the path names.

    Errors: NotFound.
    """
    for kind in OWNED.keys() & request.match_info.keys():
        caller = await parts_of(request).owners.admit(caller, kind, path_part(request, kind))
    return caller


def caller_of(request: web.Request) -> Caller:
    """Who makes the request."""
    return request[CALLER]


def account_of(request: web.Request) -> str:
    """The account that the request is made for; "" where the server has no keys."""
    return caller_of(request).account


async def get_account(request: web.Request) -> web.Response:
    """GET the caller's account."""
    return answer(await parts_of(request).accounts.answer(account_of(request)))


ROUTES = [
    get("/api/v1/account", get_account, "The caller's account, and what tiers cost it.", AccountAnswer, scope=READ)
]
