"""`pup call`: a run of a flow that a server keeps. How it goes is told on standard error, its outputs on the other."""

import asyncio
import io
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from pydantic import JsonValue

from pupload.answers.runs import AnsweredRun, FlowRun, OutputAnswer
from pupload.cli.exits import ExitCode, UsageError
from pupload.cli.plain import Plain
from pupload.cli.trial import Trial, exit_code_of_run, seen_through, shown_on
from pupload.cli.view import printable
from pupload.cli.wishes import Wishes, pairs, require_files
from pupload.client.client import AsyncClient
from pupload.client.how import How, Input
from pupload.client.transfers import size_of
from pupload.units import format_size


@dataclass(frozen=True, slots=True)
class Wish:
    """What is called, with which files, and where its outputs go."""

    flow: str
    files: dict[str, Path]
    outputs: dict[str, Path]
    how: How

    @classmethod
    def read(
        cls,
        flow: str,
        inputs: list[str],
        parameters: list[str],
        outputs: list[str],
        *,
        message: str | None = None,
        version: str | None = None,
        session: str | None = None,
        timeout: str | None = None,
    ) -> Self:
        """The wish in the arguments. Errors: UsageError."""
        files = pairs("-i", inputs)
        require_files(files)
        how: How = {"message": message, "version": version, "session_id": session, "timeout": timeout}
        return cls(flow, files, pairs("-o", outputs), how | {"parameters": dict(map(_parameter, parameters))})


def _parameter(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise UsageError(f"-p {text}: write it as -p NAME=VALUE")
    return name, value


def call_flow(url: str, wish: Wish, *, quiet: bool, as_json: bool) -> ExitCode:
    """The exit code of a run of the flow on the server at `url`; Ctrl-C cancels the run."""
    return asyncio.run(conduct(url, wish, quiet=quiet, as_json=as_json))


async def conduct(url: str, wish: Wish, *, quiet: bool, as_json: bool) -> ExitCode:
    """As `call_flow`, in a running event loop."""
    show = Plain(io.StringIO()) if quiet else shown_on(sys.stderr)
    wishes = Wishes(flow={}, nodedefs=[], nodes=[], results=[], inputs={}, outputs=wish.outputs, output_dir=None)
    async with AsyncClient(url) as client:
        run = await seen_through(Called(client, wishes, show, wish=wish))
    if as_json and run is not None:
        sys.stdout.write(json.dumps(run.wire(), indent=2) + "\n")
    elif isinstance(run, AnsweredRun):
        outputs = {edge: output for edge, output in run.outputs.items() if edge not in wish.outputs}
        sys.stdout.writelines(told(outputs, f"{client.base_url}/api/v1/runs/{run.id}/artifacts"))
    if quiet and run is not None and run.error is not None:
        sys.stderr.write(f"pup: {run.id}: {printable(run.error.message)} ({run.error.code})\n")
    return exit_code_of_run(run)


@dataclass(slots=True)
class Called(Trial):
    """One run of a flow that is kept, from its request to its outputs."""

    wish: Wish = field(kw_only=True)

    async def begun(self) -> FlowRun:
        """The new run, its files sent before."""
        inputs: dict[str, Input] = {edge: await self._kept(edge, path) for edge, path in self.wish.files.items()}
        return await (await self.client.run_async(self.wish.flow, inputs, **self.wish.how)).poll()

    async def ended(self) -> FlowRun:
        """The run with its outputs."""
        return (await self.client.job(self.run_id).result()).answer

    async def _kept(self, edge: str, path: Path) -> Input:
        name = f"{path.name} → {edge}"
        kept = await self.client.files.put(path, progress=self.show.transfer(name, size_of(path)))
        self.show.transferred(name)
        return kept


def told(outputs: dict[str, OutputAnswer], place: str) -> list[str]:
    """The lines that say what came out: a text alone as it is, several by their edges; of others, where they are."""
    if len(outputs) == 1 and (text := _text(next(iter(outputs.values())).value)) is not None:
        return [text if text.endswith("\n") else text + "\n"]
    return [f"{edge}: {_shown(output, f'{place}/{edge}')}\n" for edge, output in outputs.items()]


def _shown(output: OutputAnswer, place: str) -> str:
    text = _text(output.value)
    return f"{format_size(output.size)} {output.content_type}, at {place}" if text is None else printable(text.rstrip())


def _text(value: JsonValue) -> str | None:
    """The value as it is printed; None where there is none."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
