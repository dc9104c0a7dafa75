"""After every test of this level, and every module: nothing is left of it on the machine."""

from collections.abc import Iterator

import docker
import pytest

from tests.support.leaks import left_over, no_process_left, traces


@pytest.fixture(scope="session")
def plain_engine() -> Iterator[docker.APIClient]:
    """The engine, asked directly."""
    client = docker.from_env().api
    yield client
    client.close()


@pytest.fixture(autouse=True)
def _nothing_is_left_on_the_engine(
    plain_engine: docker.APIClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    folder = tmp_path_factory.getbasetemp()
    before = traces(plain_engine, folder)
    yield
    assert left_over(plain_engine, folder, before) == []


@pytest.fixture(autouse=True, scope="module")
def _no_process_is_left() -> Iterator[None]:
    with no_process_left():
        yield
