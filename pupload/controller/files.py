"""Files that clients keep here for runs to come, in the default store.

Rows go before objects: `arriving` before the first byte, `doomed` before the last one goes. A file outlives its own
removal as long as an artifact of a run is made of it.
"""

import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import aiohttp
import asyncpg
from yarl import URL

from pupload.config import ControllerConfig
from pupload.controller.given import agreed_type
from pupload.controller.limits import Limits, storage_full
from pupload.controller.spool import Spool
from pupload.controller.stores import Stores
from pupload.db.pool import Connection, Database
from pupload.db.room import hold_account
from pupload.db.sql import SQL
from pupload.errors import Conflict, NotFound, StoreUnavailable, TooLarge
from pupload.flow.digest import Digest
from pupload.flow.plan import DEFAULT_STORE
from pupload.stores.base import Head, Store
from pupload.units import format_size

_PIECE_BYTES = 256 * 1024
_READ_S = 3600.0
_LONGEST_TRANSACTION_S = 60.0
LONGEST_PUT_S = 6 * 3600.0
PUT_ENDS_S = 120.0
"""Once nobody waits for a put any more, its object may still appear for so long."""
_NAME_LENGTH = 255


@dataclass(frozen=True, slots=True)
class File:
    """A file that runs may begin with. Its id is also the `origin` of artifacts that are made of it."""

    id: str
    name: str
    key: str
    size_bytes: int
    content_type: str
    sha256: str
    etag: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Label:
    """What the sender of a file says of it: a name and a type, "" where it says nothing."""

    name: str = ""
    content_type: str = ""


class Files:
    """The files of all accounts; nobody sees another's."""

    def __init__(self, config: ControllerConfig, database: Database, stores: Stores, limits: Limits) -> None:
        self._config, self._database, self._stores, self._limits = config, database, stores, limits

    @property
    def store(self) -> Store:
        """Where files lie."""
        return self._stores.server(DEFAULT_STORE)

    async def add(self, account: str, label: Label, pieces: AsyncIterator[bytes], size_bytes: int) -> File:
        """The file of exactly `size_bytes`, streamed to the store.

        Errors: TooLarge; TooMany; Malformed for another length; what the store raises.
        """
        self._require_size(size_bytes)
        digest = Digest()
        return await self._added(account, label, digest, _told(pieces, digest), size_bytes)

    async def add_spooled(self, account: str, label: Label, spool: Spool) -> File:
        """The file, of bytes that are all here.

        Errors: TooLarge; TooMany; what the store raises.
        """
        size_bytes = spool.digest.size_bytes
        self._require_size(size_bytes)
        return await self._added(account, label, spool.digest, spool.pieces(), size_bytes)

    def _require_size(self, size_bytes: int) -> None:
        limit = self._config.max_upload_bytes
        if size_bytes > limit:
            raise TooLarge(f"a file has at most {format_size(limit)}, this one {format_size(size_bytes)}")

    async def _added(
        self, account: str, label: Label, digest: Digest, pieces: AsyncIterator[bytes], size_bytes: int
    ) -> File:
        file_id = new_file_id()
        # Where no key of a flow leads.
        key = f".files/{file_id}"
        await self._announce(file_id, account, safe_name(label.name), key, size_bytes)
        try:
            head = await self.store.put_stream(key, pieces, size_bytes)
            return await self._keep(file_id, label, digest, head)
        except BaseException:
            async with self._database.connection() as connection:
                await connection.execute(SQL["give_up_file"], file_id)
            raise

    async def _announce(self, file_id: str, account: str, name: str, key: str, size_bytes: int) -> None:
        """The file's row, where the account may keep so much more."""
        limit = self._limits.of(account).stored_bytes

        async def announce(connection: Connection) -> None:
            if limit:
                await hold_account(connection, account)
                if await connection.fetchval(SQL["stored_bytes"], account) + size_bytes > limit:
                    raise storage_full(limit)
            await connection.execute(SQL["insert_file"], file_id, account, name, key, size_bytes)

        await self._database.transact(announce)

    async def hoarders(self) -> None:
        """Note whose sessions must not grow."""
        limits = self._limits
        async with self._database.connection() as connection:
            rows = await connection.fetch(SQL["large_accounts"], limits.least_storage)
        over = (row["account"] for row in rows if 0 < limits.of(row["account"]).stored_bytes < row["stored"])
        limits.note_hoarders(frozenset(over))

    async def _keep(self, file_id: str, label: Label, digest: Digest, head: Head) -> File:
        content_type = agreed_type(digest.content_type(), label.content_type)
        about = (digest.size_bytes, content_type, digest.sha256, head.etag)
        async with self._database.connection() as connection:
            row = await connection.fetchrow(SQL["keep_file"], file_id, *about)
        if row is None:
            raise Conflict("the upload took too long and was given up; send the file again", code="FILE_GIVEN_UP")
        return _file(row)

    async def find(self, account: str, file_id: str) -> File:
        """The file.

        Errors: NotFound `FILE_NOT_FOUND`.
        """
        async with self._database.connection() as connection:
            row = await connection.fetchrow(SQL["find_file"], file_id, account)
        if row is None:
            raise no_such_file(file_id)
        return _file(row)

    async def page(self, account: str | None, cursor: str | None, limit: int) -> Sequence[File]:
        """Files of the account, None for all, newest first, from below `cursor`."""
        async with self._database.connection() as connection:
            return [_file(row) for row in await connection.fetch(SQL["list_files"], account, cursor, limit)]

    async def remove(self, account: str, file_id: str) -> None:
        """Let nobody name the file any more; its bytes go when no run holds them.

        Errors: NotFound `FILE_NOT_FOUND`.
        """
        async with self._database.connection() as connection:
            removed = await connection.fetchval(SQL["remove_file"], file_id, account)
        if removed is None:
            raise no_such_file(file_id)

    async def read(self, file: File) -> AsyncGenerator[bytes, None]:
        """The file's bytes; close it when they are not all wanted.

        Errors: StoreUnavailable.
        """
        url = URL(self.store.sign_get(file.key, _READ_S, public=False), encoded=True)
        patience = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=60)
        try:
            async with (
                aiohttp.ClientSession(timeout=patience, auto_decompress=False) as session,
                session.get(url) as got,
            ):
                if got.status != 200:
                    raise StoreUnavailable(f"the store answered {got.status} when asked for file {file.id}")
                async for piece in got.content.iter_chunked(_PIECE_BYTES):
                    yield piece
        except (aiohttp.ClientError, TimeoutError) as error:
            raise StoreUnavailable(f"the store broke off in file {file.id}") from error

    async def unwanted(self) -> None:
        """Remove what nobody wants any more: beyond its retention, removed, or never whole; and no run holds it."""
        waits = (_LONGEST_TRANSACTION_S, LONGEST_PUT_S, self._config.retention_s)
        async with self._database.connection() as connection:
            await connection.execute(SQL["doom_files"], *(timedelta(seconds=wait) for wait in waits))
            rows = await connection.fetch(SQL["doomed_files"], timedelta(seconds=PUT_ENDS_S))
        if rows:
            await self.store.delete([row["key"] for row in rows])
            async with self._database.connection() as connection:
                await connection.execute(SQL["forget_files"], [row["id"] for row in rows])


def new_file_id() -> str:
    """A fresh id that sorts by time, as a run's does."""
    return f"file_{time.time_ns() // 1_000_000:012x}{os.urandom(8).hex()}"


def safe_name(name: str) -> str:
    """What a client may be told as the name of a file: the last part of a path, nothing that cannot be seen.

    >>> safe_name("..\\\\photos/cat\\n.png"), safe_name("/"), safe_name("a/..")
    ('cat.png', 'file', 'file')
    """
    last = name.replace("\\", "/").rpartition("/")[2]
    plain = "".join(character for character in last if character.isprintable()).strip()[:_NAME_LENGTH]
    return plain if plain.strip(".") else "file"


def _file(row: asyncpg.Record) -> File:
    return File(**{name: row[name] for name in File.__slots__})


def no_such_file(file_id: str) -> NotFound:
    return NotFound(f"there is no file {file_id!r}; POST it to /api/v1/files first", code="FILE_NOT_FOUND")


async def _told(pieces: AsyncIterator[bytes], digest: Digest) -> AsyncIterator[bytes]:
    """The pieces, each told to `digest` as it goes by."""
    async for piece in pieces:
        digest.take(piece)
        yield piece
