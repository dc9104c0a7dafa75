"""Requests for runs, made so that sending them twice makes one run, and the wait for what comes of them."""

import uuid
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from pupload.answers.evals import EvalAnswer
from pupload.answers.runs import AnsweredRun, FlowRun, OutputMap
from pupload.answers.uploads import FileAnswer
from pupload.client.files import AsyncFiles
from pupload.client.how import FlowLike, How, Input, Json, documents, members_of, plain, refuse_nodedefs
from pupload.client.reading import path_of, read
from pupload.client.results import AsyncPausedResult, AsyncRunResult, is_paused
from pupload.client.runs import RunCalls
from pupload.client.streams import events_of, is_last, is_over
from pupload.client.transport import Call, Transport

ASKS = "tool_calls_required"
_LOOK_S = 0.5
_WAITED_FOR_S = 600.0
"""Longest silence of a server that waits for a run."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for a run. `waits_for_evals`: its caller wants what evaluations find, too."""

    path: str
    body: Mapping[str, Json]
    key: str
    waits_for_evals: bool = False

    def call(self, way: str = "", *, query: Mapping[str, str] | None = None, silence_s: float | None = None) -> Call:
        """The call that makes the run, or finds it."""
        key = {"Idempotency-Key": self.key}
        return Call("POST", self.path + way, query or {}, self.body, key, silence_s=silence_s)


class Asking:
    """Makes runs, and waits for them."""

    def __init__(self, transport: Transport, files: AsyncFiles) -> None:
        self.transport, self._files = transport, files
        self.runs = RunCalls(transport)

    async def for_flow(self, flow: str | FlowLike, inputs: Mapping[str, Input] | None, how: How) -> Asked:
        """The request for a run of a flow, its files sent. Errors: TypeError; Malformed; as any call."""
        if isinstance(flow, str):
            refuse_nodedefs(how)
            return await self.at(path_of("flows", flow, "runs"), {}, inputs, how)
        return await self.at(path_of("runs"), documents(flow, how.get("nodedefs") or ()), inputs, how)

    async def at(self, path: str, body: Mapping[str, Json], inputs: Mapping[str, Input] | None, how: How) -> Asked:
        """The request that has `body`, and what is said beside it."""
        members = members_of(how)
        given = {"Inputs": await self.inputs(inputs)} if inputs else {}
        evals = how.get("evals")
        return Asked(
            path,
            {**body, **members, **given},
            how.get("idempotency_key") or uuid.uuid4().hex,
            waits_for_evals=evals is not None and evals.run_mode == "block",
        )

    async def inputs(self, inputs: Mapping[str, Input]) -> dict[str, Json]:
        """The values as the server reads them. Files from here are kept there first."""
        return {edge: await self._input(value) for edge, value in inputs.items()}

    async def _input(self, value: Input) -> Json:
        if isinstance(value, Path | bytes):
            value = await self._files.put(value)
        return {"Uri": value.uri} if isinstance(value, FileAnswer) else plain(value)

    async def begin(self, asked: Asked) -> FlowRun:
        """The new run, or the one that the request has made before."""
        return read(FlowRun, await self.transport.json(asked.call()))

    async def ended(self, asked: Asked) -> AsyncRunResult:
        """What came of the run, once it is over or waits for the client."""
        run = read(AnsweredRun, await self.transport.json(asked.call("/sync", silence_s=_WAITED_FOR_S)))
        if is_paused(run) or (is_over(run) and not _is_pending(run.evals)):
            return self.told(run)
        return await self.awaited(run.id, evals=asked.waits_for_evals)

    async def awaited(self, run_id: str, *, evals: bool = False) -> AsyncRunResult:
        """What came of a run that there is, once it is over or waits for the client."""
        await self._settled(run_id)
        run = await self.seen(run_id)
        if evals and is_over(run):
            run = run.model_copy(update={"evals": await self._judged(run_id)})
        return self.told(run)

    async def _settled(self, run_id: str) -> None:
        asked, types = False, (ASKS, "node_completed", "node_failed")
        async with aclosing(events_of(self.transport, run_id, 0, types)) as events:
            async for event in events:
                # Other branches may go on when a node has asked, so each end of a node may be what was waited for.
                asked = asked or event.type == ASKS
                if is_last(event) or (asked and is_paused(await self.runs.get_run(run_id))):
                    return

    async def _judged(self, run_id: str) -> list[EvalAnswer]:
        found = await self.runs.evals(run_id)
        while _is_pending(found):
            await self.transport.backoff.sleep(_LOOK_S)
            found = await self.runs.evals(run_id)
        return found

    async def seen(self, run_id: str) -> AnsweredRun:
        """The run with the outputs that there are by now."""
        run = await self.runs.get_run(run_id)
        outputs = read(OutputMap, await self.transport.json(Call("GET", path_of("runs", run_id, "outputs"))))
        return AnsweredRun.model_construct(**dict(run), outputs=outputs.root, evals=[])

    def told(self, run: AnsweredRun) -> AsyncRunResult:
        """The run as a result."""
        if not is_paused(run):
            return AsyncRunResult(run, self.runs)

        async def go_on(results: Mapping[str, Json]) -> AsyncRunResult:
            await self.runs.resume(run.id, results)
            return await self.awaited(run.id)

        return AsyncPausedResult(run, self.runs, go_on)


def _is_pending(evals: list[EvalAnswer]) -> bool:
    """True while an evaluation is still to come."""
    return any(each.status == "pending" for each in evals)
