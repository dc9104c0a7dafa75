"""The workers as rows: who is there, what they offer, and why a tier finds none."""

import json
import uuid
from collections.abc import Iterable, Sequence
from datetime import timedelta

import asyncpg

from pupload.answers.server import CapacityAnswer, WorkerAnswer
from pupload.controller.secrets import new_token, token_digest
from pupload.db.pool import Connection
from pupload.db.sql import SQL
from pupload.errors import NotFound
from pupload.tiers import Capacity, Gpu, Tier, fits, why_not


async def add_worker(connection: Connection, name: str) -> str:
    """A fresh token for the worker of this name, shown this once; an earlier one of the name ends."""
    token = new_token()
    await connection.execute(SQL["add_worker"], f"worker_{uuid.uuid4().hex[:16]}", name, token_digest(token))
    return token


async def revoke_worker(connection: Connection, name: str) -> None:
    """End the token of the worker of this name.

    Errors: NotFound.
    """
    if await connection.fetchval(SQL["revoke_worker"], name) is None:
        raise NotFound(f"there is no worker named {name!r} with a token")


async def list_workers(connection: Connection, lease_s: float) -> list[WorkerAnswer]:
    """All workers that have a token, by name; live is who beat within a lease."""
    rows = await connection.fetch(SQL["list_workers"], timedelta(seconds=lease_s))
    return [_answer(row) for row in rows]


async def unservable(connection: Connection, tiers: Iterable[Tier], lease_s: float) -> dict[str, str]:
    """Tiers that no live worker could hold even when idle, by name, with the reason."""
    live = [worker for worker in await list_workers(connection, lease_s) if worker.live]
    offers = [_capacity(worker) for worker in live]
    return {tier.name: _reason(tier, offers) for tier in tiers if not any(fits(tier, offer) for offer in offers)}


def _reason(tier: Tier, offers: Sequence[Capacity]) -> str:
    if not offers:
        return "no worker is connected; start one with `pup worker`"
    largest = max(offers, key=lambda offer: (offer.memory_bytes, offer.cpu))
    return f"no worker can hold tier {tier.name}: {why_not(tier, largest)} at the largest of {len(offers)}"


def _answer(row: asyncpg.Record) -> WorkerAnswer:
    return WorkerAnswer(
        id=row["id"],
        name=row["name"],
        live=bool(row["live"]),
        draining=row["draining"],
        attempts=row["attempts"],
        version=row["version"],
        engine=row["engine"],
        architecture=row["architecture"],
        capacity=CapacityAnswer.model_validate(json.loads(row["capacity"] or "{}")),
        free=CapacityAnswer.model_validate(json.loads(row["free"] or "{}")),
        seen_at=row["seen_at"],
    )


def _capacity(worker: WorkerAnswer) -> Capacity:
    offer = worker.capacity
    gpus = tuple(Gpu(gpu.vendor, gpu.memory_bytes) for gpu in offer.gpus)
    return Capacity(offer.cpu, offer.memory_bytes, offer.disk_bytes, gpus)
