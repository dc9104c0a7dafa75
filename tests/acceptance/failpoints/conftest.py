"""Small systems, side by side, that share out the trials of a module: a test waits for what came of its own."""

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

import pytest

from tests.acceptance.conftest import a_place
from tests.support.docker_images import ensure_busybox
from tests.support.lane import Lane, a_lane
from tests.support.postgres import a_postgres
from tests.support.s3_servers import S3Server, an_rclone
from tests.support.trials import Trial, attempt
from tests.support.web_server import WebServer, a_web_server

Outcome = Callable[[Trial], list[str]]
_LANES = 3
_MOST_FAULTS = 6


@dataclass(frozen=True, slots=True)
class Lanes:
    """Trials on their way. `faults` are those of the systems themselves, as that one left something behind."""

    server: str
    store: S3Server
    receiver: WebServer
    came: dict[Trial, "Future[list[str]]"]
    waiting: "queue.SimpleQueue[Trial]" = field(default_factory=queue.SimpleQueue)
    faults: list[Exception] = field(default_factory=list)

    def go_through(self) -> None:
        """Trials, one after the other, in one system; one that was left broken is replaced."""
        while not self.waiting.empty():
            try:
                with a_place() as place, a_lane(place, self.server, self.store.new_bucket()) as lane:
                    while self._try_next(lane):
                        pass
            except Exception as error:  # noqa: BLE001 - of a thread, so told by the fixture
                self.faults.append(error)
                if len(self.faults) >= _MOST_FAULTS:
                    self.give_up()

    def _try_next(self, lane: Lane) -> bool:
        """False when there is none, or the system is not fit for another."""
        try:
            trial = self.waiting.get_nowait()
        except queue.Empty:
            return False
        try:
            wrong = attempt(trial, lane, self.receiver)
        except Exception as error:  # noqa: BLE001 - raised in the trial's own test
            self.came[trial].set_exception(error)
            return False
        self.came[trial].set_result(wrong)
        return not wrong

    def give_up(self) -> None:
        """What has not begun never will."""
        while not self.waiting.empty():
            trial = self.waiting.get()
            self.came[trial].set_exception(RuntimeError(f"no system was fit for it: {self.faults}"))


@pytest.fixture(scope="module")
def outcome(request: pytest.FixtureRequest) -> Iterator[Outcome]:
    """What came of a trial, once it is over. All that the module's chosen tests want are under way."""
    ensure_busybox()
    chosen = list(_trials_of(request))
    with a_postgres() as server, an_rclone() as store, a_web_server("127.0.0.2") as receiver:
        lanes = Lanes(server, store, receiver, {trial: Future() for trial in chosen})
        for trial in chosen:
            lanes.waiting.put(trial)
        threads = [threading.Thread(target=lanes.go_through) for _ in range(min(_LANES, len(chosen)))]
        for thread in threads:
            thread.start()
        try:
            yield lambda trial: lanes.came[trial].result()
        finally:
            lanes.give_up()
            for thread in threads:
                thread.join()
    assert lanes.faults == []


def _trials_of(request: pytest.FixtureRequest) -> Iterator[Trial]:
    for item in request.session.items:
        if isinstance(item, pytest.Function) and item.module is request.module:
            trial = item.callspec.params.get("trial") if hasattr(item, "callspec") else None
            if isinstance(trial, Trial):
                yield trial
