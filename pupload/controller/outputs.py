"""What a call of a flow is answered with: the objects on its output edges, small text among them at once."""

import asyncio
import json
import logging

from pydantic import JsonValue

from pupload.answers.runs import ArtifactAnswer, FlowRun, OutputAnswer
from pupload.config import ControllerConfig
from pupload.controller.service import Service
from pupload.controller.stores import Stores
from pupload.db.runs import artifact_of
from pupload.db.sql import SQL
from pupload.errors import InvalidRequest, PuploadError
from pupload.flow.load import require_sane
from pupload.flow.mime import extension_for, is_text
from pupload.flow.plan import Edge, NodeID
from pupload.run.state import RunID
from pupload.stores.base import Store

_LOG = logging.getLogger(__name__)
_URL_S = 3600.0
_MOST_INLINE = 32
"""Values in one answer: a flow may have thousands of outputs, and each value is an object to be read."""


class Outputs:
    """Reads outputs."""

    def __init__(self, config: ControllerConfig, service: Service, stores: Stores) -> None:
        self._config, self._service, self._stores = config, service, stores

    async def of(self, run: FlowRun) -> dict[str, OutputAnswer]:
        """The output of each edge that has one by now: what nobody reads in the flow, or a well of its own keeps.

        Where only some nodes were asked for, also what these write.
        """
        run_id = RunID(run.id)
        async with self._service.database.connection() as connection:
            plan = await self._service.plans.get(connection, run_id)
            asked = {binding.edge for node in run.only_nodes for binding in plan.nodes[NodeID(node)].outputs}
            edges = [edge for edge in run.artifacts if plan.edges[Edge(edge)].output or edge in asked]
            rows = await connection.fetch(SQL["artifacts_of_edges"], run_id, edges)
        small = [edge for edge in edges if self._is_small_text(run.artifacts[edge])][:_MOST_INLINE]
        stores = {row["edge"]: await self._stores.of_artifact(run_id, artifact_of(row)) for row in rows}
        values = await asyncio.gather(*(self._value(stores[edge], run.artifacts[edge]) for edge in small))
        by_edge = dict(zip(small, values, strict=True))
        return {edge: _output(stores[edge], run.artifacts[edge], by_edge.get(edge)) for edge in edges if edge in stores}

    def _is_small_text(self, artifact: ArtifactAnswer) -> bool:
        return artifact.size <= self._config.inline_bytes and is_text(artifact.content_type)

    async def _value(self, store: Store, artifact: ArtifactAnswer) -> JsonValue:
        try:
            content = await store.get(artifact.object_name, self._config.inline_bytes)
        except PuploadError as error:
            # The output is there all the same, at its URL.
            _LOG.warning("the value of edge %s is left out of an answer: %s", artifact.edge_name, error)
            return None
        return value_of(content, artifact.content_type)


def value_of(content: bytes, content_type: str) -> JsonValue:
    """JSON as what it says, any other text as a text; None for what is neither after all.

    JSON that no document may hold (too deep, half of a surrogate pair) is a text too: it is in its object as it is.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    if not content_type.endswith("json"):
        return text
    try:
        value: JsonValue = json.loads(text)
        require_sane(value, most_characters=len(text))
    except (ValueError, RecursionError, InvalidRequest):
        return text
    return value


def _output(store: Store, artifact: ArtifactAnswer, value: JsonValue) -> OutputAnswer:
    name = artifact.edge_name + extension_for(artifact.content_type)
    return OutputAnswer(
        value=value,
        url=store.sign_get(artifact.object_name, _URL_S, public=True, download_name=name),
        content_type=artifact.content_type,
        size=artifact.size,
        sha256=artifact.sha256,
    )
