"""A registry for the tests of this folder, where its program is installed."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pupload.containers.docker import Engine
from tests.support.registry import PROGRAM, Door, Registry, a_door, a_registry


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    if shutil.which(PROGRAM) is None:
        pytest.skip(f"{PROGRAM} is not installed")
    with tempfile.TemporaryDirectory() as folder, a_registry(Path(folder) / "open") as running:
        yield running


@pytest.fixture
async def door(registry: Registry) -> AsyncIterator[Door]:
    async with a_door(registry) as opened:
        yield opened


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    connected = await Engine.connect(containers=4)
    yield connected
    await connected.close()
