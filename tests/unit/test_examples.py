"""The examples in docstrings are true."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

_ROOT = Path(__file__).parents[2]
_SOURCES = [
    path.relative_to(_ROOT) for folder in ("pupload", "tests/support") for path in (_ROOT / folder).rglob("*.py")
]
_WITH_EXAMPLES = sorted(str(path) for path in _SOURCES if "    >>> " in (_ROOT / path).read_text())


@pytest.mark.parametrize("source", _WITH_EXAMPLES)
def test_the_examples_are_true(source: str) -> None:
    module = import_module(source.removesuffix(".py").replace("/", "."))
    result = doctest.testmod(module)
    assert (result.failed, result.attempted > 0) == (0, True)
