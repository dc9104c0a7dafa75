"""Looks, again and again, for what no notification told: it alone keeps everything right, however late.

Every look is safe on any number of controllers at once: what it does is an event like any other, stale the second
time.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from random import random

from pupload import queue
from pupload.config import ControllerConfig
from pupload.controller.removal import Removal
from pupload.controller.service import Service, queue_of
from pupload.db.pool import Connection
from pupload.db.sql import SQL
from pupload.errors import DatabaseUnavailable, LostLease, NotFound, PuploadError
from pupload.failpoints import reach
from pupload.flow.plan import NodeID, Reason
from pupload.queue import QueuedAttempt
from pupload.run.events import NodeFailed, RunTimedOut
from pupload.run.state import RunID

Look = tuple[Callable[[], Awaitable[None]], float]
"""What is looked for by another part, and every how many seconds."""

_LOG = logging.getLogger(__name__)
_HISTORY_S = 600.0
_SWEEP_GRACE_S = 60.0
_LONGEST_LOOK_S = 900.0


class Reconciler:
    """The looks of one controller."""

    def __init__(
        self, config: ControllerConfig, service: Service, removal: Removal, tiers: list[str], looks: Sequence[Look] = ()
    ) -> None:
        self._config, self._service, self._removal, self._tiers = config, service, removal, tiers
        self._looks = looks

    async def run(self) -> None:
        """Look, for ever."""
        often_s = self._config.reconcile_s
        async with asyncio.TaskGroup() as group:
            for look, every_s in (
                (self.lost_attempts, often_s),
                (self.overdue_runs, often_s),
                (self.unqueued_nodes, often_s),
                (self.unreferenced_objects, 10 * often_s),
                (self.expired_runs, 10 * often_s),
                (self.queue_history, _HISTORY_S),
                *self._looks,
            ):
                group.create_task(_repeat(look, every_s))

    async def lost_attempts(self) -> None:
        """Attempts whose lease is over, or whose worker started anew."""
        async with self._service.database.connection() as connection:
            lost = await connection.fetch(SQL["lost_attempts"])
        for row in lost:
            with alone("attempt of run", row["run_id"]):
                # One that cannot be given up now keeps no other from it.
                async with asyncio.timeout(self._config.lease_s):
                    await self.lose(RunID(row["run_id"]), NodeID(row["node_id"]), row["attempt"])

    async def lose(self, run_id: RunID, node: NodeID, attempt: int) -> None:
        """Give up an attempt, unless a beat came in between."""

        async def still_lost(connection: Connection) -> bool:
            return await connection.fetchval(SQL["lose_attempt"], run_id, node, attempt) is not None

        await reach("reconcile.lost")
        try:
            await self._service.apply(
                run_id,
                lambda at: NodeFailed(
                    at,
                    node,
                    attempt,
                    Reason.LOST,
                    "the worker was lost",
                    jitter=random(),  # noqa: S311 - spreads retries, guards nothing
                ),
                guard=still_lost,
            )
            _LOG.warning("attempt %d of node %s in run %s was lost with its worker", attempt, node, run_id)
        except (LostLease, NotFound):
            _LOG.info("attempt %d of node %s in run %s was not lost after all", attempt, node, run_id)

    async def overdue_runs(self) -> None:
        """Runs past their deadline."""
        async with self._service.database.connection() as connection:
            rows = await connection.fetch(SQL["overdue_runs"])
        for row in rows:
            with alone("deadline of run", row["id"]):
                await self._service.apply(RunID(row["id"]), RunTimedOut)

    async def unqueued_nodes(self) -> None:
        """Nodes that wait for a worker and are in no queue."""
        async with self._service.database.connection() as connection:
            rows = await connection.fetch(SQL["unqueued_nodes"])
        for row in rows:
            with alone("unqueued node of run", row["run_id"]):
                await self._queue_again(RunID(row["run_id"]), NodeID(row["node_id"]), row["attempt"])

    async def _queue_again(self, run_id: RunID, node: NodeID, attempt: int) -> None:
        async def enqueue(connection: Connection) -> None:
            plan = await self._service.plans.get(connection, run_id)
            await queue.enqueue(connection, [QueuedAttempt(run_id, node, attempt, queue_of(plan.nodes[node]))])

        await self._service.database.transact(enqueue)

    async def unreferenced_objects(self) -> None:
        """Objects of ended runs that no artifact names: those of attempts that did not count."""
        grace = timedelta(seconds=self._config.lease_s + _SWEEP_GRACE_S)
        async with self._service.database.connection() as connection:
            rows = await connection.fetch(SQL["runs_to_sweep"], grace)
        for row in rows:
            with alone("leftovers of run", row["id"]):
                await self._removal.sweep(RunID(row["id"]))

    async def expired_runs(self) -> None:
        """Runs beyond their retention."""
        async with self._service.database.connection() as connection:
            rows = await connection.fetch(SQL["expired_runs"], timedelta(seconds=self._config.retention_s))
        for row in rows:
            with alone("end of retention of run", row["id"]):
                await self._removal.delete(RunID(row["id"]))

    async def queue_history(self) -> None:
        """The queue engine's own log, which nobody reads."""
        await self._service.database.transact(
            lambda connection: queue.forget_history(connection, [*self._tiers, *queue.ChoreKind])
        )


@contextmanager
def alone(what: str, run_id: str) -> Iterator[None]:
    """One run that cannot be helped now (its own store is gone, say) holds up no other, nor the look itself."""
    try:
        yield
    except DatabaseUnavailable:
        # That concerns all of them.
        raise
    except PuploadError as error:
        _LOG.warning("%s %s: %s", what, run_id, error)
    except TimeoutError:
        _LOG.warning("%s %s: not done in time; looked for again", what, run_id)
    except Exception:  # noqa: BLE001 - logged, and looked for again: see above
        _LOG.exception("%s %s", what, run_id)


async def _repeat(look: Callable[[], Awaitable[None]], every_s: float) -> None:
    while True:
        try:
            async with asyncio.timeout(_LONGEST_LOOK_S):
                await reach("reconcile.look")
                await look()
        except PuploadError as error:
            _LOG.warning("%s: %s", getattr(look, "__name__", "look"), error)
        except Exception:  # noqa: BLE001 - see below
            # One look that fails must not end the others; it is tried again, and says so each time.
            _LOG.exception("%s failed", getattr(look, "__name__", "look"))
        await asyncio.sleep(every_s)
