"""How much memory the processes of a server take."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_APART_S = 0.05


def megabytes(pid: int) -> int:
    """What the process has in memory, shared pages included."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) // 1024
    raise ProcessLookupError(pid)


def children(pid: int) -> Iterator[int]:
    """The processes that `pid` has started."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        yield from map(int, (thread / "children").read_text().split())


def worker_of(server: int, patience_s: float = 30) -> int:
    """The worker that a `pup dev` has started.

    Errors: TimeoutError when it has none in time.
    """
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        for child in children(server):
            if b"\0worker\0" in Path(f"/proc/{child}/cmdline").read_bytes():
                return child
        time.sleep(_APART_S)
    raise TimeoutError(f"process {server} has no worker")


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a server takes. Units: megabytes."""

    controller: int
    worker: int

    @classmethod
    def of(cls, server: int) -> Self:
        """The footprint of a `pup dev` and its worker, now."""
        return cls(megabytes(server), megabytes(worker_of(server)))

    def __str__(self) -> str:
        return f"controller {self.controller} MB, worker {self.worker} MB"


class Watching(threading.Thread):
    """The least and the most that a process takes while the block lasts. Units: megabytes."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._over = threading.Event()
        self.least = self.most = megabytes(pid)

    def __enter__(self) -> "Watching":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        """Look until the block is over."""
        while not self._over.wait(_APART_S):
            now = megabytes(self._pid)
            self.least, self.most = min(self.least, now), max(self.most, now)
