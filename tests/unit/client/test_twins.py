"""The client for programs without an event loop is the other one: the same names, which take the same."""

import inspect
from collections.abc import Iterator

import pytest

from pupload.client import blocking
from pupload.client.client import AsyncClient
from pupload.client.files import AsyncFiles
from pupload.client.following import AsyncRunStream
from pupload.client.jobs import AsyncJob
from pupload.client.results import AsyncOutput, AsyncPausedResult, AsyncRunResult
from pupload.client.sessions import AsyncSessions
from pupload.client.stepping import AsyncStepThrough
from pupload.client.webhooks import AsyncWebhooks

TWINS: list[tuple[type, type]] = [
    (blocking.Client, AsyncClient),
    (blocking.Job, AsyncJob),
    (blocking.RunResult, AsyncRunResult),
    (blocking.PausedResult, AsyncPausedResult),
    (blocking.Output, AsyncOutput),
    (blocking.RunStream, AsyncRunStream),
    (blocking.StepThrough, AsyncStepThrough),
    (blocking.Files, AsyncFiles),
    (blocking.Sessions, AsyncSessions),
    (blocking.Webhooks, AsyncWebhooks),
]


def methods(kind: type) -> Iterator[tuple[str, list[tuple[str, object, object]]]]:
    """Each public method with its parameters: name, kind, default."""
    for name, method in inspect.getmembers(kind, inspect.isfunction):
        if not name.startswith("_"):
            parameters = inspect.signature(method).parameters.values()
            yield name, [(each.name, each.kind, each.default) for each in parameters]


@pytest.mark.parametrize(("plain", "twin"), TWINS, ids=lambda kind: kind.__name__)
def test_a_method_of_one_is_a_method_of_the_other_with_the_same_parameters(plain: type, twin: type) -> None:
    assert dict(methods(plain)) == dict(methods(twin))


def test_both_clients_are_made_alike() -> None:
    assert inspect.signature(blocking.Client) == inspect.signature(AsyncClient)
