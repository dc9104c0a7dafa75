"""What one client has done to a system and heard of it: the half of the truth that no server can rewrite."""

import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support.visitor import Frame
from tests.support.web_server import Seen

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Told:
    """One webhook as it arrived. `id` is the delivery's, the same at every try."""

    id: str
    body: Mapping[str, Any]


@dataclass(slots=True)
class History:
    """Any thread may write it.

    `posted` are the ids that were answered to each idempotency key; `cancelled` the status that the answer to a cancel
    gave, by run; `removed` the runs whose removal was acknowledged; `seen` the events of a run's stream, in the order
    in which they came, over however many connections; `told` the webhooks that were taken.
    """

    posted: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    cancelled: dict[str, str] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    seen: dict[str, list[Frame]] = field(default_factory=lambda: defaultdict(list))
    told: list[Told] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def acknowledged(self) -> set[str]:
        """The runs that an answer has named."""
        with self._lock:
            return {run for runs in self.posted.values() for run in runs}

    def note_posted(self, key: str, run_id: str) -> None:
        """A request with this key was answered with this run."""
        with self._lock:
            self.posted[key].append(run_id)

    def note_cancelled(self, run_id: str, status: str) -> None:
        """A cancel was answered with the run at this status."""
        with self._lock:
            self.cancelled.setdefault(run_id, status)

    def note_removed(self, run_id: str) -> None:
        """The run's removal was acknowledged."""
        with self._lock:
            self.removed.add(run_id)

    def note_seen(self, run_id: str, frame: Frame) -> None:
        """An event came."""
        with self._lock:
            self.seen[run_id].append(frame)

    def note_told(self, told: Told) -> None:
        """A webhook came."""
        with self._lock:
            self.told.append(told)


def told_by(request: Seen, body: Mapping[str, Any]) -> Told:
    """The webhook in a request."""
    return Told(request.headers["webhook-id"], body)
