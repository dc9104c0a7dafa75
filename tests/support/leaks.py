"""What a test may leave behind: nothing."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import docker
import psutil  # type: ignore[import-untyped]

LABELS = ("pupload.run", "pupload.worker")
TEMPORARY = Path("/tmp")


@dataclass(frozen=True)
class Traces:
    """What there is of ours on this machine, by what identifies it."""

    containers: frozenset[str]
    volumes: frozenset[str]
    networks: frozenset[str]
    mounts: frozenset[str]

    def beyond(self, before: "Traces") -> dict[str, list[str]]:
        """What is here and was not there."""
        new = {field.name: sorted(getattr(self, field.name) - getattr(before, field.name)) for field in fields(self)}
        return {kind: found for kind, found in new.items() if found}


def traces(engine: docker.APIClient) -> Traces:
    """The traces of now."""
    containers = [row for label in LABELS for row in engine.containers(all=True, filters={"label": label})]
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return Traces(
        containers=frozenset(row["Names"][0] for row in containers),
        volumes=frozenset(row["Name"] for row in engine.volumes()["Volumes"] or []),
        networks=frozenset(row["Name"] for row in engine.networks()),
        mounts=frozenset(mount for mount in mounts if "/pup" in mount),
    )


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
    assert not _children() - processes, "processes left behind"
    assert not _folders() - folders, "temporary folders left behind"


def _children() -> set[tuple[int, str]]:
    # A shared PostgreSQL lives as long as the session, in a folder of its own.
    children = psutil.Process().children(recursive=True)
    return {(child.pid, " ".join(child.cmdline())) for child in children if child.status() != psutil.STATUS_ZOMBIE}


def _folders() -> set[str]:
    return {path.name for path in TEMPORARY.glob("pup-*") if not path.name.startswith("pup-pg-")}
