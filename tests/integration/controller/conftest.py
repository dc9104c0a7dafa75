"""Controllers on a real PostgreSQL and the embedded store, each test with and without notifications."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pupload.stores.base import Store
from pupload.stores.embedded import EmbeddedStore
from tests.support.controller import ControllerUnderTest, a_controller
from tests.support.embedded_stores import an_embedded_store, an_empty_bucket
from tests.support.leaks import tasks_of_ours
from tests.support.s3_servers import STRANGER


@pytest.fixture(params=[True, False], ids=["notified", "polling"])
def notifications(request: pytest.FixtureRequest) -> bool:
    """Whether the controllers listen for hints; everything must work either way."""
    return bool(request.param)


@pytest.fixture(scope="session", autouse=True)
def embedded_store() -> Iterator[EmbeddedStore]:
    """The store whose server the tests share; there before any test asks what a module has left."""
    with an_embedded_store() as store:
        yield store


@pytest.fixture
async def store(embedded_store: EmbeddedStore) -> AsyncIterator[Store]:
    """An empty store, closed last: no task of ours may outlive it."""
    async with an_empty_bucket(embedded_store) as store:
        yield store
    assert tasks_of_ours() == []


@pytest.fixture
async def controller(
    database_dsn: str, store: Store, tmp_path: Path, notifications: bool
) -> AsyncIterator[ControllerUnderTest]:
    """A controller. Strangers' stores listen where it may ask them."""
    settings = {"notifications": notifications, "url_allow": (STRANGER,)}
    async with a_controller(database_dsn, store, tmp_path, **settings) as running:
        yield running
