"""What attempts of this worker have left behind, removed: by our labels and our directory only, never by a prune."""

import asyncio
import contextlib
import hashlib
import itertools
import logging
import os
import secrets
from collections.abc import Awaitable, Collection
from pathlib import Path

from pupload.containers.docker import Engine
from pupload.errors import PuploadError

LABEL = "pupload."
"""Every label of ours begins so."""

WORKER = LABEL + "worker"
HOME = LABEL + "home"
"""Which work directory a container's files lie in; no two workers have the same, whatever their names."""
RUN = LABEL + "run"
NODE = LABEL + "node"
ATTEMPT = LABEL + "attempt"
INSTANCE = LABEL + "instance"

log = logging.getLogger(__name__)


async def sweep(engine: Engine, worker: str, work_dir: Path, held: Collection[str]) -> int:
    """How many containers and work directories without an attempt were removed.

    `held` are the names that attempts of now go by; containers and directories have the same.
    A failure is logged and left to the next look.
    """
    removed = 0
    for container in await engine.list_labelled({WORKER: worker, HOME: home_of(work_dir)}):
        if container.name not in held:
            removed += await _tried(container.name, engine.remove(container.id))
    for path in await asyncio.to_thread(_entries, work_dir):
        if path.name not in held:
            removed += await _tried(path.name, asyncio.to_thread(remove_tree, path))
    return removed


def home_of(work_dir: Path) -> str:
    """What marks the containers of the worker over this directory."""
    return hashlib.sha256(str(work_dir.resolve()).encode()).hexdigest()[:16]


async def _tried(name: str, removal: Awaitable[None]) -> int:
    try:
        await removal
    except (PuploadError, OSError) as error:
        log.warning("leftover %s stays for now: %s", name, error)
        return 0
    log.info("removed leftover %s", name)
    return 1


def _entries(work_dir: Path) -> list[Path]:
    return [path for path in work_dir.iterdir() if path.is_dir() and not path.is_symlink()]


def remove_tree(path: Path) -> None:
    """Remove `path` and all in it, also what a program has left without permissions; one that is gone is fine.

    Folders are moved up before they are emptied: a program may nest them deeper than a path can say, or a stack hold.
    """
    mark, numbers = secrets.token_hex(8), itertools.count()
    waiting = [path]
    while waiting:
        folder = waiting.pop()
        for inner in _emptied(folder):
            moved = path / f"{mark}-{next(numbers)}"
            inner.rename(moved)
            waiting.append(moved)
        if folder != path:
            folder.rmdir()
    with contextlib.suppress(FileNotFoundError):
        path.rmdir()


def _emptied(folder: Path) -> list[Path]:
    """The folders in `folder`, which holds nothing else any more; each may be moved."""
    try:
        folder.chmod(0o700)
        inside = list(os.scandir(folder))
    except FileNotFoundError:
        return []
    folders = [Path(entry.path) for entry in inside if entry.is_dir(follow_symlinks=False)]
    for entry in inside:
        if not entry.is_dir(follow_symlinks=False):
            Path(entry.path).unlink()
    for inner in folders:
        inner.chmod(0o700)
    return folders
