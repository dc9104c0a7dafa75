"""The option that writes golden files anew."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """`pytest tests/golden --write-golden` makes today's plans the expected ones."""
    parser.addoption("--write-golden", action="store_true", help="write the expected plans anew")


@pytest.fixture
def write_golden(request: pytest.FixtureRequest) -> bool:
    """Whether expected plans are to be written rather than compared."""
    return bool(request.config.getoption("--write-golden", default=False))
