"""Both clients are one: the same names, parameters and types, and nothing said twice."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pupload.client as package
from pupload.client import AsyncClient, How, blocking
from pupload.client.blocking import TWINS
from pupload.client.how import OverrideParts
from pupload.flow.overrides import Override
from pupload.flow.request import RunRequest

NAMES = {waits_for.__name__: twin.__name__ for waits_for, twin in TWINS.items()}
SPOKEN = {"__aiter__": "__iter__", "__anext__": "__next__", "__aenter__": "__enter__", "__aexit__": "__exit__"}
INSIDE = {"downloads", "go_on"}
"""What an async result works with, and its twin has through it."""


def public(kind: type) -> dict[str, Any]:
    """What users of a class may use, by name."""
    found = {name: inspect.getattr_static(kind, name) for name in dir(kind)}
    spoken = {*SPOKEN, *SPOKEN.values()}
    return {name: member for name, member in found.items() if not name.startswith("_") or name in spoken}


def blocking_text(annotation: object) -> str:
    """The annotation as the twin has it."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    text = re.sub(r"\b(?:\w+\.)+(?=\w)", "", text)
    text = re.sub(r"\bAsyncIterator\b", "Iterator", text)
    for name, twin in NAMES.items():
        text = re.sub(rf"\b{name}\b", twin, text)
    return text


def shape(function: Any) -> tuple[list[tuple[Any, ...]], str]:
    signature = inspect.signature(function)
    parameters = [(p.name, p.kind, p.default, blocking_text(p.annotation)) for p in signature.parameters.values()]
    return parameters, blocking_text(signature.return_annotation)


PAIRS = [pytest.param(waits_for, twin, id=twin.__name__) for waits_for, twin in TWINS.items()]


@pytest.mark.parametrize(("waits_for", "twin"), PAIRS)
def test_a_twin_has_the_same_names(waits_for: type, twin: type) -> None:
    assert set(public(twin)) == {SPOKEN.get(name, name) for name in public(waits_for)} - INSIDE


@pytest.mark.parametrize(("waits_for", "twin"), PAIRS)
def test_a_twin_takes_and_gives_the_same_and_says_so_in_the_same_words(waits_for: type, twin: type) -> None:
    theirs = public(waits_for)
    for name, member in public(twin).items():
        other = theirs.get(name)
        if inspect.isfunction(member) and inspect.isfunction(other):
            assert shape(member) == shape(other), f"{twin.__name__}.{name}"
            assert member.__doc__ == other.__doc__


def test_both_clients_are_made_alike() -> None:
    assert shape(AsyncClient.__init__) == shape(package.Client.__init__)
    made, twin = AsyncClient(), package.Client()
    groups = {name for name in vars(made) if not name.startswith("_")}
    assert groups == {name for name in vars(twin) if not name.startswith("_")} == {"files", "sessions", "webhooks"}


def annotations(kind: type) -> Iterator[tuple[str, str]]:
    for name, member in public(kind).items():
        if inspect.isfunction(member):
            yield from ((f"{kind.__name__}.{name}", blocking_text(each)) for each in member.__annotations__.values())


@pytest.mark.parametrize("kind", TWINS)
def test_no_signature_has_an_untyped_dictionary(kind: type) -> None:
    for where, annotation in annotations(kind):
        # Flows and definitions may be given as they are written.
        text = annotation.replace("Mapping[str, object]", "Written")
        assert not re.search(r"\bAny\b|\bobject\b|\b(dict|Mapping|list|Sequence)\b(?!\[)", text), (where, text)


def test_each_method_of_a_twin_is_a_call_of_the_other() -> None:
    tree = ast.parse(Path(inspect.getfile(blocking)).read_text())
    methods = [each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef) and not each.name.startswith("_")]
    assert [each.name for each in methods if len(each.body) > 2] == []


def test_every_member_of_a_request_has_a_keyword() -> None:
    # The inputs stand beside the flow, and `run` waits as long as its caller likes.
    assert set(RunRequest.model_fields) - {"inputs", "wait"} <= set(How.__annotations__)
    assert set(OverrideParts.__annotations__) == set(Override.model_fields)


def test_the_package_says_what_it_has() -> None:
    assert all(hasattr(package, name) for name in package.__all__)
    assert {twin.__name__ for twin in TWINS.values()} - {"Files", "Sessions", "Webhooks"} <= set(package.__all__)
