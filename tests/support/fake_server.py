"""A server for tests of the client: answers from a script, remembers what it was asked, which is all described."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support.described import is_described

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(slots=True)
class FakeServer:
    """Answers are given in the order in which they were put for a route; the last one stays."""

    asked: list[Asked] = field(default_factory=list)
    _answers: dict[tuple[str, str], list[Answer]] = field(default_factory=dict)
    _server: TestServer | None = None

    def on(self, method: str, path: str, *answers: Answer) -> None:
        """Put answers for a route."""
        self._answers.setdefault((method, path), []).extend(answers)

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._server is not None
        return str(self._server.make_url("")).rstrip("/")

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._server = TestServer(app)
        await self._server.start_server()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        await self._server.close()
        if kind is None:
            asked = {(each.method, each.path) for each in self.asked if each.path.startswith("/api/")}
            assert {each for each in asked if not is_described(*each)} == set()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.asked.append(
            Asked(request.method, request.raw_path.partition("?")[0], dict(request.query), dict(request.headers), body)
        )
        answers = self._answers.get((request.method, request.path))
        if not answers:
            return web.Response(status=404, text="no such route")
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return await answer(request)


def gives(body: object, status: int = 200, **headers: str) -> Answer:
    """An answer in JSON; header names with `_` for `-`."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.json_response(body, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return answer


def says(text: str, status: int) -> Answer:
    """An answer in plain text."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text)

    return answer


def moved(location: str) -> Answer:
    """A redirect."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": location})

    return answer


def sends(content: bytes) -> Answer:
    """An answer of bytes."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=content)

    return answer


async def breaks(request: web.Request) -> web.StreamResponse:
    """No answer: the connection is cut."""
    assert request.transport is not None
    request.transport.abort()
    await asyncio.sleep(0)
    return web.Response()


def breaks_after(content: bytes, claimed_bytes: int) -> Answer:
    """An answer that is cut off in its middle."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(claimed_bytes)})
        await response.prepare(request)
        await response.write(content)
        return await breaks(request)

    return answer


def streams(*frames: str, then_cut: bool = False) -> Answer:
    """A stream of events that ends, or is cut, after these frames."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for frame in frames:
            await response.write(frame.encode())
        return await breaks(request) if then_cut else response

    return answer


def event(seq: int, kind: str, node: str = "", **data: object) -> str:
    """A frame of a run's stream."""
    body = {"Seq": seq, "Type": kind, "RunID": "run_1", "NodeID": node, "Time": "2026-01-02T03:04:05Z", "Data": data}
    return f"id: {seq}\nevent: {kind}\ndata: {json.dumps(body)}\n\n"
