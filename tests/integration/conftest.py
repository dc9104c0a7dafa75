"""After every test of this level, and every module: nothing is left of it on the machine."""

from collections.abc import Iterator

import docker
import pytest

from tests.support.leaks import no_process_left, traces


@pytest.fixture(scope="session")
def plain_engine() -> Iterator[docker.APIClient]:
    """The engine, asked directly."""
    client = docker.from_env().api
    yield client
    client.close()


@pytest.fixture(autouse=True)
def _nothing_is_left_on_the_engine(plain_engine: docker.APIClient) -> Iterator[None]:
    before = traces(plain_engine)
    yield
    assert traces(plain_engine).beyond(before) == {}


@pytest.fixture(autouse=True, scope="module")
def _no_process_is_left() -> Iterator[None]:
    with no_process_left():
        yield
