"""Files that attempts here have just stored, for the next attempt here that reads them.

The object in the store stays the truth: what is handed over is read and hashed like what comes from there, and where
it is not to be had, or is not what it should be, the object is fetched. Only descriptors are kept, of files whose names
go with their attempt: nothing is to be cleaned up after a crash.
"""

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

MOST_BYTES = 256 * 1024**2
MOST_FILES = 256
KEPT_S = 60.0


@dataclass(frozen=True, slots=True)
class _Kept:
    fd: int
    size_bytes: int
    at: float


class Handover:
    """The newest of them, by SHA-256. Its methods may be called on any thread.

    Units: bytes, seconds.
    """

    def __init__(self, most_bytes: int = MOST_BYTES, kept_s: float = KEPT_S) -> None:
        self._most_bytes, self._kept_s = most_bytes, kept_s
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, sha256: str, fd: int, size_bytes: int) -> None:
        """Keep what `fd` has open; the caller may close it."""
        with self._lock:
            self._drop(sha256)
            self._kept[sha256] = _Kept(os.dup(fd), size_bytes, time.monotonic())
            while self._is_too_much():
                self._drop(next(iter(self._kept)))

    @contextmanager
    def opened(self, sha256: str) -> Iterator[int]:
        """A descriptor of the file, to be read by `pread`: others may read it at the same time.

        Errors: KeyError where it is not kept.
        """
        with self._lock:
            fd = os.dup(self._kept[sha256].fd)
        try:
            yield fd
        finally:
            os.close(fd)

    def drop(self, sha256: str) -> None:
        """Let go of the file; one that is not kept is fine."""
        with self._lock:
            self._drop(sha256)

    def drop_old(self) -> None:
        """Let go of what was kept long enough."""
        with self._lock:
            for sha256, kept in list(self._kept.items()):
                if kept.at + self._kept_s <= time.monotonic():
                    self._drop(sha256)

    def close(self) -> None:
        """Let go of all."""
        with self._lock:
            for sha256 in list(self._kept):
                self._drop(sha256)

    def _is_too_much(self) -> bool:
        return len(self._kept) > MOST_FILES or sum(kept.size_bytes for kept in self._kept.values()) > self._most_bytes

    def _drop(self, sha256: str) -> None:
        if (kept := self._kept.pop(sha256, None)) is not None:
            os.close(kept.fd)
