"""Rules about node definitions: their names, image and commands. PURE."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from pupload.flow.argv import split, variables
from pupload.flow.nodedef import CommandDef, NodeDef
from pupload.flow.paths import in_defs
from pupload.flow.rules.rule import Fault, quoted, rule, shown
from pupload.flow.survey import Survey, arguments

_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9A-Fa-f:]+\])"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?:{_HOST}(?::[0-9]+)?/)?{_PART}(?:/{_PART})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9+._-]*:[0-9a-fA-F]{32,})?"
)
MAX_IMAGE_LENGTH = 512


@rule("DEF_001", "DefDuplicate")
def duplicate(survey: Survey) -> Iterator[Fault]:
    """Two defs of one name and version."""
    seen: set[tuple[str, str]] = set()
    for place, definition in enumerate(survey.defs):
        identity = (definition.reference, definition.version)
        if identity in seen:
            yield (
                in_defs(place),
                f"{'@'.join(filter(None, identity))} is defined twice; remove one, or give it a version",
            )
        seen.add(identity)


@rule("DEF_002", "DefInvalidImage")
def invalid_image(survey: Survey) -> Iterator[Fault]:
    """The image is no reference of one.

    Source: the grammar of image references, https://github.com/distribution/reference.
    """
    for place, definition in enumerate(survey.defs):
        if len(definition.image) > MAX_IMAGE_LENGTH or not _IMAGE.fullmatch(definition.image):
            hint = "write it like name:tag, host/name:tag or host/name@sha256:…, in lower case"
            yield in_defs(place, "Image"), f"{quoted(definition.image)} is no image reference; {hint}"


@rule("DEF_003", "DefUnknownVariable")
def unknown_variable(survey: Survey) -> Iterator[Fault]:
    """Exec names a variable that is no port or flag, or that is more than one.

    A def that leaves ports or flags undeclared has those that the nodes using it bind and set.
    """
    used = _names_in_use(survey)
    for place, definition in enumerate(survey.defs):
        counts = _counts(definition)
        in_use = used.get(id(definition))
        if in_use is None and _leaves_names_open(definition):
            continue
        known = counts.keys() | (in_use or set())
        for path, command in _commands(place, definition):
            yield from _variable_faults(path, variables(arguments(command)), known, counts)


def _names_in_use(survey: Survey) -> dict[int, set[str]]:
    """The names that nodes bind and set, by the identity of their def."""
    used: dict[int, set[str]] = {}
    for _, node, definition in survey.nodes():
        names = used.setdefault(id(definition), set())
        names.update(bound.name for bound in (*node.inputs, *node.outputs))
        names.update(flag.name for flag in node.flags)
    return used


def _leaves_names_open(definition: NodeDef) -> bool:
    return not (definition.inputs and definition.outputs and definition.flags)


def _counts(definition: NodeDef) -> Counter[str]:
    ports = [port.name for port in (*definition.inputs, *definition.outputs)]
    return Counter(ports + [flag.name for flag in definition.flags])


def _variable_faults(path: str, names: Sequence[str], known: Collection[str], counts: Counter[str]) -> Iterator[Fault]:
    for name in names:
        if name not in known:
            hint = "write $NAME without braces to leave it to the program"
            yield path, f"${{{name}}} is no port or flag; there are {shown(sorted(known))}; {hint}"
        elif counts[name] > 1:
            yield path, f"${{{name}}} names more than one port or flag; rename them apart"


@rule("DEF_004", "DefInvalidCommand")
def invalid_command(survey: Survey) -> Iterator[Fault]:
    """Exec has a quotation that is not closed, or two commands have one name."""
    for place, definition in enumerate(survey.defs):
        seen: set[str] = set()
        for path, command in _commands(place, definition):
            try:
                split(command.exec)
            except ValueError as error:
                yield path, f"Exec cannot be split into arguments: {error}"
            if command.name in seen:
                yield path, f"two commands are named {quoted(command.name)}; rename one"
            seen.add(command.name)


@rule("DEF_005", "DefDuplicateName")
def duplicate_name(survey: Survey) -> Iterator[Fault]:
    """Two inputs, two outputs or two flags of a def have one name."""
    for place, definition in enumerate(survey.defs):
        for side, names in (
            ("Inputs", [port.name for port in definition.inputs]),
            ("Outputs", [port.name for port in definition.outputs]),
            ("Flags", [flag.name for flag in definition.flags]),
        ):
            twice = [name for name, count in Counter(names).items() if count > 1]
            if twice:
                yield in_defs(place, side), f"{shown(twice)} is declared twice; rename one"


def _commands(place: int, definition: NodeDef) -> Iterator[tuple[str, CommandDef]]:
    if definition.command and definition.command.exec.strip():
        yield in_defs(place, "Command", "Exec"), definition.command
    for nth, command in enumerate(definition.commands):
        if command.exec.strip():
            yield in_defs(place, "Commands", nth, "Exec"), command
