"""Objects awaited from outside: noticed at once where the store tells, and by looking in any case.

The database says what is awaited; what is kept here can be lost at any time. A hint (the store's own event, the
client's word that it is done) only makes the next look come now.
"""

import asyncio
import logging
import os.path
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from pupload.config import ControllerConfig
from pupload.controller.service import Service
from pupload.controller.stores import Stores
from pupload.db.pool import Connection
from pupload.db.runs import lock_run
from pupload.db.sql import SQL
from pupload.db.writing import append_records
from pupload.errors import Conflict, InvalidRequest, NotFound, PuploadError, TooLarge
from pupload.flow.plan import Edge
from pupload.run.commands import Record, RecordType
from pupload.run.state import Artifact, RunID
from pupload.stores.base import Head, Store
from pupload.units import format_size

_LOG = logging.getLogger(__name__)
_MANY = 8
_LOOKS_AT_ONCE = 16
_CLOCK_SKEW = timedelta(seconds=5)
_WATCH_AGAIN_S = 1.0
_WATCH_AGAIN_MAX_S = 60.0


@dataclass(frozen=True, slots=True)
class Awaited:
    """An object that a run waits for. `hooked` ones come through the server only."""

    run_id: RunID
    edge: Edge
    store: str
    key: str
    since: datetime
    max_size_bytes: int
    hooked: bool = False


@dataclass(slots=True)
class _Schedule:
    """When to look for an awaited object next. Units: `due` seconds on the monotonic clock."""

    due: float
    wait_s: float


class Uploads:
    """Looks for awaited objects and tells their runs."""

    def __init__(self, config: ControllerConfig, service: Service, stores: Stores) -> None:
        self._config, self._service, self._stores = config, service, stores
        self._schedules: dict[Awaited, _Schedule] = {}
        self._wake = asyncio.Event()
        self._asked: set[tuple[RunID, str]] = set()
        # Apart, so that stores which flows bring, and which may hang, hold up none of the server's own.
        self._own_looks = asyncio.Semaphore(_LOOKS_AT_ONCE)
        self._foreign_looks = asyncio.Semaphore(_LOOKS_AT_ONCE)

    def expect(self, uploads: Iterable[Awaited]) -> None:
        """Begin to look for these; those that are known stay as they are."""
        now = time.monotonic()
        for upload in uploads:
            if upload.hooked:
                continue
            first_s = self._config.upload_poll_s
            self._schedules.setdefault(upload, _Schedule(now + first_s, first_s))
        self._wake.set()

    async def awaited_by(self, run_id: RunID) -> list[Awaited]:
        """What the run still waits for, in the order of its edges' names."""
        async with self._service.database.connection() as connection:
            return [_awaited(row) for row in await connection.fetch(SQL["uploads_of_run"], run_id)]

    async def run(self) -> None:
        """Look, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_up())
            group.create_task(self._poll())
            if self._config.notifications:
                for store in self._stores.server_stores():
                    group.create_task(self._watch(store))

    async def complete(self, run_id: RunID, edge: Edge) -> None:
        """The client says that its upload is done: look now.

        Errors: NotFound for an edge that awaits nothing; Conflict while there is no object.
        """
        upload = await self.find(run_id, edge)
        if upload is not None and not await self._look([upload]):
            raise Conflict(f"there is no object for edge {edge!r} yet; PUT it first", code="UPLOAD_MISSING")

    async def put(
        self, run_id: RunID, edge: Edge, chunks: AsyncIterator[bytes], size_bytes: int, content_type: str
    ) -> None:
        """Store the bytes as the object of an awaited edge, through the server.

        Errors: NotFound for an edge that awaits nothing; Conflict when it has its object; TooLarge.
        """
        upload = await self.find(run_id, edge)
        if upload is None:
            raise settled(edge)
        if size_bytes > upload.max_size_bytes:
            raise TooLarge(f"edge {edge!r} takes at most {format_size(upload.max_size_bytes)}")
        store = await self._stores.of_run(run_id, upload.store)
        head = await store.put_stream(await self.key_of_its_own(upload), chunks, size_bytes, content_type)
        await self.settle(upload, head)

    async def settle(self, upload: Awaited, head: Head) -> None:
        """Make the object that of the edge.

        Errors: Conflict when the edge has another, or the run is over.
        """
        artifact = _artifact(upload, head)
        accepted = await self._service.receive(upload.run_id, artifact)
        if not accepted and not await self.is_accepted(upload.run_id, upload.edge, head):
            raise settled(upload.edge)
        self._schedules.pop(upload, None)

    async def key_of_its_own(self, upload: Awaited) -> str:
        """A key that no other request writes, so that a second upload cannot change what the first one was accepted
        for; where the well has a key, that is the key, and what was accepted is known by its etag."""
        async with self._service.database.connection() as connection:
            plan = await self._service.plans.get(connection, upload.run_id)
        if plan.edges[upload.edge].key is not None:
            return upload.key
        folder, _, name = upload.key.rpartition("/")
        return f"{folder}/{secrets.token_hex(4)}-{name}"

    async def is_accepted(self, run_id: RunID, edge: Edge, head: Head) -> bool:
        """True when these very bytes are the edge's object, noticed in the store before anybody could tell of them."""
        async with self._service.database.connection() as connection:
            rows = await connection.fetch(SQL["artifacts_of_edges"], run_id, [edge])
        return bool(rows) and (rows[0]["key"], rows[0]["etag"]) == (head.key, head.etag)

    async def find(self, run_id: RunID, edge: Edge) -> Awaited | None:
        """The awaited object; None when it has come, or is not wanted any more.

        Errors: NotFound for an edge that awaits nothing.
        """
        async with self._service.database.connection() as connection:
            row = await connection.fetchrow(SQL["upload"], run_id, edge)
        if row is None:
            raise NotFound(f"run {run_id!r} awaits no upload for an edge {edge!r}", code="EDGE_NOT_FOUND")
        return _awaited(row) if row["state"] == "awaiting" else None

    async def _keep_up(self) -> None:
        """Follow the database: other controllers make runs too, and runs end while they wait."""
        while True:
            try:
                async with self._service.database.connection() as connection:
                    rows = await connection.fetch(SQL["awaited_uploads"])
                awaited = [_awaited(row) for row in rows]
                self._forget(set(self._schedules) - set(awaited))
                self.expect(awaited)
            except PuploadError as error:
                _LOG.warning("cannot read what is awaited: %s", error)
            await asyncio.sleep(self._config.reconcile_s)

    def _forget(self, uploads: Collection[Awaited]) -> None:
        for upload in uploads:
            # One that came after the rows were read is younger than its first wait.
            if self._schedules[upload].wait_s > self._config.upload_poll_s:
                del self._schedules[upload]

    async def _poll(self) -> None:
        async with asyncio.TaskGroup() as looks:
            while True:
                now = time.monotonic()
                due = [upload for upload, schedule in self._schedules.items() if schedule.due <= now]
                self._reschedule(due, now)
                for group in _groups(due):
                    looks.create_task(self._look_alone(group))
                await self._sleep_until_due()

    async def _look_alone(self, uploads: Sequence[Awaited]) -> None:
        """One look at a time for a run in a store: one that does not answer is not asked again meanwhile."""
        asked = (uploads[0].run_id, uploads[0].store)
        if asked in self._asked:
            return
        self._asked.add(asked)
        try:
            await self._look_quietly(uploads)
        finally:
            self._asked.discard(asked)

    def _reschedule(self, uploads: Sequence[Awaited], now: float) -> None:
        for upload in uploads:
            schedule = self._schedules[upload]
            schedule.wait_s = min(schedule.wait_s * 2, self._config.upload_poll_max_s)
            schedule.due = now + schedule.wait_s

    async def _sleep_until_due(self) -> None:
        soonest = min((schedule.due for schedule in self._schedules.values()), default=time.monotonic() + 60)
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, soonest - time.monotonic())):
                await self._wake.wait()

    async def _watch(self, store: Store) -> None:
        again_s = _WATCH_AGAIN_S
        while True:
            try:
                hints = store.watch()
                if hints is None:
                    return
                async for key in hints:
                    again_s = _WATCH_AGAIN_S
                    await self._hint(store.name, key)
            except PuploadError as error:
                _LOG.warning("store %s does not tell of uploads, looking meanwhile: %s", store.name, error)
            await asyncio.sleep(again_s)
            again_s = min(2 * again_s, _WATCH_AGAIN_MAX_S)

    async def _hint(self, store: str, key: str) -> None:
        for upload in [known for known in self._schedules if known.key == key and known.store == store]:
            await self._look_quietly([upload])

    async def _look_quietly(self, uploads: Sequence[Awaited]) -> None:
        try:
            await self._look(uploads)
        except NotFound:
            self._forget_run(uploads)
        except PuploadError as error:
            _LOG.warning("cannot look for uploads of run %s: %s", uploads[0].run_id, error)

    def _forget_run(self, uploads: Sequence[Awaited]) -> None:
        for upload in uploads:
            self._schedules.pop(upload, None)

    async def _look(self, uploads: Sequence[Awaited]) -> bool:
        """Tell the run of those that are there; True when all are. All are of one run and store."""
        own = uploads[0].store in self._stores.names()
        async with self._own_looks if own else self._foreign_looks:
            store = await self._stores.of_run(uploads[0].run_id, uploads[0].store)
            heads = await _heads(store, [upload.key for upload in uploads])
        accepted = [await self._accept(store, upload, heads.get(upload.key)) for upload in uploads]
        return all(accepted)

    async def _accept(self, store: Store, upload: Awaited, head: Head | None) -> bool:
        if head is None or head.modified < upload.since - _CLOCK_SKEW:
            return False
        if head.size_bytes > upload.max_size_bytes and not await self._came_in_parts(upload, head):
            await self._refuse(store, upload, head)
            return False
        await self._service.receive(upload.run_id, _artifact(upload, head))
        self._schedules.pop(upload, None)
        return True

    async def _came_in_parts(self, upload: Awaited, head: Head) -> bool:
        """True when the size was allowed before: what comes in parts may have more than what comes at once."""
        whose = (upload.run_id, upload.edge, upload.key, head.size_bytes)
        async with self._service.database.connection() as connection:
            return bool(await connection.fetchval(SQL["has_session_for"], *whose))

    async def _refuse(self, store: Store, upload: Awaited, head: Head) -> None:
        """Too large an object goes away, and the run goes on waiting: its events say why."""
        await store.delete([upload.key])
        limit, size = format_size(upload.max_size_bytes), format_size(head.size_bytes)
        refused = Record(
            RecordType.WAITING_UPLOADS,
            data={"Edge": upload.edge, "Refused": f"{size} were uploaded, at most {limit} are allowed; upload again"},
        )

        async def tell(connection: Connection) -> None:
            await lock_run(connection, upload.run_id)
            row = await connection.fetchrow(SQL["upload"], upload.run_id, upload.edge)
            # A run that has ended meanwhile has had its last event.
            if row is not None and row["state"] == "awaiting":
                await append_records(connection, upload.run_id, [(refused, head.modified)])

        await self._service.database.transact(tell)


def check_size(size_bytes: int | None) -> int:
    """The announced length of a body.

    Errors: InvalidRequest when there is none.
    """
    if size_bytes is None:
        raise InvalidRequest("send a Content-Length; a body of unknown length is not stored", code="LENGTH_REQUIRED")
    return size_bytes


def settled(edge: Edge) -> Conflict:
    """The error for an upload that comes too late."""
    return Conflict(f"edge {edge!r} has its object already, or the run is over", code="ALREADY_UPLOADED")


def _awaited(row: asyncpg.Record) -> Awaited:
    return Awaited(
        run_id=RunID(row["run_id"]),
        edge=Edge(row["edge"]),
        store=row["store"],
        key=row["key"],
        since=row["created_at"],
        max_size_bytes=row["max_size_bytes"],
        hooked=row["hooked"],
    )


def _artifact(upload: Awaited, head: Head) -> Artifact:
    return Artifact(upload.edge, upload.store, head.key, head.size_bytes, etag=head.etag)


def _groups(uploads: Iterable[Awaited]) -> list[list[Awaited]]:
    groups: dict[tuple[RunID, str], list[Awaited]] = defaultdict(list)
    for upload in uploads:
        groups[upload.run_id, upload.store].append(upload)
    return list(groups.values())


async def _heads(store: Store, keys: Sequence[str]) -> dict[str, Head]:
    """The objects that are there; one listing where many are asked for that share a folder."""
    folder = os.path.commonpath(keys)
    if len(keys) >= _MANY and folder:
        wanted = set(keys)
        return {head.key: head async for head in store.list(f"{folder}/") if head.key in wanted}
    found = await asyncio.gather(*(store.head(key) for key in keys))
    return {head.key: head for head in found if head is not None}
