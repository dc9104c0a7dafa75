"""The first command of the README, as a new user runs it."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]


def a_free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts/demo", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def processes_that_mention(word: str) -> list[str]:
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if word in command and not path.match(f"/proc/{os.getpid()}/*"):
            commands.append(command)
    return commands


def test_the_demo_resizes_a_photograph_and_leaves_nothing_running(place: Path) -> None:
    data = place / "demo-data"
    done = demo("--port", str(a_free_port()), "--data", str(data))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "demo-output/resized.jpg, 800 x 378 pixels" in done.stdout
    assert (ROOT / "demo-output/resized.jpg").read_bytes().startswith(b"\xff\xd8\xff")
    assert processes_that_mention(str(data)) == []


def test_the_demo_says_that_its_port_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = demo("--port", str(taken.getsockname()[1]), "--data", str(tmp_path / "demo-data"))
    assert done.returncode == 1
    assert "--port" in done.stderr


def test_an_unknown_option_gets_the_usage() -> None:
    done = demo("--unknown")
    assert done.returncode == 2
    assert "--keep" in done.stdout
