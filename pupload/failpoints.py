"""Places at which a test may break this program: killed, stopped, faulty, slow or hung, exactly there.

`FAILPOINTS=name:action[:nth][,…]` arms them, `FAILPOINTS=@path` by the text of a file that is read again whenever it
changes. Each strikes once in a process, when its place is reached for the `nth` time, and says so in the log. Without
the variable a place costs one look at a global.
"""

import asyncio
import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pupload.errors import InvalidConfig

VARIABLE = "FAILPOINTS"

POINTS = {
    # The controller's.
    "submission.taken": "the inputs that came with a request are stored, its run is not",
    "submission.before_commit": "a run's rows are written",
    "submission.committed": "a run is stored, and nobody knows of it yet",
    "upload.found": "an awaited object is there, and its run has not been told",
    "multipart.joined": "the store has made one object of an upload's parts, and nothing else knows",
    "claim.before_commit": "an attempt has begun in the rows",
    "claim.committed": "an attempt has begun, and what its worker is to do is not put together",
    "claim.answering": "an attempt is about to be handed to its worker",
    "session.seated": "an attempt has its turn at a session's folder, in the rows",
    "session.kept": "a session's folder has changed, in the rows of its attempt's end",
    "image.pinned": "what an image means in a run is in its row, and the worker has not heard",
    "sign.lent": "URLs are signed, and not sent",
    "beat.extended": "leases are extended, and the worker has not heard",
    "log.recorded": "log lines are kept, and the worker has not heard",
    "finish.weighed": "an attempt's end is judged and its objects are where they belong; no row says so",
    "finish.before_commit": "an attempt's end and what follows from it are written",
    "finish.committed": "an attempt has ended, and the worker has not heard",
    "cancel.committed": "a run is to stop, and the client has not heard",
    "resume.before_commit": "tool results are written",
    "resume.committed": "a run goes on with its tool results, and the client has not heard",
    "reconcile.look": "one of the looks for what was missed begins",
    "reconcile.lost": "an attempt was found that nobody holds any more",
    "reconcile.swept": "objects that nothing names are removed, and no row says so",
    "chore.taken": "a chore is out of the queue and not done",
    "chore.done": "a chore is done",
    "webhook.claimed": "a webhook is about to be posted",
    "webhook.posted": "a webhook has arrived, and no row says so",
    "removal.condemned": "a run is to be removed, and all of it is there",
    "removal.objects_gone": "a run's objects are removed, its rows are not",
    # The worker's.
    "worker.greeted": "the controller knows of the worker, and it has claimed nothing",
    "claim.heard": "attempts were handed to the worker, and it has begun none",
    "attempt.placed": "the attempt's directory is made",
    "input.arrived": "an input is here under its temporary name",
    "image.present": "the image is here",
    "container.creating": "the container is about to be created",
    "container.made": "the container exists, and the engine's answer is lost",
    "container.created": "the container's id is known",
    "container.starting": "the container's output is listened to; it is not started",
    "container.started": "the container runs",
    "attempt.exited": "the program has ended",
    "outputs.checked": "the outputs are checked, and nothing of them is stored",
    "output.stored": "an output is in the store, at the attempt's own key",
    "attempt.killing": "the program is about to be told to end",
    "finish.sending": "the controller is about to hear of the attempt's end",
    "finish.heard": "the controller knows of the attempt's end",
    "cleanup.begun": "the attempt is over, and all that it made is there",
    "cleanup.container_gone": "the attempt's container is removed, its directory is not",
    "beat.sending": "a sign of life is about to be given",
    "image.removing": "an image that nothing uses is about to be removed from the engine",
    "worker.draining": "the worker takes no more work, and holds some",
}
"""Every place and what is true there; each is reached in one place of the code."""

_ACTIONS = frozenset({"kill", "stop", "raise", "hang", "sleep"})
_log = logging.getLogger(__name__)


class Struck(Exception):
    """The fault that `raise` is: one that no other part of the program knows."""


@dataclass(frozen=True, slots=True)
class _Blow:
    """What happens at the `nth` time. Units: `seconds` of a sleep."""

    action: str
    nth: int
    seconds: float = 0.0


class _Nothing:
    """What is awaited where no failpoint strikes: over at once, and made only once."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        return _OVER  # type: ignore[return-value]  # an iterator is all that `await` asks for


_OVER: Iterator[None] = iter(())
_NOTHING = _Nothing()


class _Armed:
    """The blows that are wished for, and how often each place was reached."""

    def __init__(self, wish: str) -> None:
        self._file = Path(wish[1:]) if wish.startswith("@") else None
        self._read: object = None
        self._reached = Counter[str]()
        self._blows = read_wish(wish) if self._file is None else {}
        self._lock = threading.Lock()

    def blow(self, name: str) -> _Blow | None:
        """What is to happen here and now."""
        with self._lock:
            self._read_again()
            self._reached[name] += 1
            blow = self._blows.get(name)
            return blow if blow and blow.nth == self._reached[name] else None

    def _read_again(self) -> None:
        if self._file is None:
            return
        try:
            about = self._file.stat()
            version = (about.st_ino, about.st_mtime_ns, about.st_size)
            if version != self._read:
                self._blows = read_wish(self._file.read_text())
                self._read = version
                self._reached.clear()
        except FileNotFoundError:
            self._blows, self._read = {}, None


_armed: _Armed | None = None


def arm(wish: str) -> None:
    """From now on the places strike as `wish` says, which is what the variable holds; "" disarms all.

    Errors: InvalidConfig with every place that there is, for a name, action or number that is none.
    """
    global _armed  # noqa: PLW0603 - the one look that a place costs
    _armed = _Armed(wish) if wish else None


def arm_by_environment() -> None:
    """As `arm`, by the variable."""
    arm(os.environ.get(VARIABLE, ""))


def read_wish(text: str) -> dict[str, _Blow]:
    """The blows by place.

    >>> read_wish("claim.heard:kill,beat.sending:sleep(0.5):3")["beat.sending"]
    _Blow(action='sleep', nth=3, seconds=0.5)
    """
    return dict(_read_blow(part.strip()) for part in text.split(",") if part.strip())


def _read_blow(text: str) -> tuple[str, _Blow]:
    name, _, rest = text.partition(":")
    action, _, nth = rest.partition(":")
    kind, _, seconds = action.removesuffix(")").partition("(")
    known = name in POINTS and kind in _ACTIONS and (kind == "sleep") == bool(seconds)
    if known:
        with suppress(ValueError):
            return name, _Blow(kind, int(nth or 1), float(seconds or 0))
    told = "\n".join(f"  {each}" for each in POINTS)
    raise InvalidConfig(
        f"{VARIABLE}: {text!r} is no name:action[:nth] with action kill, stop, raise, hang or sleep(seconds), and"
        f" as name one of\n{told}"
    )


def reach(name: str) -> Awaitable[None]:
    """Await it at a place in asynchronous code."""
    return _NOTHING if _armed is None else _strike(_armed, name)


async def _strike(armed: _Armed, name: str) -> None:
    blow = armed.blow(name)
    if blow is None:
        return
    _at_once(name, blow)
    if blow.action == "hang":
        await asyncio.Event().wait()
    elif blow.action == "sleep":
        await asyncio.sleep(blow.seconds)


def reach_now(name: str) -> None:
    """Call it at a place on a thread that is not the event loop's."""
    if _armed is None:
        return
    blow = _armed.blow(name)
    if blow is None:
        return
    _at_once(name, blow)
    if blow.action == "hang":
        threading.Event().wait()
    elif blow.action == "sleep":
        time.sleep(blow.seconds)


def _at_once(name: str, blow: _Blow) -> None:
    _log.warning("failpoint %s: %s", name, blow.action)
    match blow.action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "raise":
            raise Struck(f"the failpoint {name}")
        case _:
            pass
