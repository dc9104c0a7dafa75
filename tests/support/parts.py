"""The parts of a controller on a real PostgreSQL, without HTTP and its own looks: the test says what comes next."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import cast

from pupload.config import ControllerConfig
from pupload.controller.leasing import KnownWorker
from pupload.controller.reconcile import Reconciler
from pupload.controller.service import Beginning
from pupload.controller.state import Parts
from pupload.controller.wiring import wire
from pupload.controller.workers import add_worker
from pupload.db.creation import NewRun, NewUpload
from pupload.db.pool import Database, open_database
from pupload.flow.plan import Edge, Plan, Source
from pupload.protocol import Assignment, Claim, Finish, Hello, Outcome, OutputFound
from pupload.run.state import Artifact, RunID
from pupload.stores.base import Head, Store
from pupload.tiers import Capacity
from tests.support.rows import RESTING, RunRows, everything_claimable_is_queued_once, fetch_rows

_BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
ROOMY = Capacity(cpu=10_000.0, memory_bytes=2**50, disk_bytes=2**50)


class PaperStore:
    """A store of no bytes, for what only signs URLs and sweeps."""

    name = "default"
    foreign = False

    def sign_get(self, key: str, expires_s: float, *, public: bool, download_name: str = "") -> str:
        return f"paper://{key}"

    async def list(self, prefix: str) -> AsyncIterator[Head]:
        for head in tuple[Head, ...]():
            yield head

    async def delete(self, keys: Sequence[str]) -> None:
        pass

    async def close(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Desk:
    """One controller's parts, with connections of its own."""

    parts: Parts
    reconciler: Reconciler
    config: ControllerConfig

    @property
    def database(self) -> Database:
        """Its pool."""
        return self.parts.service.database

    async def worker(self, name: str, instance: str = "one") -> KnownWorker:
        """A worker of this name, greeted."""
        async with self.database.connection() as connection:
            worker = await self.parts.claims.know(await add_worker(connection, name))
        await self.greet(worker, instance)
        return worker

    async def greet(self, worker: KnownWorker, instance: str) -> None:
        """The worker starts anew."""
        await self.parts.claims.hello(worker, Hello(name=worker.name, instance=instance, version="0", capacity=ROOMY))

    async def create(
        self, run_id: str, plan: Plan, key: str | None = None, body: bytes = b"body"
    ) -> tuple[RunID, bool]:
        """A run of the plan, with the objects of its static edges there."""
        return await self.parts.service.create(*a_new_run(run_id, plan, key, body))

    async def receive(self, run_id: RunID, edge: str) -> bool:
        """The object of an input edge comes."""
        return await self.parts.service.receive(run_id, an_upload(run_id, edge))

    async def claim(self, worker: KnownWorker, instance: str = "one", most: int = 1) -> list[Assignment]:
        """What the worker gets without waiting."""
        return await self.parts.claims.fill(worker, Claim(instance=instance, free=ROOMY, most=most))


@asynccontextmanager
async def a_desk(dsn: str, folder: Path, connections: int = 2, store: Store | None = None) -> AsyncIterator[Desk]:
    """The parts of a controller on this database, as long as the block; its store has no bytes unless given."""
    config = ControllerConfig(port=0, data_dir=folder)
    database = await open_database(dsn, connections)
    parts = wire(config, database, {"default": store or cast("Store", PaperStore())})
    try:
        yield Desk(parts, Reconciler(config, parts.service, parts.removal, list(parts.tiers)), config)
    finally:
        await database.close()


def a_new_run(run_id: str, plan: Plan, key: str | None = None, body: bytes = b"body") -> tuple[NewRun, Beginning]:
    """The run and what is present at its start."""
    uploads = [
        NewUpload(edge.name, edge.store, f"{run_id}/{edge.name}/0", 1000)
        for edge in plan.edges.values()
        if edge.source is Source.UPLOAD
    ]
    present = [an_upload(run_id, edge.name) for edge in plan.edges.values() if edge.source is Source.STATIC]
    new = NewRun(
        RunID(run_id),
        plan,
        timedelta(hours=1),
        uploads,
        {},
        idempotency_key=key,
        request_sha256=body if key else None,
    )
    return new, Beginning(tuple(present))


def an_upload(run_id: str, edge: str) -> Artifact:
    """A small object from outside."""
    return Artifact(Edge(edge), "default", f"{run_id}/{edge}/0", 3, etag="e")


def a_success(assignment: Assignment, absent: Collection[str] = ()) -> Finish:
    """The good end of the attempt, with an object on every output edge but the absent ones."""
    outputs = [
        OutputFound(edge=each.edge, key="", size_bytes=3, sha256="f" * 64, content_type="text/plain")
        for each in assignment.outputs
        if each.edge not in absent
    ]
    return Finish(ref=assignment.ref, outcome=Outcome.SUCCEEDED, exit_code=0, outputs=outputs, absent=sorted(absent))


async def until_blocked(desk: Desk, sessions: int = 1) -> None:
    """Returns when so many sessions of the database wait for a lock that another one holds."""
    async with asyncio.timeout(15), desk.database.connection() as connection:
        while await connection.fetchval(_BLOCKED) < sessions:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.005)


async def deadlocks(desk: Desk) -> int:
    """How often PostgreSQL had to break one since the database was made."""
    async with desk.database.connection() as connection:
        number = await connection.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    return int(number)


async def checked(desk: Desk, run_id: str) -> RunRows:
    """The run's rows, in which everything holds."""
    async with desk.database.connection() as connection:
        rows = await fetch_rows(connection, run_id)
    for holds in (*RESTING, everything_claimable_is_queued_once):
        holds(rows)
    return rows
