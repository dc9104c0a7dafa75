"""A fake server and a client that never really waits."""

from collections.abc import AsyncIterator

import pytest

from pupload.client.backoff import Backoff
from pupload.client.client import AsyncClient
from tests.support.fake_server import FakeServer


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with FakeServer() as fake:
        yield fake


@pytest.fixture
def waits() -> list[float]:
    """The seconds that the client would have waited."""
    return []


@pytest.fixture
async def client(server: FakeServer, waits: list[float]) -> AsyncIterator[AsyncClient]:
    async def note(seconds: float) -> None:
        waits.append(seconds)

    async with AsyncClient(server.url, "secret", backoff=Backoff(tries=3, sleep=note, jitter=lambda: 1.0)) as made:
        yield made
