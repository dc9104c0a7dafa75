"""Uploads in parts, which can be resumed: what a session is lies in the database, what has arrived in the store.

Who is authoritative: the store, for the parts. A session only says what they must add up to; whoever completes it
looks at what is there, and whoever repeats that finds the object.
"""

import asyncio
import logging
import math
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from pupload.config import ControllerConfig
from pupload.controller.limits import Limits
from pupload.controller.reconcile import alone
from pupload.controller.service import Service
from pupload.controller.stores import Stores
from pupload.controller.uploads import Uploads, settled
from pupload.db.pool import Connection
from pupload.db.room import hold_account
from pupload.db.sql import SQL
from pupload.errors import Conflict, InvalidRequest, NotFound, PuploadError, TooLarge, TooMany
from pupload.failpoints import reach
from pupload.flow.plan import Edge
from pupload.run.state import RunID
from pupload.stores.base import Head, Multipart, Part, SignedRequest, Store
from pupload.units import format_size

_LOG = logging.getLogger(__name__)
_MB = 1024 * 1024
LEAST_PART_BYTES = 5 * _MB
MOST_PART_BYTES = 5 * 1024 * _MB
MOST_PARTS = 10_000
_USUAL_PART_BYTES = 16 * _MB
_STALLED = timedelta(minutes=1)
"""Without a sign for so long, whoever was completing a session is gone."""
_LOOK_AGAIN_S = 0.5
_CLOCK_SKEW = timedelta(seconds=5)
_COME_AGAIN_S = 60.0
"""Only their owner ends what is open."""


@dataclass(frozen=True, slots=True)
class UploadSession:
    """An upload in parts. All parts have `part_size_bytes` but the last, which has what is left."""

    id: str
    run_id: RunID
    edge: Edge
    store: str
    multipart: Multipart
    size_bytes: int
    part_size_bytes: int
    state: str
    """`open`, `completing` or `completed`; `aborting` and `aborted` are one to whoever asks."""
    created_at: datetime
    expires_at: datetime

    @property
    def part_count(self) -> int:
        """How many parts there are to be."""
        return math.ceil(self.size_bytes / self.part_size_bytes)

    @property
    def is_aborted(self) -> bool:
        """True once no part counts any more; some may still be in the store."""
        return self.state in {"aborting", "aborted"}

    def part_bytes(self, number: int) -> int:
        """The size of this part."""
        return min(self.part_size_bytes, self.size_bytes - (number - 1) * self.part_size_bytes)


class Multiparts:
    """Sessions: begun, signed for, completed, and swept where nobody came back."""

    def __init__(
        self, config: ControllerConfig, service: Service, stores: Stores, uploads: Uploads, limits: Limits
    ) -> None:
        self._config, self._service, self._stores = config, service, stores
        self._uploads, self._limits = uploads, limits

    async def begin(
        self, run_id: RunID, edge: Edge, size_bytes: int, part_size_bytes: int | None, content_type: str
    ) -> UploadSession:
        """A session for an awaited edge.

        Errors: NotFound for an edge that awaits nothing; Conflict when it has its object; TooLarge; InvalidRequest
        for parts that no store takes; TooMany.
        """
        upload = await self._uploads.find(run_id, edge)
        if upload is None:
            raise settled(edge)
        await self._require_size(run_id, edge, size_bytes)
        part_size_bytes = part_size_for(size_bytes, part_size_bytes)
        async with self._service.database.connection() as connection:
            await self._require_place(connection, run_id)
        key = await self._uploads.key_of_its_own(upload)
        store = await self._stores.of_run(run_id, upload.store)
        # Before the row: killed in between, the store keeps an upload without a part, and nobody can send one.
        multipart = await store.begin_multipart(key, content_type)
        session_id = f"upl_{secrets.token_hex(12)}"

        async def insert(connection: Connection) -> asyncpg.Record | None:
            await self._require_place(connection, run_id, exactly=True)
            return await connection.fetchrow(
                SQL["insert_session"],
                session_id,
                run_id,
                edge,
                upload.store,
                key,
                multipart.id,
                content_type,
                size_bytes,
                part_size_bytes,
                timedelta(seconds=self._config.multipart_ttl_s),
            )

        try:
            row = await self._service.database.transact(insert)
        except TooMany:
            await store.abort_multipart(multipart)
            raise
        assert row is not None
        return _session(row)

    async def _require_place(self, connection: Connection, run_id: RunID, *, exactly: bool = False) -> None:
        """Return when the run's account may have one more open; for certain only when `exactly`, in a transaction."""
        account = await connection.fetchval(SQL["account_of_run"], run_id)
        limit = self._limits.of(account or "").open_uploads
        if not limit:
            return
        if exactly:
            await hold_account(connection, account or "")
        if await connection.fetchval(SQL["open_uploads"], account) >= limit:
            raise TooMany(
                f"{limit} uploads in parts of this account are open; complete or abort some first",
                code="TOO_MANY_UPLOADS",
                retry_after_s=_COME_AGAIN_S,
            )

    async def _require_size(self, run_id: RunID, edge: Edge, size_bytes: int) -> None:
        async with self._service.database.connection() as connection:
            plan = await self._service.plans.get(connection, run_id)
        limit = self._config.max_multipart_bytes
        limit = min(plan.edges[edge].max_size_bytes or limit, limit)
        if size_bytes > limit:
            raise TooLarge(f"edge {edge!r} takes at most {format_size(limit)}")

    async def find(self, run_id: RunID, edge: Edge, session_id: str) -> UploadSession:
        """The session.

        Errors: NotFound.
        """
        async with self._service.database.connection() as connection:
            row = await connection.fetchrow(SQL["find_session"], session_id, run_id, edge)
        if row is None:
            raise NotFound(f"edge {edge!r} has no upload {session_id!r}", code="UPLOAD_NOT_FOUND")
        return _session(row)

    async def sign(self, session: UploadSession, numbers: Sequence[int]) -> dict[int, SignedRequest]:
        """Where to put each of these parts, by its number.

        Errors: Conflict for a session that has ended; InvalidRequest for a number that it does not have.
        """
        _require_open(session)
        if unknown := [number for number in numbers if not 1 <= number <= session.part_count]:
            raise InvalidRequest(f"there is no part {unknown[0]}; this upload has parts 1 to {session.part_count}")
        store = await self._store(session)
        return {
            number: store.sign_part(
                session.multipart,
                number,
                self._config.upload_ttl_s,
                public=True,
                size_bytes=session.part_bytes(number),
            )
            for number in numbers
        }

    async def parts(self, session: UploadSession) -> list[Part]:
        """The parts that are there; all of them once the upload is completed, none once it is aborted."""
        if session.state == "completed":
            numbers = range(1, session.part_count + 1)
            return [Part(number, session.part_bytes(number), "") for number in numbers]
        if session.is_aborted:
            return []
        try:
            return await (await self._store(session)).list_parts(session.multipart)
        except NotFound:
            return []

    async def complete(self, session: UploadSession) -> None:
        """The object of all parts is that of the edge. Right when repeated, whatever became of the first time: who
        comes second waits for the first one, and takes over when that is gone.

        Errors: Conflict while parts are missing, when the upload was aborted, or when the edge has another object.
        """
        while not await self._change("claim_session", session.id, _STALLED):
            session = await self.find(session.run_id, session.edge, session.id)
            if session.state == "completed":
                return
            _require_open(session)
            await asyncio.sleep(_LOOK_AGAIN_S)
        try:
            async with self._held(session):
                await self._complete(session)
        except BaseException:
            # Also when the client hangs up: nobody is at it any more, and it need not wait to be taken for stalled.
            await self._change("reopen_session", session.id)
            raise

    @asynccontextmanager
    async def _held(self, session: UploadSession) -> AsyncIterator[None]:
        """Tell others, as long as the block, that somebody is at it: a large object takes its time."""

        async def hold() -> None:
            while True:
                await asyncio.sleep(_STALLED.total_seconds() / 6)
                with suppress(PuploadError):
                    await self._change("hold_session", session.id)

        holding = asyncio.create_task(hold())
        try:
            yield
        finally:
            holding.cancel()
            await asyncio.wait([holding])

    async def _complete(self, session: UploadSession) -> None:
        store = await self._store(session)
        upload = await self._uploads.find(session.run_id, session.edge)
        if upload is None:
            await self._end_late(store, session)
            return
        head = await self._joined(store, session)
        await reach("multipart.joined")
        await self._uploads.settle(upload, head)
        await self._change("end_session", session.id, "completed")

    async def _end_late(self, store: Store, session: UploadSession) -> None:
        """The edge awaits nothing: because this very upload had come, and its end was not noted, or another one."""
        head = await store.head(session.multipart.key)
        if head is None or not await self._uploads.is_accepted(session.run_id, session.edge, head):
            await self._drop(session)
            raise settled(session.edge)
        await self._change("end_session", session.id, "completed")

    async def _joined(self, store: Store, session: UploadSession) -> Head:
        """The object of all parts; somebody may have made it, and been killed before that was noted."""
        if head := await _made(store, session):
            await store.abort_multipart(session.multipart)
            return head
        try:
            parts = await store.list_parts(session.multipart)
            _require_all(session, parts)
            return await store.complete_multipart(session.multipart, parts)
        except NotFound as gone:
            # A store goes on making it after whoever asked has hung up.
            if head := await _made(store, session):
                return head
            await self._change("end_session", session.id, "aborted")
            raise _ended() from gone

    async def abort(self, session: UploadSession) -> None:
        """Nothing is left of the upload but its row; one that has ended stays as it is.

        Errors: Conflict while it is being completed.
        """
        if await self._change("give_up_session", session.id):
            await self._drop(session)
        elif (await self.find(session.run_id, session.edge, session.id)).state == "completing":
            raise Conflict("this upload is being completed", code="UPLOAD_COMPLETING")

    async def _drop(self, session: UploadSession) -> None:
        await (await self._store(session)).abort_multipart(session.multipart)
        await self._change("end_session", session.id, "aborted")

    async def abandon(self, run_id: RunID) -> None:
        """Abort what is open of a run that is to be removed: without its rows nobody would find it."""
        async with self._service.database.connection() as connection:
            rows = await connection.fetch(SQL["sessions_of_run"], run_id)
        for row in rows:
            await self._drop(_session(row))

    async def look(self) -> None:
        """Sessions that nobody came back to, and those whose completion was broken off."""
        async with self._service.database.connection() as connection:
            abandoned = await connection.fetch(SQL["abandoned_sessions"])
            stalled = await connection.fetch(SQL["stalled_sessions"], _STALLED)
        for row in abandoned:
            with alone("abandoned upload of run", row["run_id"]):
                await self.abort(_session(row))
                _LOG.info("aborted upload %s, which nobody completed", row["id"])
        for row in stalled:
            with alone("broken off upload of run", row["run_id"]):
                await self.complete(_session(row))

    async def _store(self, session: UploadSession) -> Store:
        return await self._stores.of_run(session.run_id, session.store)

    async def _change(self, statement: str, *how: object) -> bool:
        """True when the session was in a state for it."""
        async with self._service.database.connection() as connection:
            return await connection.fetchval(SQL[statement], *how) is not None


def part_size_for(size_bytes: int, wish_bytes: int | None) -> int:
    """The size of each part but the last: what is wished, else 16 MB, or as much more as 10,000 parts need.

    Errors: InvalidRequest for a wish that no store takes.

    >>> part_size_for(100, None), part_size_for(5 * 1024**4, None)
    (16777216, 550502400)
    """
    if wish_bytes is None:
        return max(_USUAL_PART_BYTES, math.ceil(size_bytes / MOST_PARTS / _MB) * _MB)
    if not LEAST_PART_BYTES <= wish_bytes <= MOST_PART_BYTES:
        raise InvalidRequest("PartSize must be from 5 MB to 5 GB: stores take no others", code="PART_SIZE_REFUSED")
    if size_bytes > MOST_PARTS * wish_bytes:
        raise InvalidRequest(
            f"an upload has at most {MOST_PARTS} parts; choose a larger PartSize, or none", code="PART_SIZE_REFUSED"
        )
    return wish_bytes


def _require_all(session: UploadSession, parts: Sequence[Part]) -> None:
    arrived = {part.number for part in parts if part.size_bytes == session.part_bytes(part.number)}
    missing = [number for number in range(1, session.part_count + 1) if number not in arrived]
    if missing:
        raise Conflict(
            f"{len(missing)} of {session.part_count} parts are missing, the first is {missing[0]}; send them first",
            code="UPLOAD_INCOMPLETE",
            details=missing[:100],
        )


async def _made(store: Store, session: UploadSession) -> Head | None:
    head = await store.head(session.multipart.key)
    if head is None or head.size_bytes != session.size_bytes or head.modified < session.created_at - _CLOCK_SKEW:
        return None
    return head


def _require_open(session: UploadSession) -> None:
    if session.state not in {"open", "completing"}:
        raise _ended()


def _ended() -> Conflict:
    return Conflict("this upload has ended; begin another one", code="UPLOAD_ENDED")


def _session(row: asyncpg.Record) -> UploadSession:
    return UploadSession(
        id=row["id"],
        run_id=RunID(row["run_id"]),
        edge=Edge(row["edge"]),
        store=row["store"],
        multipart=Multipart(row["key"], row["store_upload"], row["content_type"]),
        size_bytes=row["size_bytes"],
        part_size_bytes=row["part_size_bytes"],
        state=row["state"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
    )
