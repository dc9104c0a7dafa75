"""A flow taken step by step. The loop is all here: the server keeps nothing of it."""

import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Unpack

from pupload.answers.runs import FlowRun, RunEvent, StepPaused
from pupload.client.asking import Asked, Asking
from pupload.client.how import How, Input, Json, OverrideParts, plain, refuse_nodedefs
from pupload.client.reading import path_of, read
from pupload.client.results import AsyncRunResult
from pupload.client.streams import SILENCE_S, last_event
from pupload.errors import CallerError
from pupload.flow.overrides import Override

STEP_PAUSED = "step_paused"
_BEGINNING = frozenset({"Inputs", "Message"})
"""What only the first step is told."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step that was taken: its run, with all artifacts that there are by then. `next_node` is "" where none is left.

    A step may have failed; then `repeat` takes it again, with what was changed meanwhile.
    """

    index: int
    run: FlowRun
    next_node: str

    @property
    def ran(self) -> list[str]:
        """The nodes that it ran."""
        return [node for node, state in self.run.node_state.items() if state.attempt]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a loop stands."""

    run_id: str = ""
    index: int = 0
    definition: str = ""
    outputs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def members(self) -> dict[str, Json]:
        """What the call says of it."""
        if not self.run_id:
            return {}
        return {
            "RunID": self.run_id,
            "StepIndex": self.index,
            "Definition": self.definition,
            "AccumulatedOutputs": self.outputs,
        }


class Loop:
    """What is to be different in the steps to come."""

    def __init__(self) -> None:
        self._nested: dict[str, Override] = {}
        self._flat: dict[str, Json] = {}
        self._replaced: Mapping[str, Input] = {}
        self._here: Place | None = None
        self._ahead: Place | None = Place()
        self._remaining = False
        self._last: Step | None = None

    @property
    def last(self) -> Step | None:
        """The step that was taken last."""
        return self._last

    def override(self, node: str, **parts: Unpack[OverrideParts]) -> None:
        """From now on the node runs with these; flags and variables are added to those that were said before.

        Errors: pydantic's ValidationError for a value that is none.
        """
        anew, before = Override.model_validate(parts), self._nested.get(node, Override())
        self._flat = {name: value for name, value in self._flat.items() if name not in _flat_names(node, anew)}
        merged = {"flags": before.flags | anew.flags, "env": before.env | anew.env}
        said = before.model_fields_set | anew.model_fields_set
        kept = {name: getattr(anew if name in anew.model_fields_set else before, name) for name in said}
        self._nested[node] = Override(**kept | {name: merged[name] for name in said & merged.keys()})

    def replace(self, edge: str, value: Input) -> None:
        """From now on the steps read this on the edge; what is stored stays as it is."""
        self._replaced = {**self._replaced, edge: value}

    def run_remaining(self) -> None:
        """The next step is all that is left."""
        self._remaining = True

    def repeat(self) -> None:
        """The next step is the last one again. Errors: CallerError before the first."""
        if self._here is None:
            raise CallerError("there is no step yet that could be repeated", code="NO_STEP")
        self._ahead = self._here


def _flat_names(node: str, override: Override) -> set[str]:
    return {f"{node}.{flag}" for flag in override.flags}


class AsyncStepThrough(Loop):
    """Takes one step with each turn, and is over after the last one, or one that failed."""

    def __init__(self, asking: Asking, flow: str, inputs: Mapping[str, Input] | None, how: How) -> None:
        super().__init__()
        refuse_nodedefs(how)
        self._asking, self._flow, self._inputs, self._how = asking, flow, inputs, how
        self._first: Asked | None = None
        for name, value in (how.get("overrides") or {}).items():
            if isinstance(value, Override | Mapping):
                self._nested[name] = Override.model_validate(value)
            else:
                self._flat[name] = value

    def __aiter__(self) -> AsyncIterator[Step]:
        return self

    async def __anext__(self) -> Step:
        place = self._ahead
        if place is None:
            raise StopAsyncIteration
        asked = await self._asked(place)
        call = asked.call("/step", query={"types": "run_started"}, silence_s=SILENCE_S)
        event = await last_event(self._asking.transport, call)
        self._here, self._remaining = place, False
        self._last = await self._taken(place, event)
        return self._last

    async def result(self) -> AsyncRunResult:
        """What there is after the last step. Errors: CallerError before the first."""
        if self._last is None:
            raise CallerError("no step was taken yet", code="NO_STEP")
        return self._asking.told(await self._asking.seen(self._last.run.id))

    async def _taken(self, place: Place, event: RunEvent) -> Step:
        if event.type != STEP_PAUSED:
            self._ahead = None
            return Step(place.index, await self._asking.runs.get_run(event.run_id), "")
        paused = read(StepPaused, event.data)
        self._ahead = Place(paused.run_id, paused.step_index, paused.definition, paused.accumulated_outputs)
        return Step(place.index, paused.run, paused.next_node)

    async def _asked(self, place: Place) -> Asked:
        if self._first is None:
            self._first = await self._asking.at(path_of("flows", self._flow, "runs"), {}, self._inputs, self._how)
        self._replaced = await self._asking.inputs(self._replaced)
        body = {name: value for name, value in self._first.body.items() if not (place.run_id and name in _BEGINNING)}
        return Asked(self._first.path, body | place.members() | self._edits(), uuid.uuid4().hex)

    def _edits(self) -> dict[str, Json]:
        overrides = self._flat | {node: plain(override) for node, override in self._nested.items()}
        said: dict[str, Json] = {
            "Overrides": overrides,
            "InputOverrides": plain(self._replaced),
            "RunRemaining": self._remaining,
            "SessionID": self._last.run.session_id if self._last else None,
        }
        return {name: value for name, value in said.items() if value}
