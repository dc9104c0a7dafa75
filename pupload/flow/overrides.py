"""What one run changes of its nodes: read from the request, applied to the documents before they are checked. PURE.

Source: contract.md 8.2, `Overrides`.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence

from pydantic import Field, JsonValue, ValidationError

from pupload.document import fold
from pupload.errors import InvalidRequest
from pupload.flow.callee import names_a_flow
from pupload.flow.given import Env, Given, Scalar, Text
from pupload.flow.model import Flow, FlowFlag, FlowNode
from pupload.flow.nodedef import NodeDef
from pupload.flow.partial import no_such_node
from pupload.flow.paths import json_path
from pupload.flow.survey import defs_by_reference

Problem = dict[str, str]


class Override(Given):
    """What is different of one node in one run. A flag that is null is as if the flow did not set it."""

    flags: dict[str, Scalar | None] = Field(default_factory=dict)
    tier: Text | None = None
    max_attempts: int | None = Field(default=None, ge=1, le=1000)
    timeout: Text | None = None
    env: Env = Field(default_factory=dict)
    command: Text | None = None
    image: Text | None = None

    def effective(self) -> dict[str, JsonValue]:
        """What was given, in the one spelling in which a run echoes it."""
        told: dict[str, JsonValue] = self.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return told


def read_overrides(given: Mapping[str, JsonValue], flow: Flow, defs: Sequence[NodeDef]) -> dict[str, Override]:
    """The override of each node named, from the nested form (`{node: {Flags, Tier, …}}`), the flat one
    (`"node.flag": value`), or both.

    Errors: InvalidRequest with every node, member or flag that is unknown, and the nearest that is known.
    """
    nodes = {node.id: node for node in flow.nodes}
    problems: list[Problem] = []
    read: dict[str, Override] = {}
    for node, value in _nested(given, nodes, problems).items():
        try:
            read[node] = Override.model_validate(value)
        except ValidationError as error:
            problems += [_problem(e["msg"], node, *e["loc"]) for e in error.errors()]
    by_reference = defs_by_reference(defs)
    for node, override in read.items():
        problems += _misfits(nodes[node], override, flow, by_reference.get(nodes[node].uses))
    if problems:
        first = f"{problems[0]['Path']}: {problems[0]['Message']}"
        raise InvalidRequest(f"the overrides do not fit the flow: {first}", code="INVALID_OVERRIDE", details=problems)
    return read


def _nested(
    given: Mapping[str, JsonValue], nodes: Mapping[str, FlowNode], problems: list[Problem]
) -> dict[str, JsonValue]:
    """Both forms as the nested one."""
    nested: dict[str, JsonValue] = {name: value for name, value in given.items() if name in nodes}
    for name, value in given.items():
        if name in nodes:
            continue
        node, flag = _split(name, nodes)
        if node not in nodes:
            problems.append(_problem(no_such_node(node, nodes), name))
        elif flags := _with_flag(nested.setdefault(node, {}), flag, value):
            nested[node] = flags
        else:
            problems.append(_problem(f"flag {flag!r} is overridden twice, or node {node!r} with no object", name))
    return nested


def _split(name: str, nodes: Mapping[str, FlowNode]) -> tuple[str, str]:
    """Node and flag of `node.flag`; either may have dots, and the longest node that there is wins."""
    places = [place for place, letter in enumerate(name) if letter == "."]
    cut = next((place for place in reversed(places) if name[:place] in nodes), places[0] if places else len(name))
    return name[:cut], name[cut + 1 :]


def _with_flag(nested: JsonValue, flag: str, value: JsonValue) -> JsonValue:
    """The nested form with one more flag; None when it has that flag already, or is none."""
    if not isinstance(nested, dict):
        return None
    member = next((name for name in nested if fold(name) == "flags"), "Flags")
    flags = nested.get(member) or {}
    if not isinstance(flags, dict) or flag in flags:
        return None
    return {**nested, member: {**flags, flag: value}}


def _misfits(node: FlowNode, override: Override, flow: Flow, definition: NodeDef | None) -> Iterator[Problem]:
    """What is well written and cannot be had of this node."""
    declared = [flag.name for flag in definition.flags] if definition else []
    for flag in override.flags:
        if declared and flag not in declared:
            near = difflib.get_close_matches(flag, declared, n=1, cutoff=0.0)
            yield _problem(f"there is no flag {flag!r}; the nearest is {near[0]!r}", node.id, "Flags", flag)
    if override.image and names_a_flow(node.uses):
        yield _problem("the node calls a flow and has no image", node.id, "Image")
    elif override.image and not flow.allow_image_override:
        yield _problem("this flow lets no run change an image; its AllowImageOverride would", node.id, "Image")


def _problem(message: str, *steps: str | int) -> Problem:
    return {"Path": json_path(("Overrides", *steps)), "Message": message}


def apply_overrides(
    flow: Flow, defs: Sequence[NodeDef], overrides: Mapping[str, Override]
) -> tuple[Flow, list[NodeDef]]:
    """The documents as this run has them. They were not checked, and must be."""
    by_reference = defs_by_reference(defs)
    nodes, more = [], []
    for node in flow.nodes:
        override = overrides.get(node.id)
        changed = _changed(node, override) if override else node
        definition = by_reference.get(node.uses)
        if override and override.image and definition:
            # A def of the node's own, under a name that no document can have given it: the others keep their image.
            own = definition.model_copy(update={"name": f"{definition.name}#{node.id}", "image": override.image})
            more.append(own)
            changed = changed.model_copy(update={"uses": own.reference})
        nodes.append(changed)
    return flow.model_copy(update={"nodes": nodes}), [*defs, *more]


def _changed(node: FlowNode, override: Override) -> FlowNode:
    flags = {flag.name: flag for flag in node.flags if override.flags.get(flag.name, "") is not None}
    flags |= {name: FlowFlag(name=name, value=value) for name, value in override.flags.items() if value is not None}
    given = {
        "tier": override.tier,
        "max_attempts": override.max_attempts,
        "timeout": override.timeout,
        "command": override.command,
    }
    changed = {name: value for name, value in given.items() if value is not None}
    return node.model_copy(update={**changed, "flags": list(flags.values()), "env": {**node.env, **override.env}})
