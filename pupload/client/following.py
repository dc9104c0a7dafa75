"""A new run, followed by whoever began it: its events, and answers to what its nodes ask."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from pupload.answers.runs import RunEvent, ToolCallAnswer
from pupload.client.asking import ASKS, Asked, Asking
from pupload.client.errors import NotWaitingForTools
from pupload.client.reading import rows
from pupload.client.results import AsyncRunResult
from pupload.client.streams import events_of, is_last
from pupload.client.tools import Answerer


@dataclass(slots=True)
class AsyncRunStream:
    """The events of a new run, which is made when the first is asked for; with `types`, only those and the last one.

    `only_types`: the last one is left out, unless it is of them. `run_id` is "" until there is a run.
    """

    _asking: Asking
    _ask: Callable[[], Awaitable[Asked]]
    _types: frozenset[str] = frozenset()
    _answerer: Answerer | None = None
    _only_types: bool = False
    run_id: str = field(default="", init=False)
    _asked: Asked | None = field(default=None, init=False)
    _answered: int = field(default=0, init=False)
    """The number of the last event that was a question, so that nobody answers twice who looks twice."""

    async def __aiter__(self) -> AsyncIterator[RunEvent]:
        """Each event once.

        Errors: as any call; ToolCallLimitError, or what the handler raises, and the run is stopped.
        """
        await self._begun()
        wanted = self._types | ({ASKS} if self._types and self._answerer else frozenset())
        async with aclosing(events_of(self._asking.transport, self.run_id, 0, wanted)) as events:
            async for event in events:
                if not self._types or event.type in self._types or (is_last(event) and not self._only_types):
                    yield event
                if event.type == ASKS and event.seq > self._answered:
                    await self._answer(event)
                if self._answerer is not None and is_last(event):
                    self._answerer.require_within(event)

    async def result(self) -> AsyncRunResult:
        """What came of the run, once it is over, or a PausedResult when it waits for the client."""
        asked = await self._begun()
        return await self._asking.awaited(self.run_id, evals=asked.waits_for_evals)

    async def _begun(self) -> Asked:
        if self._asked is None:
            self._asked = await self._ask()
        if not self.run_id:
            self.run_id = (await self._asking.begin(self._asked)).id
        return self._asked

    async def _answer(self, event: RunEvent) -> None:
        if self._answerer is None:
            return
        self._answered = event.seq
        try:
            await self._send(event.node_id, self._answerer, rows(ToolCallAnswer, event.data, "ToolCalls"))
        except Exception:
            # Nobody will answer any more. Who was only interrupted may still, by `resume`.
            await self._asking.runs.cancel(self.run_id)
            raise

    async def _send(self, node_id: str, answerer: Answerer, calls: Sequence[ToolCallAnswer]) -> None:
        answers = await answerer.answers(self.run_id, node_id, calls)
        runs, transport = self._asking.runs, self._asking.transport
        try:
            await transport.repeated(lambda: runs.resume(self.run_id, answers, node_id=node_id))
        except NotWaitingForTools:
            # An answer before this one came through though the line broke, or the run has ended meanwhile: its events
            # tell.
            return
