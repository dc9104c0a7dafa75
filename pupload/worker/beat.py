"""Signs of life, from a thread of their own: a blocked event loop must not cost a lease.

The worker is trusted with its attempts for as long as its last successful beat is younger than the fence; after that
it ends its own containers, before the controller, by the database's clock, gives the attempts to somebody else.
"""

import logging
import threading
import time
from collections.abc import Callable

import requests
from pydantic import ValidationError

from pupload.failpoints import reach_now
from pupload.protocol import Beat, BeatAnswer, Welcome
from pupload.worker.control import PATH, Addresses

LONGEST_HOLD_S = 2.0
"""A beat is held no longer than this, so that an attempt claimed meanwhile is soon spoken of."""

_AFTER_NEWS_S = 0.25
_AFTER_FAULT_S = 0.5
_LEAST_S = 0.1
_FENCING_S = 2.0

log = logging.getLogger(__name__)


class Beats(threading.Thread):
    """Beats until told to end. `snapshot`, `tell` and `fence` are called on this thread.

    A snapshot of None is a beat that is left out.
    """

    def __init__(
        self,
        addresses: Addresses,
        token: str,
        welcome: Welcome,
        *,
        snapshot: Callable[[], Beat | None],
        tell: Callable[[BeatAnswer], None],
        fence: Callable[[], None],
    ) -> None:
        super().__init__(name="beats", daemon=True)
        self._addresses = addresses
        self._welcome = welcome
        self._snapshot, self._tell, self._fence = snapshot, tell, fence
        self._ended = threading.Event()
        self._turned = self._last = time.monotonic()
        self._fenced = False
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"Bearer {token}"
        self._hold_s = min(welcome.beat_s, LONGEST_HOLD_S)

    def hang(self) -> bool:
        """True once this thread has had time to beat, or else to fence, and has done neither."""
        patience_s = self._welcome.fence_s + _FENCING_S
        now = time.monotonic()
        return now - self._turned > patience_s or (not self._fenced and now - self._last > patience_s)

    def end(self) -> None:
        """End after the beat under way."""
        self._ended.set()

    def run(self) -> None:
        """Beat, hand over the news, and fence when no beat gets through."""
        while not self._ended.is_set():
            sent = self._turned = time.monotonic()
            answer = self._beat_safely(self._welcome.fence_s - (sent - self._last))
            if self._ended.is_set():
                break
            if answer is None:
                if not self._fenced and time.monotonic() - self._last > self._welcome.fence_s:
                    log.error("no beat got through for %g s: ending all attempts", self._welcome.fence_s)
                    self._fenced = True
                    self._fence()
                self._ended.wait(_AFTER_FAULT_S)
                continue
            if sent - self._last > self._welcome.fence_s and not self._fenced:
                # Frozen and thawed: what this worker held is somebody else's by now.
                self._fence()
            self._last, self._fenced = sent, False
            self._tell(answer)
            if answer.stop or answer.lost:
                self._ended.wait(_AFTER_NEWS_S)
        self._session.close()

    def _beat_safely(self, left_s: float) -> BeatAnswer | None:
        try:
            reach_now("beat.sending")
            return self._beat(left_s)
        except Exception:
            # Without this thread the worker would go on, and lose every attempt that it claims.
            log.exception("a beat met a fault of this program")
            return None

    def _beat(self, left_s: float) -> BeatAnswer | None:
        """One beat, given up in time for the fence: a mute controller must not hold that up."""
        beat = self._snapshot()
        if beat is None:
            log.error("the worker's event loop stands still; no beat is sent for it")
            return None
        patience_s = max(1.0, self._welcome.beat_s)
        connect_s, read_s = patience_s, self._hold_s + patience_s
        if left_s > 0:
            connect_s, read_s = min(connect_s, left_s + _LEAST_S), min(read_s, left_s + _LEAST_S)
        base = self._addresses.now
        try:
            response = self._session.post(
                base + PATH + "beat",
                data=beat.model_copy(update={"wait_s": self._hold_s}).model_dump_json(by_alias=True),
                headers={"Content-Type": "application/json"},
                timeout=(connect_s, read_s),
                allow_redirects=False,
            )
            response.raise_for_status()
            return BeatAnswer.model_validate_json(response.content)
        except (requests.RequestException, ValidationError) as error:
            log.warning("a beat did not get through: %s", error)
            self._addresses.leave(base)
            return None
