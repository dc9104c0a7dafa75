"""A code, its rule, its entry in the documentation and its bad example: none without the others."""

import json
import re
from pathlib import Path

import pytest

from pupload.flow.check import RULES, Finding, Severity
from pupload.flow.plan import DEFAULT_STORE
from tests.support.flows import findings

BAD = Path(__file__).parent / "bad"
PROBLEMS = Path(__file__).parents[2] / "docs" / "problems.md"
ENTRIES = dict(re.findall(r"^## ([A-Z]+_\d{3}) (\w+)$", PROBLEMS.read_text(), re.MULTILINE))


def _found(code: str) -> list[Finding]:
    example = json.loads((BAD / f"{code}.json").read_text())
    server = example.get("Check", {})
    return findings(
        example["Documents"],
        stores=server.get("Stores", [DEFAULT_STORE]),
        max_nodes=server.get("MaxNodes", 10_000),
        flows=server.get("Flows", {}),
        name=example["Documents"]["Flow"].get("Name", "") if "Flows" in server else "",
    )


def test_every_rule_has_a_bad_example() -> None:
    assert {path.stem for path in BAD.glob("*.json")} == set(RULES)


def test_every_rule_has_its_entry_in_the_documentation() -> None:
    assert {code: rule.name for code, rule in RULES.items()} == ENTRIES


@pytest.mark.parametrize("code", RULES)
def test_a_bad_example_has_its_own_code_and_no_other_error(code: str) -> None:
    found = _found(code)
    assert code in {finding.code for finding in found}
    assert {f.code for f in found if f.severity is Severity.ERROR} <= {code}


@pytest.mark.parametrize("code", RULES)
def test_a_finding_says_where_and_what_to_do(code: str) -> None:
    for finding in _found(code):
        assert re.fullmatch(r"\$(\.[A-Za-z]+|\[\d+\])+", finding.path)
        assert len(finding.message) > 20
        assert finding.name == RULES[finding.code].name


@pytest.mark.parametrize("code", RULES)
def test_an_entry_shows_the_message_of_its_bad_example(code: str) -> None:
    message = next(finding.message for finding in _found(code) if finding.code == code)
    assert message in PROBLEMS.read_text()


@pytest.mark.parametrize("code", RULES)
def test_a_rule_says_in_one_sentence_what_it_finds(code: str) -> None:
    assert (RULES[code].faults.__doc__ or "").strip().splitlines()[0].endswith(".")
