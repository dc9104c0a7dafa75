"""A run that goes on by itself, held by whoever began it."""

from collections.abc import AsyncIterator, Collection

from pupload.answers.runs import FlowRun, RunEvent
from pupload.client.asking import Asking
from pupload.client.results import AsyncRunResult
from pupload.client.transport import within


class AsyncJob:
    """A run by its id."""

    def __init__(self, asking: Asking, run_id: str) -> None:
        self._asking, self.id = asking, run_id

    async def poll(self) -> FlowRun:
        """The run as it is now."""
        return await self._asking.runs.get_run(self.id)

    async def wait(self, timeout_s: float | None = None) -> AsyncRunResult:
        """What came of it, once it is over, or a PausedResult when it waits for the client.

        Errors: CallTimeout after `timeout_s`; the run goes on.
        """
        async with within(timeout_s, f"run {self.id} was not over", self.id):
            return await self._asking.awaited(self.id)

    async def result(self) -> AsyncRunResult:
        """What there is of it by now, over or not."""
        return self._asking.told(await self._asking.seen(self.id))

    async def cancel(self) -> None:
        """Ask it to stop."""
        await self._asking.runs.cancel(self.id)

    def events(self, after: int = 0, types: Collection[str] = ()) -> AsyncIterator[RunEvent]:
        """Its events, up to its end."""
        return self._asking.runs.events(self.id, after, types)
