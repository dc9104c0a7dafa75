"""The server itself: is it well, what does it offer, who works for it."""

import asyncio
import time

from aiohttp import web

from pupload.answers.server import GpuAnswer, TierAnswer, WorkerAnswer
from pupload.controller.routes.answering import answer
from pupload.controller.routes.declaring import ADMIN, READ, get
from pupload.controller.state import Parts, parts_of
from pupload.controller.workers import list_workers
from pupload.db.clock import clock_fault
from pupload.document import Document
from pupload.errors import PuploadError
from pupload.tiers import Tier

_PATIENCE_S = 3.0
"""Whoever asks whether this is well waits no longer."""
_KNOWN_S = 0.25


class Tiers(Document):
    """All tiers."""

    tiers: list[TierAnswer]


class Workers(Document):
    """All workers."""

    workers: list[WorkerAnswer]


class Health(Document):
    """How the server is."""

    status: str


class Readiness(Health):
    """Whether the server can work. `warnings` are what it can work with, and somebody should mend."""

    warnings: list[str]


class Footing:
    """What this process stands on. Anybody may ask for it, so that all who ask at a time are one question."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._turn = parts, asyncio.Lock()
        self._until = 0.0
        self._fault: PuploadError | None = None
        self._warnings: list[str] = []

    async def require(self) -> list[str]:
        """What is not as it should be, once all of it answers.

        Errors: Unavailable; what the stores raise.
        """
        async with self._turn:
            if time.monotonic() >= self._until:
                self._fault = await self._look()
                self._until = time.monotonic() + _KNOWN_S
        if self._fault is not None:
            raise self._fault.with_traceback(None)
        return self._warnings

    async def _look(self) -> PuploadError | None:
        try:
            async with self._parts.service.database.connection() as connection:
                wrong = await clock_fault(connection, _PATIENCE_S)
            self._warnings = [wrong] if wrong else []
            for store in self._parts.stores.server_stores():
                await store.check()
        except PuploadError as error:
            return error
        return None


FOOTING = web.AppKey("footing", Footing)


async def tiers(request: web.Request) -> web.Response:
    """GET the tiers that a node may ask for."""
    return answer(Tiers(tiers=[_tier(tier) for tier in parts_of(request).tiers.values()]))


def _tier(tier: Tier) -> TierAnswer:
    gpu = GpuAnswer(vendor=tier.gpu.vendor, memory_bytes=tier.gpu.memory_bytes) if tier.gpu else None
    return TierAnswer(name=tier.name, cpu=tier.cpu, memory_bytes=tier.memory_bytes, disk_bytes=tier.disk_bytes, gpu=gpu)


async def workers(request: web.Request) -> web.Response:
    """GET the workers."""
    parts = parts_of(request)
    async with parts.service.database.connection() as connection:
        found = await list_workers(connection, parts.config.lease_s)
    return answer(Workers(workers=found))


async def healthz(_request: web.Request) -> web.Response:
    """GET: this process answers."""
    return answer(Health(status="ok"))


async def readyz(request: web.Request) -> web.Response:
    """GET: what this process stands on answers too; 503 otherwise, saying what does not."""
    return answer(Readiness(status="ready", warnings=await request.app[FOOTING].require()))


ROUTES = [
    get("/api/v1/tiers", tiers, "The sizes that a node may ask for.", Tiers, scope=READ),
    get("/api/v1/workers", workers, "Who works.", Workers, scope=ADMIN),
    get("/healthz", healthz, "The process answers.", Health, open=True),
    get("/readyz", readyz, "Database and stores answer too.", Readiness, open=True),
]
