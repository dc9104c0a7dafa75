"""Type checkers take right calls and refuse wrong ones."""

from pathlib import Path

import pytest
from mypy import api

from tests.acceptance.sdk.test_docs import PROGRAM

pytestmark = pytest.mark.integration

RIGHT = """
from pathlib import Path
from pupload.client import AsyncClient, Client, EvalsWish, FileInput, Input, Override, PausedResult, RunResult

def right(client: Client) -> str:
    given: dict[str, Input] = {"a": "text", "b": Path("x"), "c": b"bytes", "d": {"rows": [1, 2]}}
    result: RunResult = client.run("flow", given, message="m", overrides={"n": Override(tier="c-nano"), "n.f": 1})
    client.run({"Nodes": [{"ID": "n", "Uses": "p/n"}]}, {"in": FileInput(uri="https://x")}, nodedefs=[{"Name": "n"}])
    client.run(Path("flow.yaml"), evals=EvalsWish(run_mode="block"), tool_handler={"f": lambda city: city})
    loop = client.step_through("flow")
    loop.override("n", flags={"width": 3})
    if isinstance(result, PausedResult):
        return result.resume({"c1": {"rain": True}}).status
    return next(client.events(result.id)).type

async def also_right(client: AsyncClient) -> str:
    async for event in client.stream("flow", {"in": "x"}, tool_handler=lambda call: call.name):
        print(event.seq)
    return (await (await client.run_async("flow")).wait(3)).status
"""
WRONG = """
from pupload.client import Client

def wrong(client: Client) -> None:
    client.run("flow", massage="m")
    client.run("flow", {"in": object()})
    client.run("flow", version=[1])
    client.run_async("flow", tool_handler=print)
    client.run("flow").outputs["x"].walue
    client.step_through("flow").override("n", colour="red")
"""


def problems(tmp_path: Path, program: str, *more: str) -> list[int]:
    """The lines in which the type checker finds something."""
    file = tmp_path / "program.py"
    file.write_text(program)
    options = ["--strict", "--no-error-summary", "--cache-dir", str(tmp_path / "cache"), "--follow-imports", "silent"]
    said, complaints, _ = api.run([*options, *more, str(file)])
    assert complaints == ""
    return [int(line.split(":")[1]) for line in said.splitlines() if ": error:" in line]


def test_right_calls_are_taken_and_wrong_ones_refused(tmp_path: Path) -> None:
    assert problems(tmp_path, RIGHT) == []
    assert problems(tmp_path, WRONG) == [5, 6, 7, 8, 9, 10]


def test_the_page_about_it_is_rightly_typed(tmp_path: Path) -> None:
    assert problems(tmp_path, PROGRAM, "--allow-any-generics") == []
