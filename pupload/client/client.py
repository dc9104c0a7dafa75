"""The client: everything that a controller can be asked, for programs with an event loop."""

import asyncio
import os
import uuid
from collections.abc import Collection, Mapping, Sequence
from types import TracebackType
from typing import Self, Unpack

from pupload.answers.runs import FlowRun
from pupload.answers.server import AccountAnswer, TierAnswer, WorkerAnswer
from pupload.client.asking import ASKS, Asked, Asking
from pupload.client.backoff import Backoff
from pupload.client.errors import ApiError, CallTimeout
from pupload.client.files import AsyncFiles
from pupload.client.flows import FlowCalls
from pupload.client.following import AsyncRunStream
from pupload.client.how import FlowLike, How, Input, Json, NodeDefLike, ToolHandler, documents, refuse_nodedefs
from pupload.client.jobs import AsyncJob
from pupload.client.reading import path_of, read, rows
from pupload.client.results import AsyncRunResult
from pupload.client.runs import RunCalls
from pupload.client.sessions import AsyncSessions
from pupload.client.stepping import AsyncStepThrough
from pupload.client.tools import MAX_ROUNDS, Answerer
from pupload.client.transport import CALL_S, Call, Transport
from pupload.client.webhooks import AsyncWebhooks

DEFAULT_URL = "http://127.0.0.1:1234"


class AsyncClient(FlowCalls, RunCalls):
    """One controller, as a client sees it. Use it with `async with`.

    Without `base_url` and `api_key` it takes PUPLOAD_URL and PUPLOAD_API_KEY. A call, with all its tries, takes at most
    `timeout_s`; one that waits for a run, or moves a file, as long as it needs.
    Errors: every method raises ApiError (a class for each status, for some codes) where the server refuses,
    ServerUnreachable where it is not there, CallTimeout where it is too slow. Calls that may be repeated are, with
    back-off, before either is raised; one that makes a run has a key, so that it never makes two.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = CALL_S,
        backoff: Backoff | None = None,
    ) -> None:
        url = base_url or os.environ.get("PUPLOAD_URL") or DEFAULT_URL
        super().__init__(Transport(url, api_key or os.environ.get("PUPLOAD_API_KEY"), backoff, timeout_s))
        self.files = AsyncFiles(self._transport)
        self.sessions = AsyncSessions(self._transport)
        self.webhooks = AsyncWebhooks(self._transport)
        self._asking = Asking(self._transport, self.files)

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

    # Ways to run a flow: a text is the name of one that the server keeps; anything else is the flow itself

    async def run(
        self,
        flow: str | FlowLike,
        inputs: Mapping[str, Input] | None = None,
        *,
        wait_s: float | None = None,
        tool_handler: ToolHandler | None = None,
        max_tool_rounds: int = MAX_ROUNDS,
        **how: Unpack[How],
    ) -> AsyncRunResult:
        """What came of a new run, once it is over; a PausedResult when it asks the client, and there is no handler.

        A run that failed raises nothing: see `raise_for_status`.
        Errors: CallTimeout after `wait_s`, naming the run, which goes on; ToolCallLimitError, or what the handler
        raises, and the run is stopped; as any call.
        """
        asked = await self._asking.for_flow(flow, inputs, how)
        limit = asyncio.timeout(wait_s)
        try:
            async with limit:
                if tool_handler is None:
                    return await self._asking.ended(asked)
                return await self._answered(asked, Answerer(tool_handler, max_tool_rounds))
        except TimeoutError as error:
            if not limit.expired():
                raise
            # The same request finds its run.
            run = await self._asking.begin(asked)
            raise CallTimeout(f"run {run.id} was not over within {wait_s:g} s; it goes on", run.id) from error

    async def _answered(self, asked: Asked, answerer: Answerer) -> AsyncRunResult:
        async def ask() -> Asked:
            return asked

        stream = AsyncRunStream(self._asking, ask, frozenset({ASKS}), answerer)
        async for _ in stream:
            pass
        return await stream.result()

    async def run_async(
        self, flow: str | FlowLike, inputs: Mapping[str, Input] | None = None, **how: Unpack[How]
    ) -> AsyncJob:
        """A new run, which goes on by itself.

        Errors: TypeError for a `tool_handler`: nobody would be there to have it answer.
        """
        if "tool_handler" in how:
            raise TypeError("run_async does not wait, so it has no use for a tool_handler: take run, stream or resume")
        return AsyncJob(self._asking, (await self._asking.begin(await self._asking.for_flow(flow, inputs, how))).id)

    def stream(
        self,
        flow: str | FlowLike,
        inputs: Mapping[str, Input] | None = None,
        *,
        types: Collection[str] = (),
        tool_handler: ToolHandler | None = None,
        max_tool_rounds: int = MAX_ROUNDS,
        **how: Unpack[How],
    ) -> AsyncRunStream:
        """The events of a new run, which begins when the first is asked for; with `types`, those and the last one."""
        answerer = Answerer(tool_handler, max_tool_rounds) if tool_handler is not None else None
        return AsyncRunStream(
            self._asking, lambda: self._asking.for_flow(flow, inputs, how), frozenset(types), answerer
        )

    def steps(
        self,
        flow: str | FlowLike,
        inputs: Mapping[str, Input] | None = None,
        *,
        tool_handler: ToolHandler | None = None,
        max_tool_rounds: int = MAX_ROUNDS,
        **how: Unpack[How],
    ) -> AsyncRunStream:
        """As `stream`, of the events `node_completed` alone: one a node."""
        answerer = Answerer(tool_handler, max_tool_rounds) if tool_handler is not None else None
        types = frozenset({"node_completed"})
        return AsyncRunStream(
            self._asking, lambda: self._asking.for_flow(flow, inputs, how), types, answerer, _only_types=True
        )

    def step_through(
        self, flow: str, inputs: Mapping[str, Input] | None = None, **how: Unpack[How]
    ) -> AsyncStepThrough:
        """A published flow, one node with each turn; between turns anything may be changed."""
        return AsyncStepThrough(self._asking, flow, inputs, how)

    async def replay(
        self,
        run_id: str,
        inputs: Mapping[str, Input] | None = None,
        *,
        from_node: str | None = None,
        failed_only: bool = False,
        **how: Unpack[How],
    ) -> AsyncJob:
        """A new run of what an ended run ran, with these edits, which keeps what need not be made again.

        With `from_node` that node and all after it run, with `failed_only` what failed; with neither, everything.
        """
        refuse_nodedefs(how)
        begins: dict[str, Json] = {"From": from_node} if from_node else {}
        begins |= {"FailedOnly": True} if failed_only else {}
        asked = await self._asking.at(path_of("runs", run_id, "replay"), begins, inputs, how)
        return AsyncJob(self._asking, (await self._asking.begin(asked)).id)

    def job(self, run_id: str) -> AsyncJob:
        """A run that was begun before, or by somebody else."""
        return AsyncJob(self._asking, run_id)

    async def test(
        self, flow: FlowLike, nodedefs: Sequence[NodeDefLike] = (), idempotency_key: str | None = None
    ) -> FlowRun:
        """The new run of a flow that is not kept, by the reference interface, where inputs are uploaded."""
        asked = Asked("/api/v1/flow/test", documents(flow, nodedefs), idempotency_key or uuid.uuid4().hex)
        return await self._asking.begin(asked)

    # The server

    async def ready(self) -> bool:
        """True when the server takes runs; False where it answers that it does not. One try."""
        try:
            async with self._transport.answer(Call("GET", "/readyz")):
                return True
        except ApiError:
            return False

    async def account(self) -> AccountAnswer:
        """Who pays for this client's runs, and what is left."""
        return read(AccountAnswer, await self._transport.json(Call("GET", path_of("account"))))

    async def workers(self) -> list[WorkerAnswer]:
        """The workers that the server knows."""
        return rows(WorkerAnswer, await self._transport.json(Call("GET", path_of("workers"))), "Workers")

    async def tiers(self) -> list[TierAnswer]:
        """The tiers that nodes may ask for."""
        return rows(TierAnswer, await self._transport.json(Call("GET", path_of("tiers"))), "Tiers")
