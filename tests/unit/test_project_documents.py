"""What the project's documents say of settings, limits and dependencies is what the code says."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from pupload.answers.runs import FlowRun
from pupload.config import ControllerConfig, WorkerConfig
from pupload.containers import spec

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
OPERATIONS = (ROOT / "docs/operations.md").read_text()
HTTP = (ROOT / "docs/http.md").read_text()
DEPENDENCIES = (ROOT / "docs/adr/0012-dependencies.md").read_text()


def setting_row(name: str, field: FieldInfo) -> str:
    """The line of a table that tells of one setting."""
    return f"| `PUPLOAD_{name.upper()}` | {shown_default(field)} | {field.description} |"


def shown_default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory not in {None, dict}:
        return "the machine's"
    default: Any = field.get_default(call_default_factory=True, validated_data={})
    match default:
        case None:
            return "none"
        case bool():
            return f"`{str(default).lower()}`"
        case float():
            return f"`{default:.10g}`"
        case tuple():
            return "`[]`"
        case SecretStr():
            raise AssertionError("a secret has no default")
        case _:
            return f"`{default}`"


def rows_of(kind: type[ControllerConfig] | type[WorkerConfig]) -> list[str]:
    return [setting_row(name, field) for name, field in kind.model_fields.items()]


def setting_rows_in(text: str) -> list[str]:
    return re.findall(r"^\| `PUPLOAD_.*\|$", text, flags=re.MULTILINE)


def test_the_run_that_is_shown_has_every_member_of_a_run() -> None:
    shown = json.loads(HTTP[HTTP.index('{"ID": "run_') :].partition("```")[0])
    assert FlowRun.model_validate(shown).wire() == shown


def test_operations_tells_of_every_setting_as_it_is() -> None:
    assert setting_rows_in(OPERATIONS) == rows_of(ControllerConfig) + rows_of(WorkerConfig)


def test_the_readme_tells_of_settings_as_they_are() -> None:
    told = setting_rows_in(README)
    assert told
    assert set(told) <= {*rows_of(ControllerConfig), *rows_of(WorkerConfig)}


def test_the_readme_tells_the_limits_of_a_container_as_they_are() -> None:
    assert f"{spec.TMP_BYTES // 1024**2} MB of `/tmp`, {spec.PIDS} processes and {spec.OPEN_FILES} open files" in README


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    names = {re.split(r"[\[<>=!~]", each)[0].lower() for each in wanted}
    assert names - set(re.findall(r"`([A-Za-z0-9-]+)`", DEPENDENCIES.lower())) == set()
