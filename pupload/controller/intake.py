"""Inputs that come with the request itself, made into objects of the run before it begins.

Nothing is written to a store before all of it is here. Each object that is written has a row in `intakes` first, which
goes with the run's own transaction; a row that stays behind says what to remove.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any, TypeVar, assert_never

import asyncpg
from pydantic import JsonValue

from pupload.controller.files import LONGEST_PUT_S, PUT_ENDS_S, File, Files
from pupload.controller.given import AtURL, Content, GivenInput, KeptFile, agreed_type, read_input
from pupload.controller.ground import Ground
from pupload.controller.objects import upload_key
from pupload.controller.spool import Spool, a_spool
from pupload.db.sql import SQL
from pupload.errors import InvalidRequest, NotFound, PuploadError, TooLarge
from pupload.flow.digest import Digest
from pupload.flow.plan import DEFAULT_STORE, Edge, EdgePlan, Plan, Source, StorePlan
from pupload.run.state import Artifact, RunID
from pupload.stores.base import Head, Store
from pupload.units import format_size

StoreOf = Callable[[str], Awaitable[Store]]
"""The store of this name, for a run that is not stored yet."""

T = TypeVar("T")

_LOG = logging.getLogger(__name__)
_FETCHES = 64
_MOST_URLS = 100
"""Of one request: what is fetched lies on this machine's disk until all of it is here."""


@dataclass(frozen=True, slots=True)
class NewInputs:
    """The inputs of a run that is about to be: by edge, on whose account, and the secrets of its own stores."""

    run_id: RunID
    plan: Plan
    given: Mapping[Edge, JsonValue]
    account: str = ""
    secrets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Taken:
    """Inputs that are there. `stored` of their objects are new, and wait for the run to name them."""

    artifacts: tuple[Artifact, ...] = ()
    stored: int = 0


@dataclass(frozen=True, slots=True)
class _Arrived:
    """An input of which all bytes are here, and how they are written into its store."""

    edge: EdgePlan
    key: str
    size_bytes: int
    sha256: str
    content_type: str
    write: Callable[[Store], Awaitable[Head]]


class Intake:
    """Takes given inputs."""

    def __init__(self, ground: Ground, files: Files) -> None:
        self._config, self._database, self._stores = ground.config, ground.database, ground.stores
        self._files, self._web, self._box = files, ground.web, ground.box
        self._fetches = asyncio.Semaphore(_FETCHES)

    async def take(self, new: NewInputs, store_of: StoreOf) -> Taken:
        """The given inputs as artifacts, their bytes stored; `give_up` what no run came of.

        Errors: InvalidRequest for what is no input, or cannot be fetched; TooLarge; what the stores raise.
        """
        values = {_input_edge(new.plan, name): read_input(value) for name, value in new.given.items()}
        if sum(isinstance(value, AtURL) for value in values.values()) > _MOST_URLS:
            raise InvalidRequest(
                f"Inputs: at most {_MOST_URLS} are fetched from URLs for one run; POST the others to /files first",
                code="TOO_MANY_URLS",
            )
        async with AsyncExitStack() as spools:
            going = [self._arrive(new, edge, value, spools) for edge, value in values.items()]
            arrived = await _all(going)
            stored = [each for each in arrived if isinstance(each, _Arrived)]
            if stored:
                await self._announce(new, stored)
            try:
                artifacts = [await _settled(each, store_of) for each in arrived]
            except BaseException:
                await self.give_up(new.run_id, Taken(stored=len(stored)))
                raise
        return Taken(tuple(artifacts), len(stored))

    async def give_up(self, run_id: RunID, taken: Taken) -> None:
        """Let go of objects that no run names; those of a run that was stored stay its own."""
        if taken.stored:
            async with self._database.connection() as connection:
                await connection.execute(SQL["give_up_intakes"], run_id)

    async def unwanted(self) -> None:
        """Remove objects that were put for runs which never came to be."""
        async with self._database.connection() as connection:
            await connection.execute(SQL["doom_intakes"], timedelta(seconds=LONGEST_PUT_S))
            rows = await connection.fetch(SQL["doomed_intakes"], timedelta(seconds=PUT_ENDS_S))
        for row in rows:
            try:
                await self._remove(row)
            except PuploadError as error:
                _LOG.warning("an input of run %s, which never was, cannot be removed: %s", row["run_id"], error)

    async def _remove(self, row: asyncpg.Record) -> None:
        if row["declared"] is None:
            store = self._stores.server(row["store"])
        else:
            told = json.loads(self._box.open(row["declared"]))
            store = await self._stores.declared(StorePlan(**told["plan"]), told["secret"])
        await store.delete([row["key"]])
        async with self._database.connection() as connection:
            await connection.execute(SQL["forget_intake"], row["run_id"], row["edge"])

    async def _arrive(
        self, new: NewInputs, edge: EdgePlan, value: GivenInput, spools: AsyncExitStack
    ) -> "_Arrived | Artifact":
        key = upload_key(new.plan, edge, new.run_id)
        match value:
            case Content():
                return _content(edge, key, value)
            case AtURL():
                async with self._fetches:
                    return await self._fetch(edge, key, value.url, await spools.enter_async_context(a_spool()))
            case KeptFile():
                return self._kept(new.plan, edge, key, await self._find(new.account, value.file_id))
            case _:
                assert_never(value)

    async def _fetch(self, edge: EdgePlan, key: str, url: str, spool: Spool) -> _Arrived:
        limit = min(edge.max_size_bytes or self._config.max_fetch_bytes, self._config.max_fetch_bytes)
        async with self._web.fetch(url, limit) as found:
            await spool.fill(found.pieces, limit)
        digest, told = spool.digest, agreed_type(spool.digest.content_type(), found.content_type)
        return _arrived(
            edge, key, digest, told, lambda store: store.put_stream(key, spool.pieces(), digest.size_bytes, told)
        )

    def _kept(self, plan: Plan, edge: EdgePlan, key: str, file: File) -> "_Arrived | Artifact":
        """The file itself, without a copy; where the well has a key or store of its own, that gets one."""
        _require_size(edge, file.size_bytes)
        about = (file.size_bytes, file.content_type, file.sha256)
        at_home = edge.store == DEFAULT_STORE and edge.store not in plan.stores
        if at_home and edge.key is None:
            return Artifact(edge.name, edge.store, file.key, *about, etag=file.etag, origin=file.id)

        async def write(store: Store) -> Head:
            if at_home:
                return await store.copy(file.key, key)
            async with aclosing(self._files.read(file)) as pieces:
                return await store.put_stream(key, pieces, file.size_bytes, file.content_type)

        return _Arrived(edge, key, file.size_bytes, file.sha256, file.content_type, write)

    async def _find(self, account: str, file_id: str) -> File:
        try:
            return await self._files.find(account, file_id)
        except NotFound as error:
            raise InvalidRequest(str(error), code=error.code) from error

    async def _announce(self, new: NewInputs, arrived: Sequence[_Arrived]) -> None:
        async with self._database.connection() as connection:
            await connection.execute(
                SQL["insert_intakes"],
                new.run_id,
                [each.edge.name for each in arrived],
                [each.edge.store for each in arrived],
                [each.key for each in arrived],
                [self._sealed(new, each.edge.store) for each in arrived],
            )

    def _sealed(self, new: NewInputs, name: str) -> bytes | None:
        if name not in new.plan.stores:
            return None
        return self._box.seal(json.dumps({"plan": asdict(new.plan.stores[name]), "secret": new.secrets[name]}))


def _input_edge(plan: Plan, name: Edge) -> EdgePlan:
    """Errors: InvalidRequest for what a request cannot give."""
    edge = plan.edges.get(name)
    if edge is None:
        known = ", ".join(repr(str(each.name)) for each in plan.edges.values() if each.source is Source.UPLOAD)
        raise InvalidRequest(f"Inputs: there is no edge {name!r}; there are {known or 'none'}", code="EDGE_NOT_FOUND")
    if edge.producer is not None:
        raise InvalidRequest(
            f"Inputs: edge {name!r} is written by node {edge.producer!r}; it cannot be given", code="EDGE_NOT_AN_INPUT"
        )
    if edge.source is Source.STATIC:
        raise InvalidRequest(
            f"Inputs: edge {name!r} reads an object that is in its store already; it cannot be given",
            code="EDGE_NOT_AN_INPUT",
        )
    return edge


def _content(edge: EdgePlan, key: str, value: Content) -> _Arrived:
    _require_size(edge, len(value.content))
    digest = Digest()
    digest.take(value.content)
    told = agreed_type(digest.content_type(), value.told)
    return _arrived(edge, key, digest, told, lambda store: store.put(key, value.content, told))


def _arrived(
    edge: EdgePlan, key: str, digest: Digest, content_type: str, write: Callable[[Store], Awaitable[Head]]
) -> _Arrived:
    return _Arrived(edge, key, digest.size_bytes, digest.sha256, content_type, write)


def _require_size(edge: EdgePlan, size_bytes: int) -> None:
    if edge.max_size_bytes is not None and size_bytes > edge.max_size_bytes:
        raise TooLarge(f"edge {edge.name!r} takes at most {format_size(edge.max_size_bytes)}")


async def _settled(each: "_Arrived | Artifact", store_of: StoreOf) -> Artifact:
    if isinstance(each, Artifact):
        return each
    edge = each.edge
    head = await each.write(await store_of(edge.store))
    return Artifact(edge.name, edge.store, head.key, each.size_bytes, each.content_type, each.sha256, head.etag)


async def _all(coming: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All results, or the first failure with the others ended."""
    going = [asyncio.ensure_future(each) for each in coming]
    try:
        return await asyncio.gather(*going)
    finally:
        for each in going:
            each.cancel()
        await asyncio.gather(*going, return_exceptions=True)
