"""What goes away: a run with its objects, objects that nothing names, and objects whose time is over.

An object that another run names stays until the last one that names it goes: see `pupload/db/origins.py`.
"""

import json
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import asdict
from datetime import timedelta

import asyncpg

from pupload.controller.service import Service
from pupload.controller.stores import Stores
from pupload.db.origins import is_run
from pupload.db.pool import Connection
from pupload.db.runs import lock_run, no_such_run
from pupload.db.sql import SQL
from pupload.errors import Conflict, PuploadError
from pupload.failpoints import reach
from pupload.flow.plan import DEFAULT_STORE, Edge, Plan, Source
from pupload.run.commands import Step
from pupload.run.state import RunID
from pupload.stores.base import Store

_LOG = logging.getLogger(__name__)
_AT_ONCE = 500

Abandon = Callable[[RunID], Awaitable[None]]
"""Lets go of what the stores keep for a run and do not list, such as parts of unfinished uploads."""

_CLOCK_SKEW = timedelta(seconds=5)


class Removal:
    """Removes runs and their leftovers. Objects go first: a row without objects is found again, the reverse is not."""

    def __init__(self, service: Service, stores: Stores, abandon: Abandon) -> None:
        self._service, self._stores, self._abandon = service, stores, abandon

    async def sweep(self, run_id: RunID) -> None:
        """Remove the run's objects that no artifact names."""
        plan, referenced = await self._known(run_id)
        await self._remove(run_id, plan, keep=referenced)
        await reach("reconcile.swept")
        async with self._service.database.connection() as connection:
            await connection.execute(SQL["mark_swept"], run_id)

    async def delete(self, run_id: RunID) -> None:
        """Remove the run with everything that was made for it; objects under a key of a well's own are kept, and what
        another run names.

        Errors: NotFound; Conflict while it has not ended.
        """
        await self._condemn(run_id)
        await reach("removal.condemned")
        async with self._service.database.connection() as connection:
            plan = await self._service.plans.get(connection, run_id)
            borrowed = await connection.fetch(SQL["borrowed_objects"], run_id)
        await self._abandon(run_id)
        await self._remove(run_id, plan, keep=None)
        await self._let_go(borrowed)
        await reach("removal.objects_gone")
        await self._service.database.transact(lambda connection: _forget(connection, run_id, plan))

    async def _condemn(self, run_id: RunID) -> None:
        async with self._service.database.connection() as connection:
            if await connection.fetchval(SQL["condemn_run"], run_id) is not None:
                return
            if await connection.fetchrow(SQL["run_header"], run_id) is None:
                raise no_such_run(run_id)
        raise Conflict("the run has not ended; cancel it first", code="RUN_NOT_ENDED")

    async def _known(self, run_id: RunID) -> tuple[Plan, frozenset[str]]:
        async with self._service.database.connection() as connection:
            plan = await self._service.plans.get(connection, run_id)
            rows = await connection.fetch(SQL["referenced_keys"], run_id)
        return plan, frozenset(row["key"] for row in rows)

    async def _remove(self, run_id: RunID, plan: Plan, *, keep: frozenset[str] | None) -> None:
        """Remove what lies under the run's own folder; `keep` None leaves what a run that stays names."""
        for name in {edge.store for edge in plan.edges.values()} | {DEFAULT_STORE}:
            store = await self._stores.of_run(run_id, name)
            found = [head.key async for head in store.list(f"{run_id}/")]
            stay = await self._named(run_id, found) if keep is None else keep
            await _delete(store, [key for key in found if key not in stay])

    async def _let_go(self, borrowed: Iterable[asyncpg.Record]) -> None:
        """Remove what only this run still named of other runs' objects."""
        keys = defaultdict[tuple[str, str], list[str]](list)
        for row in borrowed:
            if is_run(row["origin"]) and row["key"].startswith(f"{row['origin']}/"):
                keys[row["origin"], row["store"]].append(row["key"])
        for (origin, name), theirs in keys.items():
            stay = await self._named(origin, theirs)
            await _delete(await self._stores.of_owner(RunID(origin), name), [key for key in theirs if key not in stay])

    async def _named(self, origin: str, keys: Collection[str]) -> frozenset[str]:
        """Those of the origin's keys that a run which stays names."""
        async with self._service.database.connection() as connection:
            rows = await connection.fetch(SQL["named_keys"], origin, list(keys))
        return frozenset(row["key"] for row in rows)

    async def expired_objects(self) -> None:
        """Artifacts of ended runs whose lifetime is over: their runs have them no more."""
        async with self._service.database.connection() as connection:
            due = await connection.fetch(SQL["due_expiries"])
        for row in due:
            try:
                await self.expire(RunID(row["run_id"]), Edge(row["edge"]))
            except PuploadError as error:
                _LOG.warning("edge %s of run %s outlives its time: %s", row["edge"], row["run_id"], error)

    async def expire(self, run_id: RunID, edge: Edge) -> None:
        """Take the artifact from the run, and its object from the store unless another run names it.

        Errors: NotFound when the run is gone.
        """

        async def forget(connection: Connection) -> asyncpg.Record | None:
            await lock_run(connection, run_id)
            await connection.execute(SQL["forget_artifact"], run_id, edge)
            return await connection.fetchrow(SQL["expiry"], run_id, edge)

        expiry = await self._service.database.transact(forget)
        if expiry is None:
            return
        origin = expiry["origin"] or run_id
        if is_run(origin) and not await self._named(origin, [expiry["key"]]):
            await self._remove_one(expiry, under=f"{origin}/")
        async with self._service.database.connection() as connection:
            await connection.execute(SQL["mark_expired"], run_id, edge)

    async def unneeded_stores(self) -> None:
        """Ways into stores of removed runs in which nobody names anything any more."""
        async with self._service.database.connection() as connection:
            await connection.execute(SQL["forget_left_stores"])

    async def has_expired(self, run_id: RunID, edge: Edge) -> bool:
        """True for an edge whose object the run had for the time of its well."""
        async with self._service.database.connection() as connection:
            return bool(await connection.fetchval(SQL["has_expired"], run_id, edge))

    async def _remove_one(self, expiry: asyncpg.Record, under: str) -> None:
        """A key of the well's own may have been written again since, by a run that is to keep it."""
        owner = RunID(expiry["origin"] or expiry["run_id"])
        store, key = await self._stores.of_owner(owner, expiry["store"]), expiry["key"]
        if not key.startswith(under):
            head = await store.head(key)
            if head is None or head.etag != expiry["etag"] or head.modified > expiry["finished_at"] + _CLOCK_SKEW:
                return
        await store.delete([key])


async def _forget(connection: Connection, run_id: RunID, plan: Plan) -> None:
    """The rows of the run go, but for how to reach what others name in the stores that it brought."""
    if plan.stores:
        declared = [json.dumps(asdict(store)) for store in plan.stores.values()]
        await connection.execute(SQL["leave_stores"], run_id, list(plan.stores), declared)
    await connection.execute(SQL["delete_run"], run_id)


async def note_lifetimes(connection: Connection, step: Step) -> None:
    """Follow the end of a run: its artifacts with a lifetime begin to age."""
    run = step.run
    if run.finished_at is None:
        return
    aging = {edge.name: edge.lifetime_s for edge in run.plan.edges.values() if edge.source is not Source.STATIC}
    lifetimes = {name: timedelta(seconds=lifetime_s) for name, lifetime_s in aging.items() if lifetime_s is not None}
    if lifetimes:
        await connection.execute(SQL["insert_expiries"], run.id, list(lifetimes), list(lifetimes.values()))


async def _delete(store: Store, keys: Sequence[str]) -> None:
    for start in range(0, len(keys), _AT_ONCE):
        await store.delete(keys[start : start + _AT_ONCE])
