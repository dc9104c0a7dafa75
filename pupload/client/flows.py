"""Calls about flows that the server keeps, and about node definitions."""

from collections.abc import Sequence

from pupload.answers.flows import (
    FindingAnswer,
    Findings,
    FlowAnswer,
    FlowComparison,
    FlowPage,
    FlowVersionAnswer,
    FlowVersionPage,
    NodeDefAnswer,
    NodeDefPage,
)
from pupload.client.how import FlowLike, NodeDefLike, documents, plain
from pupload.client.reading import path_of, query_of, read
from pupload.client.transport import Call, Transport


class FlowCalls:
    """Drafts, versions, production; definitions for every flow."""

    _transport: Transport

    async def put_flow(self, name: str, flow: FlowLike, nodedefs: Sequence[NodeDefLike] = ()) -> FlowAnswer:
        """The flow, this its draft."""
        call = Call("PUT", path_of("flows", name), body=documents(flow, nodedefs))
        return read(FlowAnswer, await self._transport.json(call))

    async def flow(self, name: str) -> FlowAnswer:
        """The flow with its draft."""
        return read(FlowAnswer, await self._transport.json(Call("GET", path_of("flows", name))))

    async def flows(self, *, limit: int = 50, cursor: str | None = None) -> FlowPage:
        """A page of flows by name."""
        call = Call("GET", path_of("flows"), query_of(limit=limit, cursor=cursor))
        return read(FlowPage, await self._transport.json(call))

    async def delete_flow(self, name: str) -> None:
        """Forget the draft; published versions stay."""
        await self._transport.json(Call("DELETE", path_of("flows", name)))

    async def validate_flow(
        self, name: str, flow: FlowLike | None = None, nodedefs: Sequence[NodeDefLike] = ()
    ) -> list[FindingAnswer]:
        """Everything that is wrong with the draft, or with `flow` if it were the draft."""
        body = None if flow is None else documents(flow, nodedefs)
        answer = await self._transport.json(Call("POST", path_of("flows", name, "validate"), body=body))
        return read(Findings, answer).findings

    async def publish(self, name: str) -> FlowVersionAnswer:
        """The version that holds the draft as it is now; the newest one where nothing has changed."""
        answer = await self._transport.json(Call("POST", path_of("flows", name, "versions")))
        return read(FlowVersionAnswer, answer)

    async def versions(self, name: str, *, limit: int = 50, cursor: str | None = None) -> FlowVersionPage:
        """A page of the flow's versions, newest first."""
        call = Call("GET", path_of("flows", name, "versions"), query_of(limit=limit, cursor=cursor))
        return read(FlowVersionPage, await self._transport.json(call))

    async def version(self, name: str, number: int) -> FlowVersionAnswer:
        """One version with its documents."""
        answer = await self._transport.json(Call("GET", path_of("flows", name, "versions", str(number))))
        return read(FlowVersionAnswer, answer)

    async def promote(self, name: str, number: int) -> FlowVersionAnswer:
        """The version, which a call gets from now on that asks for none."""
        call = Call("POST", path_of("flows", name, "versions", str(number), "promote"))
        return read(FlowVersionAnswer, await self._transport.json(call))

    async def compare(self, name: str, before: str | None = None, after: str | None = None) -> FlowComparison:
        """Where two versions differ: from production, else the newest, unless told, to the draft unless told."""
        query = query_of(**{"from": before, "to": after})
        return read(FlowComparison, await self._transport.json(Call("GET", path_of("flows", name, "compare"), query)))

    async def put_nodedef(self, reference: str, nodedef: NodeDefLike) -> NodeDefAnswer:
        """The definition `publisher/name[@version]`, for every flow to use."""
        return read(NodeDefAnswer, await self._transport.json(Call("PUT", _nodedef(reference), body=plain(nodedef))))

    async def nodedef(self, reference: str) -> NodeDefAnswer:
        """The definition `publisher/name[@version]`; without a version the newest."""
        return read(NodeDefAnswer, await self._transport.json(Call("GET", _nodedef(reference))))

    async def nodedefs(
        self, *, publisher: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> NodeDefPage:
        """A page of definitions by name."""
        query = query_of(publisher=publisher, limit=limit, cursor=cursor)
        return read(NodeDefPage, await self._transport.json(Call("GET", path_of("nodedefs"), query)))


def _nodedef(reference: str) -> str:
    publisher, _, name = reference.partition("/")
    return path_of("nodedefs", publisher, name)
