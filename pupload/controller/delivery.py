"""Delivers webhooks: claims what is due, posts it outside of any transaction, and writes down what came of it.

Every controller does so, and none is elected: a claim lasts longer than a try can take, and one whose claimer died is
due again after it. So a delivery arrives at least once, always under the same id, and in no promised order. Receivers
that hang keep no other account waiting: each has at most as many tries under way as there is room for besides.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from random import random

import asyncpg

from pupload.answers.webhooks import WebhookBody
from pupload.controller.ground import Ground
from pupload.controller.signals import WEBHOOKS
from pupload.controller.signing import Signer
from pupload.controller.views import Views
from pupload.db.sql import SQL
from pupload.errors import NotFound, PuploadError
from pupload.failpoints import reach
from pupload.run.state import RunID
from pupload.web.guarded import Posted

_LOG = logging.getLogger(__name__)
_AT_ONCE = 128
_CLAIM = timedelta(seconds=60)
_LONGEST_PAUSE_S = 6 * 3600.0
_GONE = 410


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one try. `error` is "" where it arrived; `ended` says that nothing more is wanted."""

    status: int | None
    error: str = ""
    ended: bool = False
    wait_s: float = 0.0

    @property
    def arrived(self) -> bool:
        """True when the receiver has it."""
        return not self.error


class Delivery:
    """The deliveries of one controller."""

    def __init__(self, ground: Ground, views: Views, signer: Signer) -> None:
        self._config, self._database, self._signals = ground.config, ground.database, ground.signals
        self._web, self._views, self._signer = ground.web, views, signer
        self._trying: dict[asyncio.Task[None], str] = {}

    async def run(self) -> None:
        """Deliver, for ever."""
        async with asyncio.TaskGroup() as group:
            with self._signals.listen(WEBHOOKS) as heard:
                while True:
                    claimed = await self._claim(_AT_ONCE - len(self._trying))
                    for row in claimed:
                        trying = group.create_task(self._try(row))
                        self._trying[trying] = row["lane"]
                        trying.add_done_callback(partial(self._over, heard))
                    if not claimed or len(self._trying) >= _AT_ONCE:
                        await self._wait(heard)

    def _over(self, heard: asyncio.Event, trying: asyncio.Task[None]) -> None:
        del self._trying[trying]
        heard.set()

    async def _wait(self, heard: asyncio.Event) -> None:
        """Until something is to be told, there is room again, or it is time to look all the same."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._config.reconcile_s):
                await heard.wait()
        heard.clear()

    async def _claim(self, most: int) -> list[asyncpg.Record]:
        window = timedelta(seconds=self._config.webhook_for_s)
        under_way = Counter(self._trying.values())
        try:
            async with self._database.connection() as connection:
                return await connection.fetch(
                    SQL["claim_webhooks"], most, _CLAIM, window, list(under_way), list(under_way.values())
                )
        except PuploadError as error:
            _LOG.warning("cannot look for webhooks: %s", error)
            return []

    async def _try(self, row: asyncpg.Record) -> None:
        """One try, whatever comes of it: a fault of one is none of the others'."""
        began = time.monotonic()
        try:
            outcome = await self._send_safely(row)
            await reach("webhook.posted")
            await self._record(row, outcome, round(1000 * (time.monotonic() - began)))
        except PuploadError as error:
            # The database is gone, or the run is: if it is the former, this is due again when the claim is over.
            _LOG.warning("webhook %s of run %s: %s", row["id"], row["run_id"], error)

    async def _send_safely(self, row: asyncpg.Record) -> Outcome:
        try:
            return await self._send(row)
        except PuploadError:
            raise
        except Exception:  # noqa: BLE001 - logged, and a try like any other, so that it ends some day
            _LOG.exception("webhook %s of run %s", row["id"], row["run_id"])
            return Outcome(None, "a fault of the server's own; its log has more")

    async def _send(self, row: asyncpg.Record) -> Outcome:
        body = await self._body(RunID(row["run_id"]), row["seq"])
        await reach("webhook.claimed")
        headers = self._signer.headers(row["id"], datetime.now(UTC), body, row["account"])
        try:
            return judged(await self._web.post(row["url"], body.encode(), headers), datetime.now(UTC))
        except PuploadError as error:
            return Outcome(None, error.message)

    async def _body(self, run_id: RunID, seq: int) -> str:
        events = await self._views.events(run_id, seq - 1, 1)
        if not events:
            raise NotFound(f"run {run_id!r} has no event {seq} any more")
        told = WebhookBody(**events[0].model_dump(), run=await self._views.report(run_id))
        return told.model_dump_json(by_alias=True)

    async def _record(self, row: asyncpg.Record, outcome: Outcome, duration_ms: int) -> None:
        wished_s = min(outcome.wait_s, _LONGEST_PAUSE_S)
        pause_s = max(wished_s, pause_after(row["tries"] + 1, self._config.webhook_delay_s, random()))  # noqa: S311 - spreads tries, guards nothing
        async with self._database.connection() as connection:
            state = await connection.fetchval(
                SQL["record_try"],
                row["id"],
                row["tries"],
                outcome.arrived,
                outcome.ended,
                timedelta(seconds=pause_s),
                outcome.status,
                outcome.error,
                duration_ms,
            )
        if state == "failed":
            _LOG.warning("webhook %s of run %s is given up: %s", row["id"], row["run_id"], outcome.error)


def judged(posted: Posted, now: datetime) -> Outcome:
    """What the receiver's answer means.

    >>> judged(Posted(204, {}), datetime.now(UTC)).arrived, judged(Posted(410, {}), datetime.now(UTC)).ended
    (True, True)
    """
    if 200 <= posted.status < 300:
        return Outcome(posted.status)
    if posted.status == _GONE:
        return Outcome(posted.status, "the receiver wants no more of this (410)", ended=True)
    if 300 <= posted.status < 400:
        return Outcome(posted.status, f"the receiver redirects ({posted.status}); give the URL that it leads to")
    wait_s = wait_asked(posted.headers, now)
    return Outcome(posted.status, f"the receiver answered {posted.status}", wait_s=wait_s)


def wait_asked(headers: Mapping[str, str], now: datetime) -> float:
    """The seconds that `Retry-After` asks for, 0 without it. Source: RFC 9110, 10.2.3.

    >>> wait_asked({"retry-after": "120"}, datetime.now(UTC))
    120.0
    """
    text = next((value.strip() for name, value in headers.items() if name.lower() == "retry-after"), "")
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    with suppress(ValueError, OverflowError):
        at = parsedate_to_datetime(text)
        return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())
    return 0.0


def pause_after(tries: int, first_s: float, jitter: float) -> float:
    """The seconds before the next try, after so many: four times as long each time, up to six hours, and spread.

    >>> [round(pause_after(tries, 5.0, 0.5)) for tries in (1, 2, 3, 6, 9)]
    [5, 20, 80, 5120, 21600]
    """
    usual_s: float = min(first_s * 4.0 ** min(tries - 1, 30), _LONGEST_PAUSE_S)
    return usual_s * (0.75 + 0.5 * jitter)
