"""A container's output as lines, however it comes.

Bytes arrive in pieces on a thread of the engine's adapter; lines leave in batches on the event loop. Everything is
bounded: the length of a line, what is shown live, what is kept at all.
"""

import json
import re
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from pupload.units import format_size

MAX_LINE_BYTES = 16 * 1024
TAIL_LINES = 200
TAIL_BYTES = 256 * 1024
"""They travel with the end of an attempt, in one request."""
FLOOD_PAUSE_S = 0.01
"""After each piece, of 64 KB at most, that comes when a log is full: so 6 MB a second are read of a flood."""
_IN_MEMORY_BYTES = 64 * 1024
_MAX_WAITING_LINES = 20_000
_PROGRESS = re.compile(r"::progress\s+(\d+(?:\.\d+)?)\s*(?:%|/\s*(\d+(?:\.\d+)?))\s*")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line. `stream` is stdout, stderr, or system for what the worker itself has to say."""

    at: datetime
    stream: str
    text: str


class LineSplitter:
    """Cuts one stream of bytes into lines; a longer line than 16 KB comes in pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        lines = [piece for line in whole for piece in _pieces(line)]
        if len(self._rest) >= MAX_LINE_BYTES:
            *full, self._rest = _pieces(self._rest)
            lines += full
        return lines

    def rest(self) -> list[bytes]:
        """What is left without a newline, once the stream has ended."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


def _pieces(line: bytes) -> list[bytes]:
    return [line[at : at + MAX_LINE_BYTES] for at in range(0, len(line), MAX_LINE_BYTES)] or [b""]


def readable(raw: bytes) -> str:
    """`raw` as text that a terminal and a database take without harm.

    >>> readable(b"caf\\xc3\\xa9 \\x00\\x1b[31m \\xff\\r")
    'café \\\\x00\\\\x1b[31m \ufffd'
    """
    text = raw.removesuffix(b"\r").decode("utf-8", "replace")
    return _CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", text)


def progress_of(text: str) -> float | None:
    """Percent that a progress line tells, None for any other line.

    >>> progress_of("::progress 37.5%"), progress_of("::progress 1/4"), progress_of("progress 3%")
    (37.5, 25.0, None)
    """
    match = _PROGRESS.fullmatch(text)
    if match is None:
        return None
    done, of = float(match.group(1)), match.group(2)
    if of is None:
        return min(100.0, done)
    return min(100.0, 100.0 * done / float(of)) if float(of) > 0 else None


class Log:
    """The log of one attempt. `feed` may be called from any thread; `wake` is called there when there is news.

    Units: `live_bytes` counts the text of lines, `whole_bytes` all that is kept of them.
    """

    def __init__(self, folder: Path, *, live_bytes: int, whole_bytes: int, wake: Callable[[], None]) -> None:
        self._live_left = live_bytes
        self._whole_left = self._whole_bytes = whole_bytes
        self._wake = wake
        self._lock = threading.Lock()
        self._splitters = {"stdout": LineSplitter(), "stderr": LineSplitter()}
        self._waiting: deque[LogLine] = deque()
        self._tail: deque[LogLine] = deque(maxlen=TAIL_LINES)
        self._progress: float | None = None
        self._spool: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES, dir=str(folder))  # noqa: SIM115
        self.last_error = ""
        self.beyond_live = False

    def feed(self, stream: str, data: bytes) -> None:
        """Take bytes that the container wrote to `stream`."""
        if self._whole_left <= 0:
            # Nothing more is kept. A program that goes on is slowed down by its full pipe, not the engine by it.
            time.sleep(FLOOD_PAUSE_S)
            return
        with self._lock:
            for raw in self._splitters[stream].feed(data):
                self._take_in(stream, raw)
            news = bool(self._waiting) or self._progress is not None
        if news:
            self._wake()

    def say(self, text: str) -> None:
        """Add a line of the worker's own."""
        with self._lock:
            self._keep(LogLine(datetime.now(UTC), "system", text))
        self._wake()

    def end(self) -> None:
        """Take what the streams left without a newline."""
        with self._lock:
            for stream, splitter in self._splitters.items():
                for raw in splitter.rest():
                    self._take_in(stream, raw)

    def take(self, most: int, most_bytes: int) -> tuple[list[LogLine], float | None]:
        """Lines that nobody has taken yet, in order, and the newest progress if it changed.

        At most `most` lines, and none after one that goes beyond `most_bytes`.
        """
        lines = list[LogLine]()
        with self._lock:
            while self._waiting and len(lines) < most and most_bytes > 0:
                lines.append(self._waiting.popleft())
                most_bytes -= _size_of(lines[-1])
            progress, self._progress = self._progress, None
        return lines, progress

    def tail(self) -> list[LogLine]:
        """The last of the lines that came once no more were shown live."""
        with self._lock:
            room, kept = TAIL_BYTES, list[LogLine]()
            for line in reversed(self._tail):
                room -= _size_of(line)
                if room < 0:
                    break
                kept.append(line)
            return kept[::-1]

    def whole(self) -> IO[bytes]:
        """The whole log as a file at its beginning: one JSON object a line with At, Stream and Text."""
        with self._lock:
            self._spool.flush()
            self._spool.seek(0)
        return self._spool

    def close(self) -> None:
        """Let go of the spool file."""
        self._spool.close()

    def _take_in(self, stream: str, raw: bytes) -> None:
        if self._whole_left <= 0:
            return
        text = readable(raw)
        progress = progress_of(text)
        if progress is not None:
            self._progress = progress
            return
        if stream == "stderr" and text.strip():
            self.last_error = text
        self._keep(LogLine(datetime.now(UTC), stream, text))
        if self._whole_left <= 0:
            limit = format_size(self._whole_bytes)
            self._keep(LogLine(datetime.now(UTC), "system", f"the log has reached {limit}; the rest is dropped"))

    def _keep(self, line: LogLine) -> None:
        self._note(line)
        if self.beyond_live:
            self._tail.append(line)
            return
        self._waiting.append(line)
        self._live_left -= _size_of(line)
        if self._live_left <= 0 or len(self._waiting) >= _MAX_WAITING_LINES:
            self.beyond_live = True
            text = "more output than is shown live: the last lines follow at the end, all of it is in the whole log"
            self._waiting.append(LogLine(line.at, "system", text))

    def _note(self, line: LogLine) -> None:
        # Counted as it is kept: a line of one letter is a hundred bytes there.
        entry = _as_json(line)
        self._whole_left -= len(entry)
        try:
            self._spool.write(entry)
        except OSError:
            # A full disk must not stop the reading: the program would hang on its full pipe.
            self._whole_left = 0


def _size_of(line: LogLine) -> int:
    return len(line.text.encode("utf-8", "replace")) + 1


def _as_json(line: LogLine) -> bytes:
    entry = {"At": line.at.isoformat(), "Stream": line.stream, "Text": line.text}
    return json.dumps(entry, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
