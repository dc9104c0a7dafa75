"""How attempts take turns at their session's folder, so that no change of it is lost.

A run that named its session has it to itself, attempt by attempt. A run that was given a fresh one has nobody to wait
for: its attempts run side by side, and a change counts only if the folder is still as the attempt found it. One that
was overtaken is run again, and then alone; so no node is overtaken twice.
"""

import json
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from pupload.config import ControllerConfig
from pupload.controller.folders import SESSION, Archive, LentFolder, folder_key
from pupload.db.pool import Connection
from pupload.db.sql import SQL
from pupload.failpoints import reach
from pupload.flow.plan import NodePlan, Plan
from pupload.flow.session import session_env
from pupload.protocol import AttemptRef, Finish, Line, Outcome
from pupload.run.state import RunID

WAIT_S = 0.5
"""Seconds until an attempt whose turn has not come is offered again."""


@dataclass(frozen=True, slots=True)
class Seat:
    """An attempt's place at its session. `alone`: no other attempt uses the session meanwhile."""

    session_id: str
    archive: Archive | None
    env: dict[str, str]
    alone: bool


class Turn:
    """One attempt that wants its session's folder: asked under the run's lock, and seated in the same transaction."""

    def __init__(self, plan: Plan, run_id: RunID, node: NodePlan) -> None:
        self._session_id, self._run_id, self._node = plan.session_id, run_id, node.id
        self.seat: Seat | None = None

    async def has_come(self, connection: Connection) -> bool:
        """True when the attempt may begin; `seat` is what it gets then."""
        row = await connection.fetchrow(SQL["lock_session"], self._session_id)
        if row is None:
            return True
        alone = await self._is_alone(connection, row)
        # Asked under the session's lock: who has begun did so before, and is seen.
        users = await connection.fetch(SQL["users_of_session"], self._session_id)
        if any(user["session_alone"] for user in users) or (alone and users):
            return False
        archive = Archive(row["key"], row["size_bytes"], row["sha256"]) if row["key"] else None
        self.seat = Seat(row["id"], archive, session_env(json.loads(row["variables"])), alone)
        return True

    async def _is_alone(self, connection: Connection, row: asyncpg.Record) -> bool:
        named = row["born_with"] != self._run_id and row["born_with"] != await self._root(connection)
        return named or bool(await connection.fetchval(SQL["was_overtaken"], self._run_id, self._node))

    async def _root(self, connection: Connection) -> str | None:
        """The run that all of this began with: who is called by a run that was given a session shares it as freely."""
        root: str | None = await connection.fetchval(SQL["root_of_run"], self._run_id)
        return root

    async def sit(self, connection: Connection, ref: AttemptRef) -> Seat | None:
        """The seat, noted for the new attempt; None where the session is gone."""
        if (seat := self.seat) is not None:
            key = seat.archive.key if seat.archive else ""
            await connection.execute(
                SQL["seat_attempt"], ref.run_id, ref.node_id, ref.attempt, seat.session_id, key, seat.alone
            )
        return seat


def turn_of(plan: Plan, run_id: RunID, node: NodePlan) -> Turn | None:
    """The node's turn at the run's session; None when it wants none."""
    return Turn(plan, run_id, node) if plan.session_id and node.session else None


async def waits_for(connection: Connection, plan: Plan, run_id: RunID) -> str:
    """Why no attempt of the run may use its session now; "" when one may, as far as others are concerned."""
    row = await connection.fetchrow(SQL["waits_for_session"], plan.session_id, run_id)
    if row is None:
        return ""
    return f"waiting for session {plan.session_id}, which node {row['node_id']} of run {row['run_id']} uses now"


def lent(seat: Seat, config: ControllerConfig) -> LentFolder:
    """The session's folder, for the attempt that has this seat."""
    return LentFolder(SESSION, seat.archive, config.session_bytes, config.session_files)


async def keep_session(connection: Connection, plan: Plan, finish: Finish, now: datetime) -> Finish:
    """The finish as it counts, its change of the session's folder made; the caller holds the run's row.

    Where another attempt's change came first, this one is released: it is run again on what that left.
    """
    changed = next((folder for folder in finish.folders if folder.name == SESSION), None)
    if changed is None or finish.outcome in {Outcome.FAILED, Outcome.RELEASED}:
        return finish
    ref = finish.ref
    own = (ref.run_id, ref.node_id, ref.attempt, ref.lease)
    key = folder_key(plan.session_id, ref, SESSION)
    kept = await connection.fetchval(SQL["keep_session_folder"], *own, key, changed.size_bytes, changed.sha256)
    if kept is not None:
        await reach("session.kept")
        return finish
    await connection.execute(SQL["overtake_attempt"], *own)
    message = f"another attempt changed session {plan.session_id} first; this one is run again on what that left"
    line = Line(at=now, stream="system", text=message)
    released = {"outcome": Outcome.RELEASED, "reason": None, "message": message, "lines": [*finish.lines, line]}
    return finish.model_copy(update=released)
