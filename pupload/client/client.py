"""The client: one method a route, answers as values, streams as iterators."""

import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote

from pupload.answers.flows import (
    FindingAnswer,
    Findings,
    FlowAnswer,
    FlowComparison,
    FlowPage,
    FlowVersionAnswer,
    FlowVersionPage,
    NodeDefAnswer,
    NodeDefPage,
)
from pupload.answers.runs import FlowRun, LogRecord, RunEvent, RunPage, RunSummary
from pupload.answers.server import TierAnswer, WorkerAnswer
from pupload.client.backoff import Backoff
from pupload.client.errors import ApiError, ServerUnreachable
from pupload.client.sse import Frame, frames
from pupload.client.transfers import Progress, get_file, put_file, silent
from pupload.client.transport import Call, Transport, may_pass
from pupload.document import Document
from pupload.run.commands import TERMINAL_RECORDS
from pupload.run.state import TERMINAL

_STREAM_SILENCE_S = 60.0
"""The server sends a comment more often than this; a stream without a byte for so long is dead."""
_STREAM_TRIES = 15

D = TypeVar("D", bound=Document)


class AsyncClient:
    """One controller, as a client sees it. Use it with `async with`.

    Errors: every method raises ApiError (a class for each status) where the server refuses, and ServerUnreachable
    where it does not answer. Calls that may be repeated are, with back-off, before either is raised.
    """

    def __init__(self, base_url: str, token: str | None = None, *, backoff: Backoff | None = None) -> None:
        self._transport = Transport(base_url, token, backoff)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of all connections."""
        await self._transport.close()

    @property
    def base_url(self) -> str:
        """Where the controller is."""
        return self._transport.base_url

    async def ready(self) -> bool:
        """True when the server takes runs; False where it answers that it does not. One try."""
        try:
            async with self._transport.answer(Call("GET", "/readyz")):
                return True
        except ApiError:
            return False

    # Runs

    async def test(
        self,
        flow: Mapping[str, object],
        nodedefs: Sequence[Mapping[str, object]],
        idempotency_key: str | None = None,
    ) -> FlowRun:
        """The new run of a flow that is not kept. With a key, repeating the call gives the same run."""
        call = Call(
            "POST",
            "/api/v1/flow/test",
            body={"Flow": flow, "NodeDefs": nodedefs},
            headers={"Idempotency-Key": idempotency_key} if idempotency_key else {},
            repeatable=idempotency_key is not None,
        )
        return _read(FlowRun, await self._transport.json(call))

    async def run(self, run_id: str) -> FlowRun:
        """The run as it is now."""
        return _read(FlowRun, await self._transport.json(Call("GET", _run(run_id))))

    async def runs(
        self, *, flow: str | None = None, status: str | None = None, limit: int = 20, cursor: str | None = None
    ) -> RunPage:
        """A page of runs, newest first."""
        given = {"flow": flow, "status": status, "limit": str(limit), "cursor": cursor}
        query = {name: value for name, value in given.items() if value}
        return _read(RunPage, await self._transport.json(Call("GET", "/api/v1/runs", query)))

    async def cancel(self, run_id: str) -> None:
        """Ask the run to stop. Right in every state, and twice."""
        await self._transport.json(Call("POST", f"{_run(run_id)}/cancel"))

    async def delete(self, run_id: str) -> None:
        """Forget an ended run with its logs, events and objects."""
        await self._transport.json(Call("DELETE", _run(run_id)))

    # Streams

    async def events(self, run_id: str, after: int = 0, types: Collection[str] = ()) -> AsyncIterator[RunEvent]:
        """The run's events from number `after` + 1 up to its end, each once, however often the stream breaks.

        Shape: with `types`, only those and the last one.
        """
        query = {"types": ",".join(types)} if types else {}
        call = Call("GET", f"{_run(run_id)}/events", query, silence_s=_STREAM_SILENCE_S)
        async for frame in self._resumed(call, after):
            event = _read(RunEvent, json.loads(frame.data))
            yield event
            if is_last(event):
                return

    async def _resumed(self, call: Call, after: int) -> AsyncIterator[Frame]:
        """Frames of a stream that ends only when the caller stops; the last id seen is where it goes on."""
        last, failures = after, 0
        while True:
            try:
                async for frame in self._frames(call, last):
                    last, failures = int(frame.id or last), 0
                    yield frame
                broken: ServerUnreachable | ApiError = ServerUnreachable(f"{self.base_url} ended the stream early")
            except (ServerUnreachable, ApiError) as error:
                broken = error
            failures += 1
            if failures >= _STREAM_TRIES or not may_pass(broken):
                raise broken
            await self._transport.backoff.wait(failures)

    async def _frames(self, call: Call, last: int) -> AsyncIterator[Frame]:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": str(last)} if last else {})
        opened = Call(call.method, call.path, call.query, headers=headers, silence_s=call.silence_s)
        async with self._transport.answer(opened) as response:
            async for frame in frames(response.content.iter_any()):
                yield frame

    async def logs(self, run_id: str, node_id: str, *, follow: bool = False) -> AsyncIterator[LogRecord]:
        """The log of a node, all attempts; with `follow`, up to the end of the node."""
        path = f"{_run(run_id)}/nodes/{quote(node_id, safe='')}/logs"
        if follow:
            async for event in self.events(run_id, types=("node_log",)):
                if event.node_id == node_id and event.type == "node_log":
                    yield _read(LogRecord, {"timestamp": event.time, **event.data})
            return
        for record in _rows(LogRecord, await self._transport.json(Call("GET", path)), "Logs"):
            yield record

    # Files

    async def upload(self, put_url: str, path: Path, progress: Progress = silent) -> None:
        """Returns when the store has the file."""
        await self._transport.repeated(lambda: put_file(self._transport.session(), put_url, path, progress))

    async def complete_upload(self, run_id: str, edge: str) -> None:
        """Tell the server that an upload is through, so that it need not find out. Without it nothing is lost."""
        await self._transport.json(Call("POST", f"{_run(run_id)}/uploads/{quote(edge, safe='')}/complete"))

    async def artifact(
        self, run_id: str, edge: str, path: Path, progress: Progress = silent, *, sha256: str = ""
    ) -> Path:
        """The file `path`, holding the object of the edge; with `sha256`, exactly that one."""
        call = Call("GET", f"{_run(run_id)}/artifacts/{quote(edge, safe='')}")

        async def fetch() -> None:
            async with self._transport.answer(call) as response:
                url = response.headers.get("Location", "")
            # A fresh URL for each try: a signature ends while a large file is on its way.
            await get_file(self._transport.session(), url, path, progress, sha256=sha256)

        await self._transport.repeated(fetch)
        return path

    # Flows

    async def put_flow(
        self, name: str, flow: Mapping[str, object], nodedefs: Sequence[Mapping[str, object]] = ()
    ) -> FlowAnswer:
        """The flow, this its draft."""
        call = Call("PUT", _flow(name), body={"Flow": flow, "NodeDefs": nodedefs})
        return _read(FlowAnswer, await self._transport.json(call))

    async def flow(self, name: str) -> FlowAnswer:
        """The flow with its draft."""
        return _read(FlowAnswer, await self._transport.json(Call("GET", _flow(name))))

    async def flows(self, *, limit: int = 50, cursor: str | None = None) -> FlowPage:
        """A page of flows by name."""
        return _read(FlowPage, await self._transport.json(Call("GET", "/api/v1/flows", _page(limit, cursor))))

    async def delete_flow(self, name: str) -> None:
        """Forget the draft; published versions stay."""
        await self._transport.json(Call("DELETE", _flow(name)))

    async def validate_flow(self, name: str) -> list[FindingAnswer]:
        """Everything that is wrong with the draft."""
        answer = await self._transport.json(Call("POST", f"{_flow(name)}/validate"))
        return _read(Findings, answer).findings

    async def publish(self, name: str) -> FlowVersionAnswer:
        """The version that holds the draft as it is now; the newest one where nothing has changed."""
        return _read(FlowVersionAnswer, await self._transport.json(Call("POST", f"{_flow(name)}/versions")))

    async def versions(self, name: str, *, limit: int = 50, cursor: str | None = None) -> FlowVersionPage:
        """A page of the flow's versions, newest first."""
        call = Call("GET", f"{_flow(name)}/versions", _page(limit, cursor))
        return _read(FlowVersionPage, await self._transport.json(call))

    async def version(self, name: str, number: int) -> FlowVersionAnswer:
        """One version with its documents."""
        return _read(FlowVersionAnswer, await self._transport.json(Call("GET", f"{_flow(name)}/versions/{number}")))

    async def promote(self, name: str, number: int) -> FlowVersionAnswer:
        """The version, which a call gets from now on that asks for none."""
        call = Call("POST", f"{_flow(name)}/versions/{number}/promote")
        return _read(FlowVersionAnswer, await self._transport.json(call))

    async def compare(self, name: str, before: str | None = None, after: str | None = None) -> FlowComparison:
        """Where two versions differ: from production, else the newest, unless told, to the draft unless told."""
        query = {name: value for name, value in (("from", before), ("to", after)) if value}
        return _read(FlowComparison, await self._transport.json(Call("GET", f"{_flow(name)}/compare", query)))

    async def put_nodedef(self, reference: str, nodedef: Mapping[str, object]) -> NodeDefAnswer:
        """The definition `publisher/name[@version]`, for every flow to use."""
        return _read(NodeDefAnswer, await self._transport.json(Call("PUT", _nodedef(reference), body=nodedef)))

    async def nodedef(self, reference: str) -> NodeDefAnswer:
        """The definition `publisher/name[@version]`; without a version the newest."""
        return _read(NodeDefAnswer, await self._transport.json(Call("GET", _nodedef(reference))))

    async def nodedefs(
        self, *, publisher: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> NodeDefPage:
        """A page of definitions by name."""
        query = _page(limit, cursor) | ({"publisher": publisher} if publisher else {})
        return _read(NodeDefPage, await self._transport.json(Call("GET", "/api/v1/nodedefs", query)))

    # The server

    async def workers(self) -> list[WorkerAnswer]:
        """The workers that the server knows."""
        return _rows(WorkerAnswer, await self._transport.json(Call("GET", "/api/v1/workers")), "Workers")

    async def tiers(self) -> list[TierAnswer]:
        """The tiers that nodes may ask for."""
        return _rows(TierAnswer, await self._transport.json(Call("GET", "/api/v1/tiers")), "Tiers")


def _run(run_id: str) -> str:
    return f"/api/v1/runs/{quote(run_id, safe='')}"


def _flow(name: str) -> str:
    return f"/api/v1/flows/{quote(name, safe='')}"


def _nodedef(reference: str) -> str:
    publisher, _, name = reference.partition("/")
    return f"/api/v1/nodedefs/{quote(publisher, safe='')}/{quote(name, safe='@')}"


def _page(limit: int, cursor: str | None) -> dict[str, str]:
    return {"limit": str(limit)} | ({"cursor": cursor} if cursor else {})


def is_over(run: RunSummary) -> bool:
    """True when nothing of the run will change any more."""
    return run.status in TERMINAL


def is_last(event: RunEvent) -> bool:
    """True for the event that ends a run's stream."""
    return event.type in TERMINAL_RECORDS


def _rows(kind: type[D], answer: Mapping[str, object], member: str) -> list[D]:
    rows = answer.get(member)
    return [_read(kind, row) for row in rows] if isinstance(rows, list) else []


def _read(kind: type[D], value: object) -> D:
    """The document in an answer. Members that a newer server adds are ignored."""
    return kind.model_validate(value, context={"unknown": []})
