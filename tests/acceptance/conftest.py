"""The whole system, one for all tests of a session that only talk to it; each test may leave nothing behind."""

from collections.abc import Iterator

import pytest

from tests.support.docker_images import ensure_busybox
from tests.support.system import System, a_system
from tests.support.visitor import Visitor

SETTINGS = {"PUPLOAD_RECONCILE_S": "0.5"}


@pytest.fixture(scope="session")
def shared_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A running system."""
    ensure_busybox()
    with a_system(tmp_path_factory.mktemp("system") / "data", SETTINGS) as system:
        yield system


@pytest.fixture(scope="session")
def busybox() -> str:
    """The image of nodes that need no more than a shell."""
    return ensure_busybox()


@pytest.fixture
def system(shared_system: System, busybox: str) -> Iterator[System]:
    """The running system; after the test no attempt may have left anything."""
    yield shared_system
    assert shared_system.leftovers() == []


@pytest.fixture
def visitor(system: System) -> Iterator[Visitor]:
    """Somebody who talks to the running system."""
    with Visitor(system.url) as visitor:
        yield visitor
