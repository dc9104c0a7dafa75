"""Where two definitions of a flow differ: by node, edge and definition, not by place. PURE."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from pupload.flow.model import Flow, is_secret
from pupload.flow.nodedef import NodeDef

HIDDEN = "(hidden)"
_KEYS: Mapping[str, str] = {
    "Nodes": "ID",
    "Inputs": "Name",
    "Outputs": "Name",
    "Flags": "Name",
    "Parameters": "Name",
    "Stores": "Name",
    "DataWells": "Edge",
    "Commands": "Name",
    "NodeDefs": "Uses",
    "Evals": "Name",
}
"""What tells the parts of a list apart."""

Object = Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Difference:
    """One place that is not the same. `before` or `after` is None where there is nothing."""

    path: str
    before: JsonValue
    after: JsonValue


@dataclass(frozen=True, slots=True)
class Compared:
    """A definition to be compared. `images` are the exact ones, None where they are not known."""

    flow: Flow
    defs: Sequence[NodeDef]
    images: Mapping[str, str] | None = None


def compare(before: Compared, after: Compared) -> list[Difference]:
    """Every difference, in the order of the documents. A member left out is as one that says the default."""
    found = [*_differences("$", _document(before), _document(after)), *_secrets(before.flow, after.flow)]
    if before.images is not None and after.images is not None:
        found += _objects("$.Images", dict(before.images), dict(after.images), quoted=True)
    return found


def _document(compared: Compared) -> JsonValue:
    defs: list[JsonValue] = [
        {"Uses": f"{each.reference}@{each.version}" if each.version else each.reference} | each.wire()
        for each in compared.defs
    ]
    return {"Flow": compared.flow.wire(), "NodeDefs": defs}


def _differences(path: str, before: JsonValue, after: JsonValue) -> Iterator[Difference]:
    if isinstance(before, dict) and isinstance(after, dict):
        yield from _objects(path, before, after)
    elif isinstance(before, list) and isinstance(after, list):
        yield from _lists(path, before, after)
    elif before != after or type(before) is not type(after):
        yield Difference(path, before, after)


def _objects(path: str, before: Object, after: Object, *, quoted: bool = False) -> Iterator[Difference]:
    for name in dict.fromkeys([*before, *after]):
        inner = _at(path, name) if quoted else f"{path}.{name}"
        yield from _differences(inner, before.get(name), after.get(name))


def _lists(path: str, before: list[JsonValue], after: list[JsonValue]) -> Iterator[Difference]:
    key = _KEYS.get(path.rpartition(".")[2], "")
    old, new = _by_key(before, key), _by_key(after, key)
    if old is None or new is None:
        if before != after:
            yield Difference(path, before, after)
        return
    yield from _objects(path, old, new, quoted=True)
    order: list[JsonValue] = [name for name in old if name in new]
    changed: list[JsonValue] = [name for name in new if name in old]
    if order != changed:
        yield Difference(path, order, changed)


def _by_key(parts: list[JsonValue], key: str) -> dict[str, JsonValue] | None:
    """The parts by what tells them apart; None where it does not."""
    found: dict[str, JsonValue] = {}
    for part in parts:
        name = part.get(key) if isinstance(part, dict) else None
        if not isinstance(name, str) or name in found:
            return None
        found[name] = part
    return found


def _at(path: str, name: str) -> str:
    return f"{path}['{name}']"


def _secrets(before: Flow, after: Flow) -> Iterator[Difference]:
    """A difference for each store whose secret is another one; what it is is not told."""
    old, new = _secret_of_stores(before), _secret_of_stores(after)
    for name in old.keys() & new.keys():
        if old[name] != new[name]:
            yield Difference(f"{_at('$.Flow.Stores', name)}.Params.SecretKey", HIDDEN, HIDDEN)


def _secret_of_stores(flow: Flow) -> dict[str, list[JsonValue]]:
    return {store.name: [value for name, value in store.params.items() if is_secret(name)] for store in flow.stores}
