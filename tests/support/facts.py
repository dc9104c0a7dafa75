"""What there is of a system, read once: rows, objects, containers, directories, logs, sessions of the database."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import docker

from pupload.errors import NotFound
from pupload.stores.base import Store
from tests.support.processes import Footprint, footprint
from tests.support.rows import RunRows, fetch_rows

_LARGEST = 64 * 1024**2
_READS = 8


@dataclass(frozen=True, slots=True)
class Surveyed:
    """Where to look. Any number of controllers and workers may be behind it, started by whomever.

    `stores` are by the name that flows use, `workers` the names that mark containers, by the engines that may have
    them. `scratch` are folders in which a store keeps what is being written, whose files begin with `.rclone_temp_`.
    `secrets` may stand nowhere. `footprints` are the processes as they were before, by id.
    """

    dsn: str
    stores: Mapping[str, Store]
    workers: Sequence[str] = ()
    engines: Sequence[docker.APIClient] = ()
    work_dirs: Sequence[Path] = ()
    scratch: Sequence[Path] = ()
    logs: Sequence[Path] = ()
    secrets: Sequence[str] = ()
    footprints: Mapping[int, Footprint] = field(default_factory=dict)
    lease_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found. `objects` are sizes by store and key, `digests` SHA-256 by store and key of what artifacts name.

    `idle` are statements of transactions that do nothing, `blocked` those that wait for a lock.
    """

    place: Surveyed
    runs: Mapping[str, RunRows]
    webhooks: Sequence[asyncpg.Record]
    intakes: frozenset[tuple[str, str]]
    owners: frozenset[str]
    now: float
    idle: Sequence[str]
    blocked: Sequence[str]
    objects: Mapping[tuple[str, str], int]
    digests: Mapping[tuple[str, str], str]
    containers: Sequence[str]
    folders: Sequence[str]
    unfinished: Sequence[str]
    mounts: Sequence[str]
    logs: Mapping[str, str]
    footprints: Mapping[int, Footprint]


async def read_facts(place: Surveyed) -> Facts:
    """What there is now. Nothing is changed."""
    connection = await asyncpg.connect(place.dsn)
    try:
        runs = {
            row["id"]: await fetch_rows(connection, row["id"])
            for row in await connection.fetch("SELECT id FROM runs ORDER BY id")
        }
        webhooks = await connection.fetch("SELECT * FROM webhooks ORDER BY run_id, seq")
        intakes = await connection.fetch("SELECT store, key FROM intakes")
        owners = await connection.fetch("SELECT id FROM sessions UNION SELECT id FROM files")
        now = await connection.fetchval("SELECT extract(epoch FROM now())::float8")
        idle, blocked = await _waiting(connection)
    finally:
        await connection.close()
    objects = {
        (name, head.key): head.size_bytes for name, store in place.stores.items() async for head in store.list("")
    }
    return Facts(
        place=place,
        runs=runs,
        webhooks=webhooks,
        intakes=frozenset((row["store"], row["key"]) for row in intakes),
        owners=frozenset(row["id"] for row in owners),
        now=now,
        idle=idle,
        blocked=blocked,
        objects=objects,
        digests=await _digests(place, runs),
        containers=await asyncio.to_thread(_containers, place),
        folders=[str(path) for folder in place.work_dirs for path in _folders(folder)],
        unfinished=[str(path) for folder in place.scratch for path in folder.rglob(".rclone_temp_*")],
        mounts=_mounts(place),
        logs={str(path): path.read_text(errors="replace") for path in place.logs if path.exists()},
        footprints={pid: held for pid in place.footprints if (held := footprint(pid)) is not None},
    )


async def _waiting(connection: asyncpg.Connection) -> tuple[list[str], list[str]]:
    rows = await connection.fetch(
        "SELECT query, state LIKE 'idle in transaction%' AND state_change < now() - interval '5 s' AS idle,"
        " wait_event_type = 'Lock' AND query_start < now() - interval '5 s' AS blocked"
        " FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    return [row["query"] for row in rows if row["idle"]], [row["query"] for row in rows if row["blocked"]]


async def _digests(place: Surveyed, runs: Mapping[str, RunRows]) -> dict[tuple[str, str], str]:
    """SHA-256 of every object that an artifact names; "" where it cannot be had."""
    gate = asyncio.Semaphore(_READS)

    async def digest(name: str, key: str) -> str:
        async with gate:
            try:
                return hashlib.sha256(await place.stores[name].get(key, _LARGEST)).hexdigest()
            except NotFound:
                return ""

    named = {
        (each["store"], each["key"])
        for rows in runs.values()
        for each in rows.artifacts
        if each["store"] in place.stores
    }
    return dict(zip(named, await asyncio.gather(*(digest(*each) for each in named)), strict=True))


def _containers(place: Surveyed) -> list[str]:
    marks = [f"pupload.worker={name}" for name in place.workers]
    return [
        row["Names"][0].lstrip("/")
        for engine in place.engines
        for mark in marks
        for row in engine.containers(all=True, filters={"label": mark})
    ]


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.exists() else []


def _mounts(place: Surveyed) -> list[str]:
    folders = [str(folder.resolve()) for folder in place.work_dirs]
    mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [point for point in mounted if any(point.startswith(f"{folder}/") for folder in folders)]
