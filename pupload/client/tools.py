"""Answers to what nodes ask, by functions of the caller's."""

import asyncio
import inspect
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

from pupload.answers.runs import RunEvent, ToolCallAnswer
from pupload.client.errors import ToolCallLimitError
from pupload.client.how import Json, ToolHandler
from pupload.errors import CallerError

MAX_ROUNDS = 10
_SERVERS_LIMIT = "TOOL_ITERATION_LIMIT"


class Answerer:
    """Has the handler answer, and counts how often each node has asked."""

    def __init__(self, handler: ToolHandler, most_rounds: int) -> None:
        self._handler, self._most = handler, most_rounds
        self._rounds: Counter[str] = Counter()

    async def answers(self, run_id: str, node_id: str, calls: Sequence[ToolCallAnswer]) -> dict[str, Json]:
        """The answer to each call, by its id.

        Errors: ToolCallLimitError; whatever the handler raises.
        """
        self._rounds[node_id] += 1
        if self._rounds[node_id] > self._most:
            raise ToolCallLimitError(run_id, node_id, self._most)
        found = await asyncio.gather(*(self._answer(call) for call in calls))
        return {call.id: answer for call, answer in zip(calls, found, strict=True)}

    def require_within(self, last: RunEvent) -> None:
        """Errors: ToolCallLimitError where the run ended of the server's own limit."""
        error = last.data.get("Error") or {}
        if error.get("Code") == _SERVERS_LIMIT:
            raise ToolCallLimitError(last.run_id, error["NodeID"], self._rounds[error["NodeID"]])

    async def _answer(self, call: ToolCallAnswer) -> Json:
        handler = self._handler
        if isinstance(handler, Mapping):
            named = handler.get(call.name)
            if named is None:
                raise CallerError(f"the run asks for {call.name!r}, which tool_handler has not", code="NO_HANDLER")
            return await _called(lambda: named(**call.arguments), named)
        alone = handler
        return await _called(lambda: alone(call), alone)


async def _called(call: Callable[[], Json | Awaitable[Json]], function: object) -> Json:
    """What the function gives. One that may block has a thread, so that nothing else of the client waits for it."""
    answer = call() if inspect.iscoroutinefunction(function) else await asyncio.to_thread(call)
    return await answer if isinstance(answer, Awaitable) else answer
