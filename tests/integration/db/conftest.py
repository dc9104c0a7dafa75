"""Two controllers' parts on one database."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.parts import Desk, a_desk


@pytest.fixture
async def desks(database_dsn: str, tmp_path: Path) -> AsyncIterator[tuple[Desk, Desk]]:
    """The parts of two controllers."""
    async with a_desk(database_dsn, tmp_path, 6) as one, a_desk(database_dsn, tmp_path, 6) as other:
        yield one, other


@pytest.fixture
def desk(desks: tuple[Desk, Desk]) -> Desk:
    """One of them."""
    return desks[0]
