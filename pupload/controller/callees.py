"""Looks up the flows that a flow names: those that its nodes call, with all that these call, and its evaluations."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from pupload.controller.stores import Stores
from pupload.errors import CallerError
from pupload.flow.callee import NO_CALLEES, Callee, Callees, called, named_flow, references
from pupload.flow.model import Flow
from pupload.flow.nested import FoundFlow, callees_of
from pupload.tiers import Tier

if TYPE_CHECKING:
    from pupload.controller.submission import Definition

Resolve = Callable[[str, str, str | None], Awaitable["Definition"]]
"""What an account's call of a flow by name and version runs. Errors: NotFound; InvalidRequest."""

_MOST_FLOWS = 200


class NamedFlows:
    """What references to flows mean here, now, to an account: also those that stand in a flow which is shared."""

    def __init__(self, resolve: Resolve, stores: Stores, tiers: Mapping[str, Tier]) -> None:
        self.resolve, self._stores, self._tiers = resolve, stores, tiers

    async def callees(self, account: str, flow: Flow, *, kept: bool) -> Callees:
        """What every reference of `flow` means; nothing is looked up for a flow that names none."""
        named = references(flow)
        if not named:
            return NO_CALLEES
        library = await self._library(account, named)
        return await asyncio.to_thread(self._derive, flow, library, flow.name if kept else "")

    async def callee(self, account: str, reference: str) -> Callee:
        """What one reference means."""
        flow = Flow.model_validate({"Nodes": [{"ID": "call", "Uses": reference}]})
        return (await self.callees(account, flow, kept=False))[reference]

    def _derive(self, flow: Flow, library: Mapping[str, FoundFlow | str], name: str) -> Callees:
        return callees_of(flow, library, tiers=self._tiers, stores=self._stores.names(), name=name)

    async def _library(self, account: str, named: Iterable[str]) -> dict[str, FoundFlow | str]:
        library: dict[str, FoundFlow | str] = {}
        waiting = list(named)
        while waiting:
            reference = waiting.pop()
            if reference not in library:
                library[reference] = found = await self._find(account, reference, len(library))
                waiting.extend(called(found.flow) if not isinstance(found, str) else ())
        return library

    async def _find(self, account: str, reference: str, known: int) -> FoundFlow | str:
        name, version = named_flow(reference)
        if known >= _MOST_FLOWS:
            return f"more than {_MOST_FLOWS} flows are called here, all in all; call fewer"
        try:
            definition = await self.resolve(account, name, version)
        except CallerError as error:
            return error.message
        return FoundFlow(name, definition.version, definition.digest, definition.flow, definition.defs)
