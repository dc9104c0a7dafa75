"""docs/sdk.md does what it says: its examples run word for word, and print what stands beside them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pupload import client
from tests.support.system import System

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

PAGE = (Path(__file__).parents[3] / "docs" / "sdk.md").read_text()
PROGRAM = "\n".join(re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL))


def promised() -> list[str]:
    """What is to be printed: behind a print, or in lines of their own after what prints several times."""
    said = re.findall(r"^(?:\s*print\(.*\)  )?# (.*)$", PROGRAM, flags=re.MULTILINE)
    return [str(each) for each in said]


def test_the_page_is_a_program_that_prints_what_it_promises(system: System, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path, env={**os.environ, "PUPLOAD_URL": system.url}, capture_output=True, text=True, check=False,
        timeout=280,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert [line.rstrip() for line in done.stdout.splitlines()] == promised()


def test_the_page_names_all_that_may_be_raised() -> None:
    raised = {name for name in client.__all__ if isinstance(getattr(client, name), type)}
    errors = {name for name in raised if issubclass(getattr(client, name), Exception)}
    assert {name for name in errors if f"`{name}`" not in PAGE} == set()


def test_the_page_names_all_that_a_client_can_do() -> None:
    methods = {name for name in vars(client.Client) if not name.startswith("_")}
    told = set(re.findall(r"\b\w+\b", PAGE))
    unusual = {"base_url", "test", "put_file", "complete_upload", "begin_upload", "find_upload", "abort_upload"}
    assert methods - told - unusual == set()
