"""The stores of a run, by name: the server's own, and those that its flow declares, opened when first needed."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from functools import partial

from pupload.controller.plans import PlanCache
from pupload.controller.secrets import SecretBox
from pupload.db.origins import is_run
from pupload.db.pool import Database
from pupload.db.runs import no_such_run
from pupload.db.sql import SQL
from pupload.errors import Defect, NotFound
from pupload.flow.plan import StorePlan
from pupload.run.state import Artifact, RunID
from pupload.stores.base import Store
from pupload.stores.open import declared, open_store
from pupload.web.addresses import Allowed
from pupload.web.urls import check_store

_MOST_DECLARED = 256


class Stores:
    """Server stores for ever; stores declared in flows as long as they are among the last used."""

    def __init__(
        self, server: Mapping[str, Store], database: Database, plans: PlanCache, box: SecretBox, allowed: Allowed
    ) -> None:
        self._server = dict(server)
        self._guard = partial(check_store, allowed=allowed)
        self._declared: dict[tuple[StorePlan, str], Store] = {}
        self._database, self._plans, self._box = database, plans, box

    def names(self) -> frozenset[str]:
        """The stores that every flow may name."""
        return frozenset(self._server)

    def server(self, name: str) -> Store:
        """The server's own store of this name.

        Errors: Defect for a store that it does not have.
        """
        if name not in self._server:
            raise Defect(f"this server has no store {name!r}; its configuration had one before")
        return self._server[name]

    def server_stores(self) -> Iterable[Store]:
        """The server's own stores."""
        return self._server.values()

    async def declared(self, plan: StorePlan, secret: str) -> Store:
        """The store that a flow declares itself."""
        known = self._declared.get((plan, secret))
        if known is None:
            opened = await asyncio.to_thread(open_store, declared(plan, secret, self._guard))
            known = self._declared.setdefault((plan, secret), opened)
        if len(self._declared) > _MOST_DECLARED:
            await self._declared.pop(next(iter(self._declared))).close()
        return known

    async def of_run(self, run_id: RunID, name: str) -> Store:
        """The store that `name` means in this run.

        Errors: NotFound when the run is gone; InvalidConfig when its secret cannot be read any more.
        """
        async with self._database.connection() as connection:
            own = (await self._plans.get(connection, run_id)).stores.get(name)
            sealed = await connection.fetchval(SQL["load_secret"], run_id, name) if own else None
        if own is not None:
            if sealed is None:
                # Its plan is remembered here, the run is not.
                raise no_such_run(run_id)
            return await self.declared(own, self._box.open(sealed))
        if name not in self._server:
            raise Defect(f"run {run_id} names the store {name!r}, which this server does not have")
        return self._server[name]

    async def of_artifact(self, run_id: RunID, artifact: Artifact) -> Store:
        """The store that keeps an artifact of this run: its name is the one that the object's owner gives it.

        Errors: as `of_run`.
        """
        if not is_run(artifact.origin):
            return await self.of_run(run_id, artifact.store)
        return await self.of_owner(RunID(artifact.origin), artifact.store)

    async def of_owner(self, owner: RunID, name: str) -> Store:
        """The store that `name` means, or meant, in a run whose objects others name, though it may be gone.

        Errors: as `of_run`; NotFound when nobody names any object of it there.
        """
        try:
            return await self.of_run(owner, name)
        except NotFound:
            async with self._database.connection() as connection:
                left = await connection.fetchrow(SQL["left_store"], owner, name)
            if left is not None:
                return await self.declared(StorePlan(**json.loads(left["plan"])), self._box.open(left["encrypted"]))
            if name not in self._server:
                raise
            return self._server[name]

    async def close(self) -> None:
        """Close what was opened for flows; the server's stores belong to who made them."""
        for store in self._declared.values():
            await store.close()
