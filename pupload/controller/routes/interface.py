"""The interface's description, for programs and for people."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from functools import cached_property

from aiohttp import web

from pupload.controller.routes.declaring import JSON, Answer, Route, get

HTML = "text/html"
_SAFE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}


class Interface:
    """What the routes among these are, as OpenAPI and as a page; made when first asked for."""

    def __init__(self, routes: Iterable[web.AbstractRouteDef]) -> None:
        self._routes = [route for route in routes if isinstance(route, Route)]

    @cached_property
    def description(self) -> str:
        """OpenAPI, as JSON."""
        from pupload.controller.interface import describe

        return json.dumps(describe(self._routes), ensure_ascii=False)

    @cached_property
    def page(self) -> tuple[str, Mapping[str, str]]:
        """The page, and the headers that keep it from doing anything but being read."""
        from pupload.controller.page import POLICY, render

        return render(json.loads(self.description)), {"Content-Security-Policy": POLICY}


INTERFACE = web.AppKey("interface", Interface)


async def get_description(request: web.Request) -> web.Response:
    """GET the interface as OpenAPI 3.1."""
    text = await asyncio.to_thread(lambda: request.app[INTERFACE].description)
    return web.Response(text=text, content_type=JSON, headers=_SAFE)


async def get_page(request: web.Request) -> web.Response:
    """GET the same as a page."""
    text, policy = await asyncio.to_thread(lambda: request.app[INTERFACE].page)
    return web.Response(text=text, content_type=HTML, headers={**_SAFE, **policy})


ROUTES = [
    get(
        "/openapi.json",
        get_description,
        "The interface, for programs.",
        {200: Answer("OpenAPI 3.1.", media=JSON)},
        open=True,
    ),
    get("/docs", get_page, "The interface, for people.", {200: Answer("A page.", media=HTML)}, open=True),
]
