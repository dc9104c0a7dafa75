"""The client for programs without an event loop: what AsyncClient has, each call waited for."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

from pupload.answers.evals import EvalAnswer
from pupload.answers.flows import (
    FindingAnswer,
    FlowAnswer,
    FlowComparison,
    FlowPage,
    FlowVersionAnswer,
    FlowVersionPage,
    NodeDefAnswer,
    NodeDefPage,
)
from pupload.answers.runs import FlowRun, LogRecord, RunEvent, RunPage, ToolCallAnswer
from pupload.answers.server import AccountAnswer, TierAnswer, WorkerAnswer
from pupload.answers.sessions import SessionAnswer, SessionPage
from pupload.answers.traces import RunTrace
from pupload.answers.uploads import FileAnswer, FilePage, UploadAnswer
from pupload.answers.webhooks import WebhookAnswer
from pupload.client.backoff import Backoff
from pupload.client.client import AsyncClient
from pupload.client.files import AsyncFiles
from pupload.client.following import AsyncRunStream
from pupload.client.how import FlowLike, How, Input, Json, NodeDefLike, OverrideParts, ToolHandler
from pupload.client.jobs import AsyncJob
from pupload.client.portal import Portal
from pupload.client.results import AsyncOutput, AsyncPausedResult, AsyncRunResult, OutputOf, ResultOf
from pupload.client.sessions import AsyncSessions
from pupload.client.stepping import AsyncStepThrough, Step
from pupload.client.tools import MAX_ROUNDS
from pupload.client.transfers import Progress, silent
from pupload.client.transport import CALL_S
from pupload.client.webhooks import AsyncWebhooks


@dataclass(frozen=True, slots=True)
class Output(OutputOf):
    """As AsyncOutput, waited for."""

    _output: AsyncOutput
    _portal: Portal

    def download(self, path: Path, progress: Progress = silent) -> Path:
        return self._portal.call(self._output.download(path, progress))


@dataclass(frozen=True, slots=True)
class RunResult(ResultOf):
    """As AsyncRunResult, waited for."""

    _result: AsyncRunResult
    _portal: Portal

    @property
    def outputs(self) -> dict[str, Output]:
        return {edge: Output(o.run_id, edge, o.answer, o, self._portal) for edge, o in self._result.outputs.items()}


@dataclass(frozen=True, slots=True)
class PausedResult(RunResult):
    """As AsyncPausedResult, waited for."""

    _paused: AsyncPausedResult

    @property
    def tool_calls(self) -> dict[str, list[ToolCallAnswer]]:
        return self._paused.tool_calls

    def resume(self, results: Mapping[str, Json]) -> RunResult:
        return _waited(self._portal.call(self._paused.resume(results)), self._portal)


def _waited(result: AsyncRunResult, portal: Portal) -> RunResult:
    if isinstance(result, AsyncPausedResult):
        return PausedResult(result.answer, result, portal, result)
    return RunResult(result.answer, result, portal)


class Job:
    """As AsyncJob, waited for."""

    def __init__(self, job: AsyncJob, portal: Portal) -> None:
        self._job, self._portal, self.id = job, portal, job.id

    def poll(self) -> FlowRun:
        return self._portal.call(self._job.poll())

    def wait(self, timeout_s: float | None = None) -> RunResult:
        return _waited(self._portal.call(self._job.wait(timeout_s)), self._portal)

    def result(self) -> RunResult:
        return _waited(self._portal.call(self._job.result()), self._portal)

    def cancel(self) -> None:
        return self._portal.call(self._job.cancel())

    def events(self, after: int = 0, types: Collection[str] = ()) -> Iterator[RunEvent]:
        return self._portal.iterate(self._job.events(after, types))


class RunStream:
    """As AsyncRunStream, waited for."""

    def __init__(self, stream: AsyncRunStream, portal: Portal) -> None:
        self._stream, self._portal = stream, portal

    @property
    def run_id(self) -> str:
        return self._stream.run_id

    def __iter__(self) -> Iterator[RunEvent]:
        return self._portal.iterate(aiter(self._stream))

    def result(self) -> RunResult:
        return _waited(self._portal.call(self._stream.result()), self._portal)


class StepThrough:
    """As AsyncStepThrough, waited for."""

    def __init__(self, loop: AsyncStepThrough, portal: Portal) -> None:
        self._loop, self._portal = loop, portal

    @property
    def last(self) -> Step | None:
        return self._loop.last

    def __iter__(self) -> Iterator[Step]:
        return self

    def __next__(self) -> Step:
        try:
            return self._portal.call(anext(self._loop))
        except StopAsyncIteration:
            raise StopIteration from None

    def override(self, node: str, **parts: Unpack[OverrideParts]) -> None:
        self._loop.override(node, **parts)

    def replace(self, edge: str, value: Input) -> None:
        self._loop.replace(edge, value)

    def run_remaining(self) -> None:
        self._loop.run_remaining()

    def repeat(self) -> None:
        self._loop.repeat()

    def result(self) -> RunResult:
        return _waited(self._portal.call(self._loop.result()), self._portal)


class Files:
    """As AsyncFiles, waited for."""

    def __init__(self, files: AsyncFiles, portal: Portal) -> None:
        self._files, self._portal = files, portal

    def put(self, file: Path | bytes, *, name: str | None = None, progress: Progress = silent) -> FileAnswer:
        return self._portal.call(self._files.put(file, name=name, progress=progress))

    def get(self, file_id: str, path: Path, progress: Progress = silent) -> Path:
        return self._portal.call(self._files.get(file_id, path, progress))

    def list(self, *, limit: int = 50, cursor: str | None = None) -> FilePage:
        return self._portal.call(self._files.list(limit=limit, cursor=cursor))

    def delete(self, file_id: str) -> None:
        return self._portal.call(self._files.delete(file_id))


class Sessions:
    """As AsyncSessions, waited for."""

    def __init__(self, sessions: AsyncSessions, portal: Portal) -> None:
        self._sessions, self._portal = sessions, portal

    def create(self, variables: Mapping[str, Json] | None = None) -> SessionAnswer:
        return self._portal.call(self._sessions.create(variables))

    def get(self, session_id: str, *, limit: int = 100) -> SessionAnswer:
        return self._portal.call(self._sessions.get(session_id, limit=limit))

    def list(self, *, limit: int = 50, cursor: str | None = None) -> SessionPage:
        return self._portal.call(self._sessions.list(limit=limit, cursor=cursor))

    def delete(self, session_id: str) -> None:
        return self._portal.call(self._sessions.delete(session_id))


class Webhooks:
    """As AsyncWebhooks, waited for."""

    def __init__(self, webhooks: AsyncWebhooks, portal: Portal) -> None:
        self._webhooks, self._portal = webhooks, portal

    def log(self, run_id: str) -> list[WebhookAnswer]:
        return self._portal.call(self._webhooks.log(run_id))

    def redeliver(self, webhook_id: str) -> WebhookAnswer:
        return self._portal.call(self._webhooks.redeliver(webhook_id))


class Client:
    """As AsyncClient, each call waited for; any thread may call. Use it with `with`.

    The work is done on one thread of its own, which begins with the first call. Ctrl-C ends the call that waits, not
    the run. A forked process can go on using it; only what was under way stays with its parent.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = CALL_S,
        backoff: Backoff | None = None,
    ) -> None:
        self._client = AsyncClient(base_url, api_key, timeout_s=timeout_s, backoff=backoff)
        self._portal = Portal(self._client.close)
        self.files = Files(self._client.files, self._portal)
        self.sessions = Sessions(self._client.sessions, self._portal)
        self.webhooks = Webhooks(self._client.webhooks, self._portal)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._portal.close()

    @property
    def base_url(self) -> str:
        return self._client.base_url

    # Ways to run a flow

    def run(
        self,
        flow: str | FlowLike,
        inputs: Mapping[str, Input] | None = None,
        *,
        wait_s: float | None = None,
        tool_handler: ToolHandler | None = None,
        max_tool_rounds: int = MAX_ROUNDS,
        **how: Unpack[How],
    ) -> RunResult:
        run = self._client.run(
            flow, inputs, wait_s=wait_s, tool_handler=tool_handler, max_tool_rounds=max_tool_rounds, **how
        )
        return _waited(self._portal.call(run), self._portal)

    def run_async(self, flow: str | FlowLike, inputs: Mapping[str, Input] | None = None, **how: Unpack[How]) -> Job:
        return Job(self._portal.call(self._client.run_async(flow, inputs, **how)), self._portal)

    def stream(
        self,
        flow: str | FlowLike,
        inputs: Mapping[str, Input] | None = None,
        *,
        types: Collection[str] = (),
        tool_handler: ToolHandler | None = None,
        max_tool_rounds: int = MAX_ROUNDS,
        **how: Unpack[How],
    ) -> RunStream:
        stream = self._client.stream(
            flow, inputs, types=types, tool_handler=tool_handler, max_tool_rounds=max_tool_rounds, **how
        )
        return RunStream(stream, self._portal)

    def steps(
        self,
        flow: str | FlowLike,
        inputs: Mapping[str, Input] | None = None,
        *,
        tool_handler: ToolHandler | None = None,
        max_tool_rounds: int = MAX_ROUNDS,
        **how: Unpack[How],
    ) -> RunStream:
        stream = self._client.steps(flow, inputs, tool_handler=tool_handler, max_tool_rounds=max_tool_rounds, **how)
        return RunStream(stream, self._portal)

    def step_through(self, flow: str, inputs: Mapping[str, Input] | None = None, **how: Unpack[How]) -> StepThrough:
        return StepThrough(self._client.step_through(flow, inputs, **how), self._portal)

    def replay(
        self,
        run_id: str,
        inputs: Mapping[str, Input] | None = None,
        *,
        from_node: str | None = None,
        failed_only: bool = False,
        **how: Unpack[How],
    ) -> Job:
        job = self._client.replay(run_id, inputs, from_node=from_node, failed_only=failed_only, **how)
        return Job(self._portal.call(job), self._portal)

    def job(self, run_id: str) -> Job:
        return Job(self._client.job(run_id), self._portal)

    def test(self, flow: FlowLike, nodedefs: Sequence[NodeDefLike] = (), idempotency_key: str | None = None) -> FlowRun:
        return self._portal.call(self._client.test(flow, nodedefs, idempotency_key))

    # Runs

    def get_run(self, run_id: str) -> FlowRun:
        return self._portal.call(self._client.get_run(run_id))

    def runs(
        self,
        *,
        flow: str | None = None,
        status: str | None = None,
        session: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> RunPage:
        page = self._client.runs(flow=flow, status=status, session=session, limit=limit, cursor=cursor)
        return self._portal.call(page)

    def cancel(self, run_id: str) -> None:
        return self._portal.call(self._client.cancel(run_id))

    def delete(self, run_id: str) -> None:
        return self._portal.call(self._client.delete(run_id))

    def resume(self, run_id: str, results: Mapping[str, Json], *, node_id: str | None = None) -> FlowRun:
        return self._portal.call(self._client.resume(run_id, results, node_id=node_id))

    def trace(self, run_id: str, *, attempt: str | int = "latest", node: str | None = None) -> RunTrace:
        return self._portal.call(self._client.trace(run_id, attempt=attempt, node=node))

    def evals(self, run_id: str) -> list[EvalAnswer]:
        return self._portal.call(self._client.evals(run_id))

    def events(self, run_id: str, after: int = 0, types: Collection[str] = ()) -> Iterator[RunEvent]:
        return self._portal.iterate(self._client.events(run_id, after, types))

    def logs(self, run_id: str, node_id: str, *, follow: bool = False) -> Iterator[LogRecord]:
        return self._portal.iterate(self._client.logs(run_id, node_id, follow=follow))

    # Files of runs

    def upload(
        self,
        run_id: str,
        edge: str,
        path: Path,
        progress: Progress = silent,
        *,
        part_size: int | None = None,
        upload_id: str | None = None,
    ) -> None:
        upload = self._client.upload(run_id, edge, path, progress, part_size=part_size, upload_id=upload_id)
        return self._portal.call(upload)

    def begin_upload(self, run_id: str, edge: str, size_bytes: int, *, part_size: int | None = None) -> UploadAnswer:
        return self._portal.call(self._client.begin_upload(run_id, edge, size_bytes, part_size=part_size))

    def find_upload(self, run_id: str, edge: str, upload_id: str) -> UploadAnswer:
        return self._portal.call(self._client.find_upload(run_id, edge, upload_id))

    def abort_upload(self, run_id: str, edge: str, upload_id: str) -> None:
        return self._portal.call(self._client.abort_upload(run_id, edge, upload_id))

    def put_file(self, put_url: str, path: Path, progress: Progress = silent) -> None:
        return self._portal.call(self._client.put_file(put_url, path, progress))

    def complete_upload(self, run_id: str, edge: str) -> None:
        return self._portal.call(self._client.complete_upload(run_id, edge))

    def artifact(self, run_id: str, edge: str, path: Path, progress: Progress = silent, *, sha256: str = "") -> Path:
        return self._portal.call(self._client.artifact(run_id, edge, path, progress, sha256=sha256))

    # Flows and node definitions

    def put_flow(self, name: str, flow: FlowLike, nodedefs: Sequence[NodeDefLike] = ()) -> FlowAnswer:
        return self._portal.call(self._client.put_flow(name, flow, nodedefs))

    def flow(self, name: str) -> FlowAnswer:
        return self._portal.call(self._client.flow(name))

    def flows(self, *, limit: int = 50, cursor: str | None = None) -> FlowPage:
        return self._portal.call(self._client.flows(limit=limit, cursor=cursor))

    def delete_flow(self, name: str) -> None:
        return self._portal.call(self._client.delete_flow(name))

    def validate_flow(
        self, name: str, flow: FlowLike | None = None, nodedefs: Sequence[NodeDefLike] = ()
    ) -> list[FindingAnswer]:
        return self._portal.call(self._client.validate_flow(name, flow, nodedefs))

    def publish(self, name: str) -> FlowVersionAnswer:
        return self._portal.call(self._client.publish(name))

    def versions(self, name: str, *, limit: int = 50, cursor: str | None = None) -> FlowVersionPage:
        return self._portal.call(self._client.versions(name, limit=limit, cursor=cursor))

    def version(self, name: str, number: int) -> FlowVersionAnswer:
        return self._portal.call(self._client.version(name, number))

    def promote(self, name: str, number: int) -> FlowVersionAnswer:
        return self._portal.call(self._client.promote(name, number))

    def compare(self, name: str, before: str | None = None, after: str | None = None) -> FlowComparison:
        return self._portal.call(self._client.compare(name, before, after))

    def put_nodedef(self, reference: str, nodedef: NodeDefLike) -> NodeDefAnswer:
        return self._portal.call(self._client.put_nodedef(reference, nodedef))

    def nodedef(self, reference: str) -> NodeDefAnswer:
        return self._portal.call(self._client.nodedef(reference))

    def nodedefs(self, *, publisher: str | None = None, limit: int = 50, cursor: str | None = None) -> NodeDefPage:
        return self._portal.call(self._client.nodedefs(publisher=publisher, limit=limit, cursor=cursor))

    # The server

    def ready(self) -> bool:
        return self._portal.call(self._client.ready())

    def account(self) -> AccountAnswer:
        return self._portal.call(self._client.account())

    def workers(self) -> list[WorkerAnswer]:
        return self._portal.call(self._client.workers())

    def tiers(self) -> list[TierAnswer]:
        return self._portal.call(self._client.tiers())


TWINS: dict[type, type] = {
    AsyncClient: Client,
    AsyncFiles: Files,
    AsyncJob: Job,
    AsyncOutput: Output,
    AsyncPausedResult: PausedResult,
    AsyncRunResult: RunResult,
    AsyncRunStream: RunStream,
    AsyncSessions: Sessions,
    AsyncStepThrough: StepThrough,
    AsyncWebhooks: Webhooks,
}
"""Which class waits for which."""


def _take_over_words() -> None:
    """Give each method the docstring of the one that it waits for: it is said once."""
    for waits_for, twin in TWINS.items():
        for name, member in vars(twin).items():
            if callable(member) and not member.__doc__:
                member.__doc__ = getattr(getattr(waits_for, name, None), "__doc__", None)


_take_over_words()
