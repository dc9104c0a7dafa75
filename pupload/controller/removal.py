"""What goes away: a run with its objects, and objects that nothing names."""

from pupload.controller.service import Service
from pupload.controller.stores import Stores
from pupload.db.runs import no_such_run
from pupload.db.sql import SQL
from pupload.errors import Conflict
from pupload.flow.plan import DEFAULT_STORE, Plan
from pupload.run.state import RunID

_AT_ONCE = 500


class Removal:
    """Removes runs and their leftovers. Objects go first: a row without objects is found again, the reverse is not."""

    def __init__(self, service: Service, stores: Stores) -> None:
        self._service, self._stores = service, stores

    async def sweep(self, run_id: RunID) -> None:
        """Remove the run's objects that no artifact names."""
        plan, referenced = await self._known(run_id)
        await self._remove(run_id, plan, keep=referenced)
        async with self._service.database.connection() as connection:
            await connection.execute(SQL["mark_swept"], run_id)

    async def delete(self, run_id: RunID) -> None:
        """Remove the run with everything that was made for it; objects under a key of a well's own are kept.

        Errors: NotFound; Conflict while it has not ended.
        """
        async with self._service.database.connection() as connection:
            header = await connection.fetchrow(SQL["run_header"], run_id)
        if header is None:
            raise no_such_run(run_id)
        if header["finished_at"] is None:
            raise Conflict("the run has not ended; cancel it first", code="RUN_NOT_ENDED")
        plan, _ = await self._known(run_id)
        await self._remove(run_id, plan, keep=frozenset())
        async with self._service.database.connection() as connection:
            await connection.execute(SQL["delete_run"], run_id)

    async def _known(self, run_id: RunID) -> tuple[Plan, frozenset[str]]:
        async with self._service.database.connection() as connection:
            plan = await self._service.plans.get(connection, run_id)
            rows = await connection.fetch(SQL["referenced_keys"], run_id)
        return plan, frozenset(row["key"] for row in rows)

    async def _remove(self, run_id: RunID, plan: Plan, *, keep: frozenset[str]) -> None:
        for name in {edge.store for edge in plan.edges.values()} | {DEFAULT_STORE}:
            store = await self._stores.of_run(run_id, name)
            doomed = [head.key async for head in store.list(f"{run_id}/") if head.key not in keep]
            for start in range(0, len(doomed), _AT_ONCE):
                await store.delete(doomed[start : start + _AT_ONCE])
