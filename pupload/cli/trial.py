"""`pup test`: one run of a flow, from files to files."""

import asyncio
import json
import signal
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from rich.console import Console

from pupload.answers.runs import ArtifactAnswer, FlowRun, WaitingURL
from pupload.cli.exits import ExitCode, UsageError
from pupload.cli.plain import Plain
from pupload.cli.screen import Screen
from pupload.cli.view import Line, RunView, format_elapsed
from pupload.cli.wishes import Wishes
from pupload.client.client import AsyncClient
from pupload.client.errors import ApiError, BadRequest, ServerUnreachable, Unprocessable
from pupload.client.transfers import size_of
from pupload.errors import ControllerUnavailable, PuploadError
from pupload.run.state import RunStatus
from pupload.units import format_size

_PAINT_S = 0.05
_LOOK_S = 2.0
_UPLOADS_AT_ONCE = 4

_EXIT_CODES: dict[str, ExitCode] = {
    RunStatus.COMPLETE: ExitCode.DONE,
    RunStatus.ERROR: ExitCode.FAILED,
    RunStatus.STOPPED: ExitCode.STOPPED,
}


def try_flow(url: str, wishes: Wishes, *, as_json: bool) -> ExitCode:
    """The exit code of a run of the flow on the server at `url`, shown while it goes; Ctrl-C cancels it."""
    return asyncio.run(conduct(url, wishes, as_json=as_json))


async def conduct(url: str, wishes: Wishes, *, as_json: bool) -> ExitCode:
    """As `try_flow`, in a running event loop."""
    show = shown_on(sys.stderr if as_json else sys.stdout)
    async with AsyncClient(url) as client:
        run = await seen_through(Trial(client, wishes, show))
    if as_json and run is not None:
        sys.stdout.write(json.dumps(run.wire(), indent=2) + "\n")
    return exit_code_of_run(run)


def shown_on(out: TextIO) -> Screen | Plain:
    """What shows a run there."""
    return Screen(Console(file=out, highlight=False)) if out.isatty() else Plain(out)


async def seen_through(trial: "Trial") -> FlowRun | None:
    """The ended run, None where nobody waited for its end; Ctrl-C cancels it."""
    await _require_server(trial.client)
    with _interrupts(trial):
        try:
            return await trial.run()
        except asyncio.CancelledError:
            return None


def exit_code_of_run(run: FlowRun | None) -> ExitCode:
    """What a command ends with whose run ended so."""
    return ExitCode.STOPPED if run is None else _EXIT_CODES.get(run.status, ExitCode.FAILED)


async def _require_server(client: AsyncClient) -> None:
    try:
        await client.ready()
    except ServerUnreachable as error:
        raise ControllerUnavailable(
            f"{error.message}\nStart a server here with `pup dev`, or name another with --remote."
        ) from error


@contextmanager
def _interrupts(trial: "Trial") -> Iterator[None]:
    """Ctrl-C cancels the run and is waited for; a second one leaves at once."""
    loop, main = asyncio.get_running_loop(), asyncio.current_task()
    assert main is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda: trial.interrupt() or main.cancel())
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


@dataclass(slots=True)
class Trial:
    """One run, from its request to its files."""

    client: AsyncClient
    wishes: Wishes
    show: Screen | Plain
    view: RunView = field(default_factory=RunView)
    run_id: str = ""
    _lines: list[Line] = field(default_factory=list)
    _cancelling: asyncio.Task[None] | None = None

    async def run(self) -> FlowRun:
        """The ended run, its outputs where they were wished.

        Errors: UsageError when the server finds the flow invalid; ApiError and ServerUnreachable.
        """
        with self.show:
            begun = await self._begin()
            self.show.show(self.view)
            try:
                await self._watch(begun)
            except (PuploadError, OSError):
                await self._abandon()
                raise
            run = await self.ended()
            self.view.settle(run)
            saved = await self._save(run) if run.status == RunStatus.COMPLETE else {}
        self.show.say(_ending(run, saved, self.client.base_url, self.wishes.results))
        return run

    def interrupt(self) -> bool:
        """Cancel the run; False when there is none, or it is being cancelled already."""
        if not self.run_id or self._cancelling is not None:
            return False
        self._lines.append(Line("cancelling the run; Ctrl-C again to leave without waiting"))
        self._cancelling = asyncio.create_task(self.client.cancel(self.run_id))
        return True

    async def begun(self) -> FlowRun:
        """The new run."""
        return await self.client.test(self.wishes.flow, self.wishes.nodedefs)

    async def ended(self) -> FlowRun:
        """The run, which is over."""
        return await self.client.get_run(self.run_id)

    async def _begin(self) -> FlowRun:
        try:
            run = await self.begun()
        except (BadRequest, Unprocessable) as error:
            raise UsageError(f"the server does not take the flow: {error.message}", details=error.details) from error
        self.run_id, self.view = run.id, RunView.of(run, self.wishes.nodes)
        self.show.say([Line(f"{run.id}: {run.flow_name}, {len(run.node_state)} nodes")])
        return run

    async def _watch(self, run: FlowRun) -> None:
        """Returns when the run is over and all that happened has been shown."""
        faults: list[BaseException] = []
        try:
            async with asyncio.TaskGroup() as group:
                sides = [group.create_task(each) for each in (self._paint(), self._look(), *self._uploads(run))]
                async for event in self.client.events(run.id):
                    self._lines += self.view.fold(event)
                for side in sides:
                    side.cancel()
        except* (PuploadError, OSError) as group_of_faults:
            faults = list(group_of_faults.exceptions)
        self._flush()
        if faults:
            raise faults[0]

    async def _paint(self) -> None:
        """Many lines a second are printed at once."""
        while True:
            self._flush()
            await asyncio.sleep(_PAINT_S)

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        self.show.say(lines)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            if self.view.waits():
                self._lines += self.view.note_pending(await self.client.get_run(self.run_id))

    def _uploads(self, run: FlowRun) -> list[Coroutine[None, None, None]]:
        slots = asyncio.Semaphore(_UPLOADS_AT_ONCE)
        return [self._send(waiting, slots) for waiting in run.waiting_urls]

    async def _send(self, waiting: WaitingURL, slots: asyncio.Semaphore) -> None:
        edge = waiting.artifact.edge_name
        if waiting.post_url:
            self.show.say([Line(f"waiting for {edge}: POST its bytes to {waiting.post_url}")])
            return
        path = self.wishes.inputs.get(edge)
        if path is None:
            raise UsageError(f"the flow awaits a file for {edge!r}: add -i {edge}=FILE")
        async with slots:
            name = f"{path.name} → {edge}"
            await self.client.put_file(waiting.put_url, path, self.show.transfer(name, size_of(path)))
            self.show.transferred(name)
        await self._complete(edge)

    async def _complete(self, edge: str) -> None:
        try:
            await self.client.complete_upload(self.run_id, edge)
        except ApiError:
            # Only a hint: the server finds the upload by itself, and may have done so before.
            return

    async def _save(self, run: FlowRun) -> dict[str, Path]:
        """Where each wished edge's object now is."""
        saved = {}
        for edge, artifact in run.artifacts.items():
            path = self.wishes.target(edge, artifact.content_type)
            if path is not None:
                saved[edge] = await self._fetch(edge, artifact, path)
        return saved

    async def _fetch(self, edge: str, artifact: ArtifactAnswer, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        name = f"{edge} → {path}"
        progress = self.show.transfer(name, max(artifact.size, 0))
        await self.client.artifact(self.run_id, edge, path, progress, sha256=artifact.sha256)
        self.show.transferred(name)
        return path

    async def _abandon(self) -> None:
        """The run cannot go on without us: it is not left behind."""
        try:
            await self.client.cancel(self.run_id)
        except PuploadError as error:
            self.show.say([Line(f"the run could not be cancelled: {error.message}")])


def _ending(run: FlowRun, saved: dict[str, Path], url: str, results: list[str]) -> list[Line]:
    """The last lines: how the run ended, why, and where its results are."""
    took = ""
    if run.started_at and run.finished_at:
        took = f" in {format_elapsed((run.finished_at - run.started_at).total_seconds())}"
    match run.status:
        case RunStatus.COMPLETE:
            kept = [edge for edge in results if edge in run.artifacts and edge not in saved]
            return [Line(f"{run.id}: COMPLETE{took}"), *(_where(run.artifacts[edge], run.id, url) for edge in kept)]
        case RunStatus.ERROR:
            return [Line(f"{run.id}: ERROR{took}: {_reason(run)}")]
        case _:
            return [Line(f"{run.id}: {run.status}{took} ({run.status_reason})")]


def _where(artifact: ArtifactAnswer, run_id: str, url: str) -> Line:
    place = f"{url}/api/v1/runs/{run_id}/artifacts/{artifact.edge_name}"
    return Line(f"{artifact.edge_name}: {format_size(artifact.size)} {artifact.content_type}, at {place}")


def _reason(run: FlowRun) -> str:
    if run.error is None:
        return run.status_reason or "no reason was given"
    where = f"node {run.error.node_id}: " if run.error.node_id else ""
    return f"{where}{run.error.message} ({run.error.code})"
