"""What a process holds, as the kernel counts it."""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_SLACK = {"descriptors": 12, "threads": 12, "memory_kb": 30_000}
"""What a process may hold more than before by chance: connections that are kept, threads of a pool that grew."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Open descriptors, threads, and resident memory in KiB."""

    descriptors: int
    threads: int
    memory_kb: int


def footprint(pid: int) -> Footprint | None:
    """What the process holds now; None where there is none."""
    place = Path(f"/proc/{pid}")
    with contextlib.suppress(OSError):
        status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines() if ":" in line)
        if "VmRSS" not in status:
            return None
        return Footprint(
            descriptors=len(list((place / "fd").iterdir())),
            threads=int(status["Threads"]),
            memory_kb=int(status["VmRSS"].split()[0]),
        )
    return None


def growth(before: Mapping[int, Footprint], now: Mapping[int, Footprint]) -> Iterable[str]:
    """What processes hold more than they did, beyond a tenth and a few."""
    for pid in before.keys() & now.keys():
        for name, slack in _SLACK.items():
            had, has = getattr(before[pid], name), getattr(now[pid], name)
            if has > had * 1.1 + slack:
                yield f"process {pid} holds {has} {name}, it held {had}"
