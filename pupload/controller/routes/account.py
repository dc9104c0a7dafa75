"""Who calls, how far they get, and what it costs them."""

from collections.abc import Mapping

from aiohttp import web

from pupload.answers.server import AccountAnswer
from pupload.controller.browsers import refuse_pages
from pupload.controller.keys import WITHOUT_KEYS, Caller
from pupload.controller.limits import neighbourhood
from pupload.controller.owners import OWNED
from pupload.controller.routes.answering import Handler, answer, path_part
from pupload.controller.routes.declaring import READ, get
from pupload.controller.scopes import KeyScope
from pupload.controller.state import parts_of

_WORKERS = "/api/v1/worker/"
SCOPES = web.AppKey("scopes", Mapping[Handler, KeyScope | None])
"""What each route asks of a key, by its handler; None where it asks for no key, or for a token of its own."""
CALLER = web.RequestKey("caller", Caller)


@web.middleware
async def authentication(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Lets in who may call, as often as the key may, as far as it goes, to what is theirs; and notes who it is.

    Shape: `request[CALLER]`, which is absent where no key is asked for.
    """
    # No such route: that too is told to callers alone.
    missing = request.match_info.http_exception is not None
    scope = None if missing else request.app[SCOPES][request.match_info.handler]
    if scope is None and not missing:
        return await _without_key(request, handler)
    caller = await _known(request)
    with parts_of(request).limits.admitted(caller.key_id, caller.account):
        if scope is not None:
            caller.require(scope)
            caller = await _in_place(request, caller)
        request[CALLER] = caller
        return await handler(request)


async def _without_key(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Strangers are limited by where they are; workers, who have their own tokens, are not."""
    if request.path.startswith(_WORKERS):
        return await handler(request)
    with parts_of(request).limits.admitted(f"at {neighbourhood(request.remote or '')}", ""):
        return await handler(request)


async def _known(request: web.Request) -> Caller:
    """Who calls.

    Errors: Unauthorized; TooMany after many of these from one address; Forbidden for a page of a stranger.
    """
    parts, remote = parts_of(request), request.remote or ""
    with parts.limits.counting_wrong_keys(remote):
        caller = await parts.keys.caller_of(request.headers, parts.limits.turn(remote))
    if caller is WITHOUT_KEYS:
        refuse_pages(request.headers, parts.config.public_url)
    return caller


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
