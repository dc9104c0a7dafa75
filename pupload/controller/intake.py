"""Inputs that come with the request itself, made into objects of the run before it begins."""

import json
from collections.abc import Awaitable, Callable, Mapping

from pydantic import JsonValue

from pupload.controller.objects import upload_key
from pupload.flow.plan import Edge, Plan
from pupload.run.state import Artifact, RunID
from pupload.stores.base import Store

StoreOf = Callable[[str], Awaitable[Store]]
"""The store of this name, for a run that is not stored yet."""


class Intake:
    """Takes given inputs."""

    async def take(
        self, run_id: RunID, plan: Plan, given: Mapping[Edge, JsonValue], store_of: StoreOf
    ) -> tuple[Artifact, ...]:
        """The given inputs as artifacts, their bytes stored.

        Errors: InvalidRequest for what is no input; what the stores raise.
        """
        artifacts = []
        for name, value in given.items():
            edge = plan.edges[name]
            content, content_type = inline_bytes(value)
            store, key = await store_of(edge.store), upload_key(plan, edge, run_id)
            head = await store.put(key, content, content_type)
            artifacts.append(Artifact(name, edge.store, head.key, head.size_bytes, etag=head.etag))
        return tuple(artifacts)


def inline_bytes(value: JsonValue) -> tuple[bytes, str]:
    """An inline value as a file's bytes and type: a text as it is, anything else as JSON.

    >>> inline_bytes("hello"), inline_bytes({"a": 1})
    ((b'hello', 'text/plain'), (b'{"a": 1}', 'application/json'))
    """
    if isinstance(value, str):
        return value.encode(), "text/plain"
    return json.dumps(value, ensure_ascii=False).encode(), "application/json"
