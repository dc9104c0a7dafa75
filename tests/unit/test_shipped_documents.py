"""What ships beside the program agrees with itself."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
SHIPPED = {path.parent.name: path for path in (ROOT / "nodedefs").glob("*/*/node.yaml")}
EXAMPLES = sorted((ROOT / "examples").glob("*/flow.json"))


def _document(path: Path) -> dict[str, Any]:
    document = yaml.safe_load(path.read_text())
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_an_example_carries_its_definitions_as_they_are_shipped(path: Path) -> None:
    definitions = json.loads(path.read_text())["NodeDefs"]
    assert definitions == [_document(SHIPPED[definition["Name"]]) for definition in definitions]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_an_example_uses_every_definition_that_it_carries(path: Path) -> None:
    example = json.loads(path.read_text())
    carried = {f"{definition['Publisher']}/{definition['Name']}" for definition in example["NodeDefs"]}
    assert {node["Uses"] for node in example["Flow"]["Nodes"]} == carried


def test_a_definition_lies_under_its_publisher_and_name() -> None:
    assert SHIPPED
    for path in SHIPPED.values():
        document = _document(path)
        assert (document["Publisher"], document["Name"]) == (path.parent.parent.name, path.parent.name)
