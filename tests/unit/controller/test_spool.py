"""Bytes whose length nobody said leave the disk to others."""

from collections.abc import AsyncIterator

import pytest

from pupload.controller import spool as spooling
from pupload.controller.spool import a_spool
from pupload.errors import Unavailable

pytestmark = pytest.mark.unit


async def pieces() -> AsyncIterator[bytes]:
    yield b"abc"
    yield b"def"


async def test_what_came_is_given_again() -> None:
    async with a_spool() as spool:
        await spool.fill(pieces(), 10)
        assert [piece async for piece in spool.pieces()] == [b"abcdef"]


async def test_a_disk_is_not_filled_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spooling, "KEPT_FREE", 1.1)
    async with a_spool() as spool:
        with pytest.raises(Unavailable) as refused:
            await spool.fill(pieces(), 10)
    assert refused.value.code == "NO_DISK_SPACE"
