"""Flows by name: drafts, findings, versions."""

import asyncio

from aiohttp import web

from pupload.answers.flows import (
    FindingAnswer,
    Findings,
    FlowAnswer,
    FlowComparison,
    FlowPage,
    FlowVersionAnswer,
    FlowVersionPage,
)
from pupload.controller.flows import AskedVersion, named
from pupload.controller.routes.account import account_of
from pupload.controller.routes.answering import answer, path_part, query_text, read_bytes, whole_number
from pupload.controller.routes.declaring import NOTHING, PAGE, READ, WRITE, Answer, Asked, Body, delete, get, post, put
from pupload.controller.state import parts_of
from pupload.errors import InvalidRequest
from pupload.flow.load import FlowDocuments, load_documents, read_json
from pupload.flow.model import Flow
from pupload.flow.nodedef import NodeDef


def _named(request: web.Request) -> tuple[str, str]:
    """The flow that the path names, as its account and its name."""
    return account_of(request), path_part(request, "flow")


async def put_flow(request: web.Request) -> web.Response:
    """PUT {Flow, NodeDefs}: the flow's draft."""
    flow, defs = await _documents(await read_bytes(request))
    return answer(await parts_of(request).flows.put(*_named(request), flow, defs))


async def _documents(body: bytes) -> tuple[Flow, list[NodeDef]]:
    # Large documents take long enough to hold up everybody else.
    flow, defs, _ = await asyncio.to_thread(lambda: load_documents(read_json(body), lenient=False))
    return flow, defs


async def get_flow(request: web.Request) -> web.Response:
    """GET the flow with its draft."""
    return answer(await parts_of(request).flows.get(*_named(request)))


async def delete_flow(request: web.Request) -> web.Response:
    """DELETE the draft."""
    await parts_of(request).flows.delete(*_named(request))
    return web.Response(status=204)


async def list_flows(request: web.Request) -> web.Response:
    """GET ?limit&cursor."""
    limit = whole_number(request, "limit", 50, least=1, most=500)
    return answer(await parts_of(request).flows.page(account_of(request), query_text(request, "cursor"), limit))


async def validate(request: web.Request) -> web.Response:
    """POST: everything that is wrong with the draft, or with the documents in the body."""
    flows, (account, name), body = parts_of(request).flows, _named(request), await read_bytes(request)
    if body.strip():
        flow, defs = await _documents(body)
        flow = named(name, flow)
    else:
        draft = await flows.resolve(account, name, "draft")
        flow, defs = draft.flow, list(draft.defs)
    found = await flows.findings(account, flow, defs)
    return answer(Findings(findings=[FindingAnswer(**each.model_dump()) for each in found]))


async def publish(request: web.Request) -> web.Response:
    """POST: a new version of the draft as it is; the newest one where nothing has changed."""
    version, fresh = await parts_of(request).publishing.publish(*_named(request))
    return answer(version, status=201 if fresh else 200)


async def list_versions(request: web.Request) -> web.Response:
    """GET ?limit&cursor."""
    limit = whole_number(request, "limit", 50, least=1, most=500)
    before = whole_number(request, "cursor", 0, least=1, most=2**31 - 1) or None
    return answer(await parts_of(request).publishing.page(*_named(request), before, limit))


async def get_version(request: web.Request) -> web.Response:
    """GET one version."""
    return answer(await parts_of(request).publishing.version(*_named(request), _number(request)))


async def promote(request: web.Request) -> web.Response:
    """POST: the version becomes production."""
    return answer(await parts_of(request).publishing.promote(*_named(request), _number(request)))


async def compare(request: web.Request) -> web.Response:
    """GET ?from&to: where two versions differ."""
    asked = query_text(request, "from"), query_text(request, "to")
    return answer(await parts_of(request).flows.compare(*_named(request), *asked))


def _number(request: web.Request) -> int:
    asked = AskedVersion.of(path_part(request, "version"))
    if asked.number is None:
        raise InvalidRequest(f"a version's own path has its number, not {asked}", code="INVALID_VERSION")
    return asked.number


_FLOW = "/api/v1/flows/{flow}"
_VERSIONS = f"{_FLOW}/versions"
_VERSION = f"{_VERSIONS}/{{version}}"
_FROM = Asked("from", "A version's number, `draft` or `production`.")
_TO = Asked("to", "A version's number, `draft` or `production`.")

ROUTES = [
    get("/api/v1/flows", list_flows, "Flows by name.", FlowPage, asks=PAGE, scope=READ),
    put(_FLOW, put_flow, "Keeps the flow's draft.", FlowAnswer, takes=Body(FlowDocuments), scope=WRITE),
    get(_FLOW, get_flow, "The flow with its draft.", FlowAnswer, scope=READ),
    delete(_FLOW, delete_flow, "Forgets the draft.", {204: NOTHING}, scope=WRITE),
    post(
        f"{_FLOW}/validate",
        validate,
        "Everything that is wrong with the draft, or with the body.",
        Findings,
        takes=Body(FlowDocuments, required=False),
        name="validate_flow",
        scope=READ,
    ),
    post(
        _VERSIONS,
        publish,
        "Publishes the draft.",
        {
            200: Answer("Nothing has changed since this version.", FlowVersionAnswer),
            201: Answer("The new version.", FlowVersionAnswer),
        },
        name="publish_flow",
        scope=WRITE,
    ),
    get(_VERSIONS, list_versions, "Versions, newest first.", FlowVersionPage, asks=PAGE, scope=READ),
    get(_VERSION, get_version, "One version with its documents and exact images.", FlowVersionAnswer, scope=READ),
    post(
        f"{_VERSION}/promote",
        promote,
        "Puts the version into production.",
        FlowVersionAnswer,
        name="promote_version",
        scope=WRITE,
    ),
    get(f"{_FLOW}/compare", compare, "Where two versions differ.", FlowComparison, asks=(_FROM, _TO), scope=READ),
]
