"""Fixtures that more than one level of tests uses."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.claims import move_in
from tests.support.leaks import no_session_left
from tests.support.postgres import a_database, a_postgres
from tests.support.survived import told


def pytest_configure(config: pytest.Config) -> None:
    """Gives each process that runs tests its own place for temporary files."""
    only_directs = config.getoption("dist", "no") != "no" and config.getoption("tx", [])
    if not only_directs:
        move_in()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says what of the faults that the page on reliability names was tried, and survived."""
    passed, failed, unclean = (
        {each.nodeid for each in terminalreporter.getreports(kind)} for kind in ("passed", "failed", "error")
    )
    bad = failed | unclean
    if lines := list(told(passed - bad, bad)):
        terminalreporter.section("faults tried and survived")
        for line in lines:
            terminalreporter.line(line)


@pytest.fixture(autouse=True, scope="module")
def _no_session_is_left() -> Iterator[None]:
    with no_session_left():
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL server."""
    with a_postgres() as dsn:
        yield dsn


@pytest.fixture
async def database_dsn(postgres: str) -> AsyncIterator[str]:
    """The address of a database with the schema and no rows."""
    async with a_database(postgres) as dsn:
        yield dsn
