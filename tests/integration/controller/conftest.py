"""Controllers on a real PostgreSQL and the embedded store, each test with and without notifications."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pupload.stores.base import Store
from pupload.stores.embedded import EmbeddedStore
from tests.support.controller import ControllerUnderTest, a_controller
from tests.support.leaks import tasks_of_ours
from tests.support.s3_servers import STRANGER


@pytest.fixture(params=[True, False], ids=["notified", "polling"])
def notifications(request: pytest.FixtureRequest) -> bool:
    """Whether the controllers listen for hints; everything must work either way."""
    return bool(request.param)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """An empty store, closed last: no task of ours may outlive it."""
    store = await EmbeddedStore.start(tmp_path)
    try:
        yield store
    finally:
        await store.close()
    assert tasks_of_ours() == []


@pytest.fixture
async def controller(
    database_dsn: str, store: Store, tmp_path: Path, notifications: bool
) -> AsyncIterator[ControllerUnderTest]:
    """A controller. Strangers' stores listen where it may ask them."""
    settings = {"notifications": notifications, "url_allow": (STRANGER,)}
    async with a_controller(database_dsn, store, tmp_path, **settings) as running:
        yield running
