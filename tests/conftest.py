"""Fixtures that more than one level of tests uses."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.postgres import a_database, a_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL server."""
    with a_postgres() as dsn:
        yield dsn


@pytest.fixture
async def database_dsn(postgres: str) -> AsyncIterator[str]:
    """The address of an empty database."""
    async with a_database(postgres) as dsn:
        yield dsn
