"""What came of a run."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from pydantic import JsonValue

from pupload.answers.evals import EvalAnswer
from pupload.answers.runs import AnsweredRun, FlowRun, OutputAnswer, RunError, ToolCallAnswer
from pupload.client.errors import RunFailed
from pupload.client.how import Json
from pupload.client.transfers import Progress, silent
from pupload.run.state import RunStatus


class Downloads(Protocol):
    """Brings an edge's object to a file."""

    async def artifact(
        self, run_id: str, edge: str, path: Path, progress: Progress = ..., *, sha256: str = ...
    ) -> Path: ...


Resume = Callable[[Mapping[str, Json]], Awaitable["AsyncRunResult"]]


@dataclass(frozen=True, slots=True)
class OutputOf:
    """What a run made on an edge. `value` is its text, or what its JSON says, where it is small; None otherwise."""

    run_id: str
    edge: str
    answer: OutputAnswer

    @property
    def value(self) -> JsonValue:
        """The text, or what the JSON says."""
        return self.answer.value

    @property
    def content_type(self) -> str:
        """The type that its bytes have."""
        return self.answer.content_type

    @property
    def size(self) -> int:
        """Bytes."""
        return self.answer.size


@dataclass(frozen=True, slots=True)
class AsyncOutput(OutputOf):
    """An output that can be brought here."""

    downloads: Downloads

    async def download(self, path: Path, progress: Progress = silent) -> Path:
        """The file `path`, holding exactly this output."""
        return await self.downloads.artifact(self.run_id, self.edge, path, progress, sha256=self.answer.sha256)


@dataclass(frozen=True, slots=True)
class ResultOf:
    """What came of a run, which need not have ended well: `raise_for_status` asks for that."""

    answer: AnsweredRun

    @property
    def run(self) -> FlowRun:
        """The run, whole."""
        return self.answer

    @property
    def id(self) -> str:
        """The run's id."""
        return self.answer.id

    @property
    def status(self) -> str:
        """COMPLETE, ERROR, STOPPED; WAITING for one that is paused."""
        return self.answer.status

    @property
    def error(self) -> RunError | None:
        """Why it ended badly."""
        return self.answer.error

    @property
    def evals(self) -> list[EvalAnswer]:
        """What evaluations found, where the request said that they are waited for."""
        return self.answer.evals

    @property
    def values(self) -> dict[str, JsonValue]:
        """The value of each output, by edge."""
        return {edge: output.value for edge, output in self.answer.outputs.items()}

    def raise_for_status(self) -> Self:
        """This. Errors: RunFailed unless the run is COMPLETE."""
        if self.status != RunStatus.COMPLETE:
            raise RunFailed(self.answer)
        return self


@dataclass(frozen=True, slots=True)
class AsyncRunResult(ResultOf):
    """What came of a run, and its outputs."""

    downloads: Downloads

    @property
    def outputs(self) -> dict[str, AsyncOutput]:
        """By edge: what no node reads, or a well of its own keeps."""
        return {edge: AsyncOutput(self.id, edge, each, self.downloads) for edge, each in self.answer.outputs.items()}


@dataclass(frozen=True, slots=True)
class AsyncPausedResult(AsyncRunResult):
    """What there is of a run that waits for its nodes' questions to be answered."""

    go_on: Resume

    @property
    def tool_calls(self) -> dict[str, list[ToolCallAnswer]]:
        """What is asked, by node."""
        return self.answer.tool_calls

    async def resume(self, results: Mapping[str, Json]) -> AsyncRunResult:
        """What comes of the run after these answers, by the id of the call. It may be paused again."""
        return await self.go_on(results)


def is_paused(run: FlowRun) -> bool:
    """True when the run waits for the client to answer, and nothing else of it moves."""
    return run.status == RunStatus.WAITING and bool(run.tool_calls)
