"""The tests that the documents name are there."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

_ROOT = Path(__file__).parents[2]
_TEST = re.compile(r"`(test_\w+)`")


def test_every_test_that_the_page_on_reliability_names_is_there() -> None:
    sources = "\n".join(path.read_text() for path in (_ROOT / "tests").rglob("test_*.py"))
    there = set(re.findall(r"def (test_\w+)", sources))
    named = set(_TEST.findall((_ROOT / "docs" / "reliability.md").read_text()))
    assert named
    assert named - there == set()
