"""The whole system, one for all tests of a session that only talk to it; each test may leave nothing behind."""

import json
import os
import tempfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.docker_images import an_image_with_entrypoint, ensure_busybox
from tests.support.fleet import Fleet
from tests.support.system import System, a_system
from tests.support.visitor import Visitor
from tests.support.web_server import WebServer, a_web_server

COPYING = ("sh", "-c", 'echo own entrypoint; cat "$INPUT_IN" > "$OUTPUT_OUT"')
_LOG_TAIL = 20_000
TINY = {"tiny": {"cpu": 0.5, "memory": "32mb", "disk": "100mb"}}
EVERYWHERE = {
    "PUPLOAD_RECONCILE_S": "0.5",
    "PUPLOAD_CPU": "2",
    "PUPLOAD_CPU_OVERCOMMIT": "4",
    "PUPLOAD_MEMORY": "16gb",
    "PUPLOAD_DISK": "500gb",
    "PUPLOAD_WEBHOOK_DELAY_S": "0.2",
    "PUPLOAD_URL_ALLOW": '["127.0.0.2"]',
}
"""A worker offers the same on every machine. Strangers' servers listen at 127.0.0.2; 127.0.0.1 is as closed as ever."""
SETTINGS = EVERYWHERE | {"PUPLOAD_TIERS": json.dumps(TINY)}
STRICT = EVERYWHERE | {
    "PUPLOAD_NOTIFICATIONS": "false",
    "PUPLOAD_REJECT_UNSERVABLE": "true",
    "PUPLOAD_UPLOAD_TTL_S": "2",
    "PUPLOAD_MAX_NODES": "10",
    "PUPLOAD_MAX_BODY_BYTES": "100000",
}


SHORT_LEASES = EVERYWHERE | {
    "PUPLOAD_RECONCILE_S": "0.3",
    "PUPLOAD_BEAT_S": "0.5",
    "PUPLOAD_FENCE_S": "2",
    "PUPLOAD_LEASE_S": "3",
    # Five deaths may hit one node each time; that is the matter of another test.
}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tells with a failure what the programs said last: their logs are gone with their places."""
    report = yield
    if report.failed:
        programs = {id(each): each for each in item.funcargs.values() if isinstance(each, System | Fleet)}
        report.sections += [("what the programs said", each.log[-_LOG_TAIL:]) for each in programs.values()]
    return report


@pytest.fixture(scope="session")
def shared_system() -> Iterator[System]:
    """A running system."""
    ensure_busybox()
    with a_running_system(SETTINGS) as system:
        yield system


@pytest.fixture(scope="session")
def strict_system() -> Iterator[System]:
    """A running system with tight limits, where nothing is told and everything must be looked for."""
    ensure_busybox()
    with a_running_system(STRICT) as system:
        yield system


@pytest.fixture(scope="module")
def mortal() -> Iterator[System]:
    """A system that a test may kill."""
    ensure_busybox()
    with a_place() as place, a_system(place / "data", SHORT_LEASES) as system:
        yield system


@contextmanager
def a_running_system(settings: Mapping[str, str]) -> Iterator[System]:
    """A system with its worker there."""
    with a_place() as place, a_system(place / "data", settings) as system:
        with Visitor(system.url) as visitor:
            visitor.await_workers(1)
        yield system


@contextmanager
def a_place() -> Iterator[Path]:
    """An empty folder, gone afterwards; outside pytest's own, which each session closes to the database's user."""
    with tempfile.TemporaryDirectory(prefix="pup-system-") as folder:
        yield Path(folder)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder for a system of the test's own."""
    with a_place() as folder:
        yield folder


@pytest.fixture(scope="session")
def busybox() -> str:
    """The image of nodes that need no more than a shell."""
    return ensure_busybox()


@pytest.fixture(scope="session")
def own_entrypoint(busybox: str) -> Iterator[str]:
    """An image that copies by an entrypoint of its own."""
    with an_image_with_entrypoint(f"pupload/test-entrypoint-{os.getpid()}:latest", COPYING) as name:
        yield name


@pytest.fixture
def system(shared_system: System, busybox: str) -> Iterator[System]:
    """The running system; after the test nothing of it may be left: no file, container, process or transaction."""
    before = shared_system.programs()
    yield shared_system
    assert shared_system.leftovers() == []
    assert shared_system.programs() == before
    assert shared_system.open_transactions() == []


@pytest.fixture
def visitor(system: System) -> Iterator[Visitor]:
    """Somebody who talks to the running system."""
    with Visitor(system.url) as visitor:
        yield visitor
        visitor.tidy()


@pytest.fixture(scope="session")
def strangers() -> Iterator[WebServer]:
    """Somebody else's web server, which the systems may ask."""
    with a_web_server("127.0.0.2") as server:
        yield server
