"""README.md does what it says: its shell blocks run word for word against a running system.

The system listens on a port of its own; curl is told by its own configuration that this is what `localhost:1234`
means, so that not a letter of a block is changed.
"""

import inspect
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from pupload.cli import main
from tests.support.system import System

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SECTIONS = {part.partition("\n")[0]: part for part in re.split(r"^## ", README, flags=re.MULTILINE)}
PORT = inspect.signature(main.dev).parameters["port"].default
BUILT = "example/shout"


def shell_blocks(section: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", SECTIONS[section], flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder where README's relative paths lead to the checkout, and what it writes does not."""
    for name in (".venv", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.fixture
def reader(system: System, checkout: Path) -> dict[str, str]:
    """The environment of somebody who reads README beside the running system."""
    (checkout / ".curlrc").write_text(f'connect-to = "localhost:{PORT}:127.0.0.1:{system.port}"\nmax-time = 60\n')
    return {**os.environ, "CURL_HOME": str(checkout), "PUPLOAD_URL": system.url, "LC_ALL": "C.UTF-8"}


@pytest.fixture
def built_image() -> Iterator[None]:
    """Takes the image that README builds away again."""
    yield
    client = docker.from_env()
    try:
        client.images.remove(BUILT)
    finally:
        client.close()


def followed(section: str, checkout: Path, reader: dict[str, str]) -> str:
    """What the section's blocks print, run one after the other in one shell."""
    script = "\n".join(shell_blocks(section))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=checkout, env=reader, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=150,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_lines_by_hand_resize_the_photograph(checkout: Path, reader: dict[str, str]) -> None:
    said = followed("By hand", checkout, reader)
    assert "COMPLETE\n" in said
    assert said.rstrip().splitlines()[-2] == "event: run_completed"
    assert (checkout / "resized.jpg").read_bytes().startswith(b"\xff\xd8\xff")


def test_what_is_published_is_called_by_name(checkout: Path, reader: dict[str, str]) -> None:
    (checkout / "request.json").write_text(shell_blocks("By hand")[0].split("<<'END'\n")[1].split("\nEND\n")[0])
    said = followed("Call it by name", checkout, reader)
    assert ", in production, definition " in said
    assert said.rstrip().splitlines()[-1] == "image/jpeg"


@pytest.mark.usefixtures("built_image")
def test_a_node_of_ones_own_runs(checkout: Path, reader: dict[str, str]) -> None:
    said = followed("A node of your own", checkout, reader)
    assert "shout.yaml: 0 errors, 0 warnings" in said
    assert said.endswith("HELLO FROM A NODE OF MY OWN\n")


def test_a_node_of_ones_own_is_ten_lines() -> None:
    dockerfile, document = re.findall(
        r"<<'END'\n(.*?)^END$", shell_blocks("A node of your own")[0], re.MULTILINE | re.DOTALL
    )
    assert len((dockerfile + document.partition("NodeDefs:\n")[2]).splitlines()) <= 10


def test_the_server_is_started_as_the_lines_by_hand_expect_it() -> None:
    assert "\n    .venv/bin/pup dev\n" in SECTIONS["By hand"]
    assert set(re.findall(r"localhost:(\d+)", README)) == {str(PORT)}


def test_the_command_line_is_told_of_whole() -> None:
    told = set(re.findall(r"`pup ([a-z-]+)", SECTIONS["The command line"]))
    names = {command.name or command.callback.__name__ for command in main.app.registered_commands if command.callback}
    assert told == names | {group.name for group in main.app.registered_groups}


@pytest.mark.parametrize("command", ["./scripts/demo", "./scripts/test"])
def test_the_two_commands_are_there(command: str) -> None:
    assert f"\n    {command}\n" in SECTIONS["Two commands"]
    assert os.access(ROOT / command, os.X_OK)
