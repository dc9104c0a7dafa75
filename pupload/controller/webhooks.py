"""Who asked to be told of a run, and what is to be told: one row a delivery, in the transaction of what it tells.

A run that nobody asked about costs nothing: its plan says so, and no row is looked for.
"""

import os
import time
from collections import defaultdict
from collections.abc import Sequence

import asyncpg
from yarl import URL

from pupload.answers.webhooks import WebhookAnswer, WebhookTry
from pupload.db.pool import Connection, Database
from pupload.db.runs import no_such_run
from pupload.db.sql import SQL
from pupload.errors import InvalidRequest, NotFound
from pupload.flow.plan import Callback
from pupload.flow.request import RunRequest
from pupload.run.commands import TERMINAL_RECORDS, RecordType, Step
from pupload.run.state import RunID
from pupload.web.guarded import Web
from pupload.web.urls import shown

TOLD = frozenset(RecordType) - {RecordType.NODE_LOG, RecordType.NODE_PROGRESS, RecordType.STEP_PAUSED}
"""The events that can be asked for. The others come by the hundred, or are made for whoever steps through a run."""


def callback_of(request: RunRequest, web: Web) -> Callback | None:
    """Who is to be told of the run, and of what.

    Errors: InvalidRequest for a URL that may not be asked, or an event that there is not.
    """
    if request.callback_url is None:
        if request.callback_events:
            raise InvalidRequest("CallbackEvents say what CallbackURL is told: give it too", code="CALLBACK_INVALID")
        return None
    if unknown := sorted(set(request.callback_events) - TOLD):
        raise InvalidRequest(
            f"CallbackEvents: {unknown[0]!r} cannot be told; there are {', '.join(sorted(TOLD))}",
            code="CALLBACK_INVALID",
        )
    web.check(request.callback_url)
    return Callback(request.callback_url, tuple(sorted(set(request.callback_events) or TERMINAL_RECORDS)))


async def note_webhooks(connection: Connection, step: Step) -> None:
    """Write down what of the step is to be told. A follower of the service."""
    callback = step.run.plan.callback
    if callback is None:
        return
    last = len(step.records) - 1
    told = [(last - place, each.type.value) for place, each in enumerate(step.records) if each.type in callback.events]
    if told:
        await connection.execute(
            SQL["insert_webhooks"],
            step.run.id,
            callback.url,
            [_new_id() for _ in told],
            [kind for _, kind in told],
            [back for back, _ in told],
        )


def _new_id() -> str:
    return f"msg_{time.time_ns() // 1_000_000:012x}{os.urandom(8).hex()}"


class Webhooks:
    """What was told of a run, and what became of it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_run(self, run_id: RunID) -> list[WebhookAnswer]:
        """The deliveries of the run, in the order of its events.

        Errors: NotFound.
        """
        async with self._database.connection() as connection:
            if await connection.fetchrow(SQL["run_header"], run_id) is None:
                raise no_such_run(run_id)
            return await _answers(connection, await connection.fetch(SQL["webhooks_of_run"], run_id))

    async def redeliver(self, webhook_id: str) -> WebhookAnswer:
        """The delivery, to be tried again from the beginning.

        Errors: NotFound.
        """
        async with self._database.connection() as connection:
            if await connection.fetchval(SQL["redeliver_webhook"], webhook_id) is None:
                raise no_such_webhook(webhook_id)
            rows = await connection.fetch(SQL["find_webhook"], webhook_id)
            return (await _answers(connection, rows))[0]


def no_such_webhook(webhook_id: str) -> NotFound:
    """The error for a delivery that is not there."""
    return NotFound(f"there is no webhook {webhook_id!r}", code="WEBHOOK_NOT_FOUND")


async def _answers(connection: Connection, rows: Sequence[asyncpg.Record]) -> list[WebhookAnswer]:
    tries: dict[str, list[WebhookTry]] = defaultdict(list)
    for row in await connection.fetch(SQL["tries_of_webhooks"], [row["id"] for row in rows]):
        one = WebhookTry(at=row["at"], status=row["status"], error=row["error"], duration_ms=row["duration_ms"])
        tries[row["webhook_id"]].append(one)
    return [_answer(row, tries[row["id"]]) for row in rows]


def _answer(row: asyncpg.Record, tries: list[WebhookTry]) -> WebhookAnswer:
    return WebhookAnswer(
        id=row["id"],
        run_id=row["run_id"],
        seq=row["seq"],
        type=row["type"],
        url=shown(URL(row["url"])),
        status=row["state"],
        created_at=row["created_at"],
        next_at=row["next_at"] if row["state"] == "pending" else None,
        tries=tries,
    )
