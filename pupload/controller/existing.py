"""Which of some objects still exist, asked of their stores with as few questions as will do."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence

from pupload.db.origins import is_run
from pupload.errors import NotFound
from pupload.flow.plan import Edge
from pupload.run.state import Artifact
from pupload.stores.base import Head, Store

KeeperOf = Callable[[Artifact], Awaitable[Store]]
"""The store that keeps an artifact. Errors: NotFound when there is none any more."""

_MANY = 8


async def existing(keeper_of: KeeperOf, artifacts: Iterable[Artifact]) -> frozenset[Edge]:
    """The edges of those artifacts whose object is there as it was."""
    groups: dict[tuple[str, str, str], list[Artifact]] = defaultdict(list)
    for artifact in artifacts:
        groups[artifact.origin, artifact.store, artifact.key.partition("/")[0]].append(artifact)
    found = set[Edge]()
    for (_, _, folder), group in groups.items():
        try:
            store = await keeper_of(group[0])
        except NotFound:
            continue
        heads = await _heads(store, folder, [artifact.key for artifact in group])
        found |= {artifact.edge for artifact in group if _is_same(artifact, heads.get(artifact.key))}
    return frozenset(found)


async def _heads(store: Store, folder: str, keys: Sequence[str]) -> dict[str, Head]:
    """The objects that are there; one listing where many are asked for that share a folder."""
    if len(keys) >= _MANY:
        wanted = set(keys)
        return {head.key: head async for head in store.list(f"{folder}/") if head.key in wanted}
    found = await asyncio.gather(*(store.head(key) for key in keys))
    return {head.key: head for head in found if head is not None}


def _is_same(artifact: Artifact, head: Head | None) -> bool:
    if head is None or head.size_bytes != artifact.size_bytes:
        return False
    return _was_written_once(artifact) or artifact.etag in {"", head.etag}


def _was_written_once(artifact: Artifact) -> bool:
    """True for what an attempt wrote under a key of its own, which nobody can write again.

    Its mark is that of the worker's PUT, and a store may answer that with another than it tells of the object later.
    """
    return artifact.attempt > 0 and is_run(artifact.key)
