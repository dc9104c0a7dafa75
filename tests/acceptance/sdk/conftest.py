"""The Python client against the running system."""

from collections.abc import Iterator

import pytest

from pupload.client import Client
from tests.support.shell_steps import Json, Step, a_request, a_step
from tests.support.system import System


@pytest.fixture
def client(system: System) -> Iterator[Client]:
    """A client of the running system."""
    with Client(system.url) as client:
        yield client


def published(client: Client, name: str, *steps: Step, **flow: object) -> str:
    """The name of a published flow of these steps."""
    client.put_flow(name, a_request(*steps, **flow, Name=""))
    client.publish(name)
    return name


def marks(count: int) -> list[Step]:
    """So many steps in a row, from edge e0 on, each adding its flag `mark` to what it reads."""
    script = 'cat "$INPUT_IN" > "$OUTPUT_OUT"; printf "%s" "$FLAG_MARK" >> "$OUTPUT_OUT"'
    flags: Json = {"Flags": [{"Name": "mark", "Value": "+"}]}
    return [
        a_step(f"n{i}", script, reads={"in": f"e{i}"}, writes={"out": f"e{i + 1}"}, node=flags) for i in range(count)
    ]
