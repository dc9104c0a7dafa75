"""What a test may leave behind: nothing. What other test processes have made is theirs to answer for."""

import asyncio
import gc
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import docker
import psutil  # type: ignore[import-untyped]

from tests.support import claims

WORKER = "pupload.worker"
LABELS = {"pupload.run", WORKER}
Row = Mapping[str, Any]
"""What the engine says of one thing."""

_SETTLE_S = 20.0
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Trace:
    """Something on this machine that identifies itself so. `ours`: it surely is."""

    kind: str
    name: str
    ours: bool


def traces(engine: docker.APIClient, folder: Path) -> frozenset[Trace]:
    """Every container, volume and network of now, less what others have claimed, and our mounts.

    These are in `folder`, which is ours too, or among our temporary files.
    """
    containers = engine.containers(all=True)
    volumes = _volumes(engine, _held_by_others(containers))
    found = [*_containers(containers), *volumes, *_networks(engine), *_mounts(folder)]
    return frozenset(trace for trace in found if trace is not None)


def left_over(engine: docker.APIClient, folder: Path, before: frozenset[Trace]) -> list[str]:
    """What is there and was not before.

    What nobody has claimed may be another process's, in use, and has time to go: a leak stays.
    """
    deadline = time.monotonic() + _SETTLE_S
    while new := traces(engine, folder) - before:
        if any(trace.ours for trace in new) or not claims.others() or time.monotonic() > deadline:
            break
        time.sleep(_POLL_S)
    return sorted(f"{trace.kind} {trace.name}" for trace in new)


def _containers(rows: list[Row]) -> Iterator[Trace | None]:
    for row in rows:
        if LABELS & set(row["Labels"] or {}):
            yield _labelled("container", row["Names"][0], row)


def _held_by_others(containers: list[Row]) -> set[str]:
    """The volumes of others' containers; those without a name of their own carry no label."""
    theirs = (row for row in containers if claims.is_others(_worker(row)))
    return {mount.get("Name", "") for row in theirs for mount in row["Mounts"]}


def _volumes(engine: docker.APIClient, held_by_others: set[str]) -> Iterator[Trace | None]:
    for row in engine.volumes()["Volumes"] or []:
        if row["Name"] not in held_by_others:
            yield _labelled("volume", row["Name"], row)


def _networks(engine: docker.APIClient) -> Iterator[Trace | None]:
    for row in engine.networks():
        yield _labelled("network", row["Name"], row)


def _labelled(kind: str, name: str, row: Row) -> Trace | None:
    worker = _worker(row)
    return None if claims.is_others(worker) else Trace(kind, name, claims.is_ours(worker))


def _worker(row: Row) -> str:
    return str((row.get("Labels") or {}).get(WORKER, ""))


def _mounts(folder: Path) -> Iterator[Trace]:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        place = Path(line.split()[1])
        if place.is_relative_to(folder) or place.is_relative_to(claims.own()):
            yield Trace("mount", str(place), ours=True)


def tasks_of_ours() -> list[str]:
    """Tasks of this loop that run the project's code."""
    return [repr(task) for task in asyncio.all_tasks() if _is_ours(task)]


def _is_ours(task: "asyncio.Task[object]") -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and "/pupload/" in code.co_filename


@contextmanager
def no_process_left() -> Iterator[None]:
    """Fails when a child process, or a folder of ours among the temporary ones, outlives the block."""
    processes, folders = _children(), _folders()
    yield
    # One that was told to end may need a moment yet.
    _, left = psutil.wait_procs(_children() - processes, timeout=_SETTLE_S)
    assert not [str(process) for process in left], "processes left behind"
    assert not _folders() - folders, "temporary folders left behind"


@contextmanager
def no_session_left() -> Iterator[None]:
    """Fails when a session of aiohttp's that nobody has closed outlives the block.

    It would be told of when it is garbage, which may be long after: the library remembers what applications hold.
    """
    before = _sessions()
    yield
    assert not _sessions() - before, "sessions left open"


def _sessions() -> set[aiohttp.ClientSession]:
    found = (each for each in gc.get_objects() if isinstance(each, aiohttp.ClientSession))
    return {session for session in found if not session.closed}


def _children() -> set[psutil.Process]:
    return {child for child in psutil.Process().children(recursive=True) if _lives(child)}


def _lives(child: psutil.Process) -> bool:
    try:
        return bool(child.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _folders() -> set[str]:
    # A shared PostgreSQL lives as long as the session, in a folder of its own.
    return {path.name for path in claims.own().glob("pup-*") if not path.name.startswith("pup-pg-")}
