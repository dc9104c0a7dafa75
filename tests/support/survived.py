"""How many of the faults of docs/reliability.md a run of the suite has tried and survived."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

_PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
_NAME = re.compile(r"(test_\w+)(?:\[(?:[\w.]+-)?(kill|stop|raise|hang)\])?")


def told(passed: Iterable[str], failed: Iterable[str]) -> Iterator[str]:
    """A line for each kind of fault that was tried at all, from the ids of the tests.

    >>> trial = "t.py::test_a_run_outlives_what_befalls_its_worker[claim.heard-{}]"
    >>> list(told([trial.format("kill")], [trial.format("hang")]))
    ['failpoints, hang: survived 0 of 1', 'failpoints, kill: survived 1 of 1']
    """
    kinds = _kinds()
    survived = Counter(kind for test in passed if (kind := _kind(test, kinds)))
    tried = survived + Counter(kind for test in failed if (kind := _kind(test, kinds)))
    return (f"{kind}: survived {survived[kind]} of {tried[kind]}" for kind in sorted(tried))


def _kind(test: str, kinds: dict[str, str]) -> str:
    found = _NAME.match(test.rpartition("::")[2])
    if found is None:
        return ""
    name, action = found.groups()
    return f"failpoints, {action}" if action else kinds.get(name, "")


def _kinds() -> dict[str, str]:
    """The headings under which the page names tests."""
    kinds: dict[str, str] = {}
    for section in re.split(r"^### ", _PAGE.read_text(), flags=re.MULTILINE)[1:]:
        heading, _, text = section.partition("\n")
        kinds |= dict.fromkeys(re.findall(r"`(test_\w+)`", text.partition("\n## ")[0]), heading.lower())
    return kinds
