"""Sessions as clients see them: made, looked at with what was said in them, removed."""

import asyncio
import json
import logging
import os
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import asyncpg
from pydantic import JsonValue

from pupload.answers.runs import RunSummary
from pupload.answers.sessions import MessageAnswer, SessionAnswer, SessionPage, SessionSummary
from pupload.config import ControllerConfig
from pupload.controller.folders import SESSION, folder_key, session_prefix
from pupload.controller.reconcile import alone
from pupload.controller.service import Service
from pupload.controller.stores import Stores
from pupload.controller.views import summary_of
from pupload.db.pool import Connection, Database
from pupload.db.runs import artifact_of, no_such_session
from pupload.db.sql import SQL
from pupload.errors import Conflict, PuploadError
from pupload.flow.mime import is_text
from pupload.flow.plan import DEFAULT_STORE, Plan
from pupload.protocol import AttemptRef
from pupload.run.state import Artifact, RunID

_LOG = logging.getLogger(__name__)
LAST_RUNS = 100
TEXT_LENGTH = 32 * 1024
_READ_AT_ONCE = 8
_DELETE_AT_ONCE = 500
_GRACE_S = 60.0


@dataclass(frozen=True, slots=True)
class SessionOfCall:
    """The session that a call's run belongs to. `named`: the call said which; otherwise it is made with the run."""

    id: str
    named: bool


@dataclass(frozen=True, slots=True)
class _Talk:
    """The runs of a session, and by run the message that it was asked and the object that answers."""

    runs: Sequence[RunSummary]
    asked: Mapping[str, asyncpg.Record]
    told: Mapping[str, Artifact]


class Sessions:
    """The sessions of all accounts; nobody sees another's."""

    def __init__(self, config: ControllerConfig, service: Service, stores: Stores) -> None:
        self._config, self._service, self._stores = config, service, stores

    @property
    def _database(self) -> Database:
        return self._service.database

    @property
    def _grace(self) -> timedelta:
        """How long an attempt that was given up may still be writing."""
        return timedelta(seconds=self._config.lease_s + _GRACE_S)

    async def of_call(self, session_id: str | None, account: str) -> SessionOfCall:
        """The session that is asked for, or the id of a new one, which is stored with its run.

        Errors: NotFound `SESSION_NOT_FOUND`.
        """
        if session_id is None:
            return SessionOfCall(new_session_id(), named=False)
        await self._found(session_id, account)
        return SessionOfCall(session_id, named=True)

    async def create(self, variables: Mapping[str, JsonValue], account: str) -> SessionAnswer:
        """A new session with these variables."""
        session_id = new_session_id()
        async with self._database.connection() as connection:
            await connection.execute(SQL["add_session"], session_id, account, json.dumps(dict(variables)), None)
        return await self.get(session_id, account)

    async def _found(self, session_id: str, account: str) -> asyncpg.Record:
        async with self._database.connection() as connection:
            row = await connection.fetchrow(SQL["look_up_session"], session_id, account)
        if row is None:
            raise no_such_session(session_id)
        return row

    async def get(self, session_id: str, account: str, limit: int = LAST_RUNS) -> SessionAnswer:
        """The session with its newest runs, in their order, and what was said in them.

        Errors: NotFound `SESSION_NOT_FOUND`.
        """
        row = await self._found(session_id, account)
        # One moment's: a run may be removed meanwhile.
        talk = await self._database.read(lambda connection: self._talk(connection, session_id, limit))
        return SessionAnswer(
            **_summary(row),
            variables=json.loads(row["variables"]),
            runs=list(talk.runs),
            messages=await self._messages(talk),
        )

    async def page(self, account: str | None, cursor: str | None, limit: int) -> SessionPage:
        """Sessions of the account, None for all, newest first, after the one that `cursor` names."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(SQL["list_sessions"], account, cursor, limit + 1)
        sessions = [SessionSummary(**_summary(row)) for row in rows[:limit]]
        return SessionPage(sessions=sessions, next_cursor=sessions[-1].id if len(rows) > limit else "")

    async def _talk(self, connection: Connection, session_id: str, limit: int) -> _Talk:
        rows = await connection.fetch(SQL["last_runs_of_session"], session_id, limit)
        ids = [row["id"] for row in rows]
        asked = {row["run_id"]: row for row in await connection.fetch(SQL["messages_sent"], ids, TEXT_LENGTH)}
        runs = [RunSummary(**summary_of(row)) for row in rows]
        return _Talk(runs, asked, await self._responses(connection, ids))

    async def _messages(self, talk: _Talk) -> list[MessageAnswer]:
        """Of each run what was asked, and what came of it."""
        gate, told = asyncio.Semaphore(_READ_AT_ONCE), talk.told
        said = dict(zip(told, await asyncio.gather(*(self._read(gate, *each) for each in told.items())), strict=True))
        messages = []
        for run in talk.runs:
            if (row := talk.asked.get(run.id)) is not None:
                messages.append(_question(run, row))
            if (text := said.get(run.id)) is not None:
                messages.append(_response(run, told[run.id], text))
        return messages

    async def _responses(self, connection: Connection, ids: Sequence[str]) -> dict[str, Artifact]:
        """The object that answers for each run, by run."""
        of_run = defaultdict[str, list[Artifact]](list)
        for row in await connection.fetch(SQL["objects_answered"], ids):
            of_run[row["run_id"]].append(artifact_of(row))
        plans = {run_id: await self._service.plans.get(connection, RunID(run_id)) for run_id in of_run}
        found = {run_id: primary_text(plans[run_id], artifacts) for run_id, artifacts in of_run.items()}
        return {run_id: artifact for run_id, artifact in found.items() if artifact is not None}

    async def _read(self, gate: asyncio.Semaphore, run_id: str, artifact: Artifact) -> str | None:
        if artifact.size_bytes > TEXT_LENGTH:
            return ""
        try:
            async with gate:
                store = await self._stores.of_artifact(RunID(run_id), artifact)
                return (await store.get(artifact.key, TEXT_LENGTH)).decode("utf-8", "replace")
        except PuploadError as error:
            # What was said is shown as far as it can be read; the run's own answer says where the rest is.
            _LOG.warning("the response of run %s is left out of its session: %s", run_id, error)
            return None

    async def remove(self, session_id: str, account: str) -> None:
        """Remove the session with its folder; its runs stay, each for its own time.

        Errors: NotFound; Conflict `SESSION_IN_USE` while a run of it has not ended.
        """
        await self._found(session_id, account)
        active = await self._doom(session_id)
        if active is not None:
            raise Conflict(
                f"run {active} of this session has not ended; wait for it, or cancel it first", code="SESSION_IN_USE"
            )
        await self._clear(session_id)

    async def _doom(self, session_id: str, unused_for: timedelta | None = None) -> str | None:
        return await self._database.transact(lambda connection: _doom(connection, session_id, unused_for))

    async def expired(self) -> None:
        """Sessions that nobody has used for their retention."""
        retention = timedelta(seconds=self._config.session_retention_s)
        async with self._database.connection() as connection:
            rows = await connection.fetch(SQL["expired_sessions"], retention)
        for row in rows:
            with alone("end of retention of session", row["id"]):
                await self.expire(row["id"])

    async def expire(self, session_id: str) -> None:
        """Remove a session that was found to be expired, unless somebody has used it meanwhile."""
        await self._doom(session_id, timedelta(seconds=self._config.session_retention_s))

    async def doomed(self) -> None:
        """Sessions whose removal has begun."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(SQL["doomed_sessions"])
        for row in rows:
            with alone("removal of session", row["id"]):
                await self._clear(row["id"])

    async def old_archives(self) -> None:
        """What lies in the store of earlier states, and of attempts that did not count."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(SQL["sessions_to_sweep"])
        for row in rows:
            with alone("old archives of session", row["id"]):
                await self._sweep(row["id"])

    async def _sweep(self, session_id: str) -> None:
        listed = await self._archives(session_id)
        # Asked after the list: what is in it and is not named by now never will be.
        async with self._database.connection() as connection:
            used = await connection.fetch(SQL["archives_in_use"], session_id)
        keep = {key for row in used for key in _keys_in_use(session_id, row)}
        await self._delete([key for key in listed if key not in keep])
        async with self._database.connection() as connection:
            await connection.execute(SQL["mark_session_swept"], session_id, self._grace)

    async def _clear(self, session_id: str) -> None:
        """Objects go first, and the row when none can come any more: what it does not name nobody would find."""
        await self._delete(await self._archives(session_id))
        async with self._database.connection() as connection:
            await connection.execute(SQL["delete_session"], session_id, self._grace)

    async def _archives(self, session_id: str) -> list[str]:
        return [head.key async for head in self._stores.server(DEFAULT_STORE).list(session_prefix(session_id))]

    async def _delete(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), _DELETE_AT_ONCE):
            await self._stores.server(DEFAULT_STORE).delete(keys[start : start + _DELETE_AT_ONCE])


def new_session_id() -> str:
    """A fresh id; like those of runs, ids sort by time."""
    return f"ses_{time.time_ns() // 1_000_000:012x}{os.urandom(8).hex()}"


def primary_text(plan: Plan, artifacts: Sequence[Artifact]) -> Artifact | None:
    """The output that answers for a run: the one whose well is marked Primary, else the only text among its outputs."""
    outputs = [each for each in artifacts if plan.edges[each.edge].output and is_text(each.content_type)]
    marked = [each for each in outputs if plan.edges[each.edge].primary]
    found = marked or outputs
    return found[0] if len(found) == 1 else None


def _question(run: RunSummary, row: asyncpg.Record) -> MessageAnswer:
    return MessageAnswer(
        role="user",
        content=row["text"],
        truncated=row["length"] > TEXT_LENGTH,
        run_id=run.id,
        created_at=run.created_at,
    )


def _response(run: RunSummary, artifact: Artifact, text: str) -> MessageAnswer:
    return MessageAnswer(
        role="assistant",
        content=text,
        truncated=artifact.size_bytes > TEXT_LENGTH,
        run_id=run.id,
        edge_name=artifact.edge,
        created_at=run.finished_at or run.created_at,
    )


def _summary(row: asyncpg.Record) -> dict[str, object]:
    return {
        "id": row["id"],
        "created_at": row["created_at"],
        "used_at": row["used_at"],
        "version": row["version"],
        "size": row["size_bytes"],
    }


def _keys_in_use(session_id: str, row: asyncpg.Record) -> set[str]:
    keys = {row["key"]}
    if row["run_id"] is not None:
        ref = AttemptRef(run_id=row["run_id"], node_id=row["node_id"], attempt=row["attempt"], lease="")
        keys |= {row["session_key"], folder_key(session_id, ref, SESSION)}
    return keys


async def _doom(connection: Connection, session_id: str, unused_for: timedelta | None) -> str | None:
    """A run that has not ended; None when there is none, and nobody can find the session any more."""
    if await connection.fetchval(SQL["lock_session_to_remove"], session_id, unused_for) is None:
        return None
    active: str | None = await connection.fetchval(SQL["has_active_runs"], session_id)
    if active is None:
        await connection.execute(SQL["doom_session"], session_id)
    return active
