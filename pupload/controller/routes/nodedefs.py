"""Node definitions for every flow."""

from aiohttp import web

from pupload.answers.flows import NodeDefAnswer, NodeDefPage
from pupload.controller.routes.account import account_of
from pupload.controller.routes.answering import answer, path_part, query_text, read_body, whole_number
from pupload.controller.routes.declaring import PAGE, READ, WRITE, Answer, Asked, Body, get, put
from pupload.controller.state import parts_of
from pupload.flow.load import load_definition
from pupload.flow.nodedef import NodeDef


def _key(request: web.Request) -> tuple[str, str, str]:
    name, _, version = path_part(request, "nodedef").partition("@")
    return path_part(request, "publisher"), name, version


async def put_nodedef(request: web.Request) -> web.Response:
    """PUT a definition; one with a version once and for all."""
    publisher, name, version = _key(request)
    given = load_definition(await read_body(request), NamedByPath)
    kept, fresh = await parts_of(request).nodedefs.put(account_of(request), publisher, name, version, given)
    return answer(kept, status=201 if fresh else 200)


class NamedByPath(NodeDef):
    """A definition that may leave its name to the path."""

    name: str = ""


async def get_nodedef(request: web.Request) -> web.Response:
    """GET a definition; without a version the newest."""
    return answer(await parts_of(request).nodedefs.get(account_of(request), *_key(request)))


async def list_nodedefs(request: web.Request) -> web.Response:
    """GET ?publisher&limit&cursor."""
    page = await parts_of(request).nodedefs.page(
        account_of(request),
        query_text(request, "publisher"),
        query_text(request, "cursor"),
        whole_number(request, "limit", 50, least=1, most=500),
    )
    return answer(page)


_NODEDEF = "/api/v1/nodedefs/{publisher}/{nodedef}"
_PUBLISHER = Asked("publisher", "Those of one publisher alone.")

ROUTES = [
    get(
        "/api/v1/nodedefs",
        list_nodedefs,
        "Node definitions by name.",
        NodeDefPage,
        asks=(_PUBLISHER, *PAGE),
        scope=READ,
    ),
    put(
        _NODEDEF,
        put_nodedef,
        "Keeps a definition for every flow; one with a version once and for all.",
        {200: Answer("It is there now, or was.", NodeDefAnswer), 201: Answer("It is new.", NodeDefAnswer)},
        takes=Body(NamedByPath),
        refuses=(409,),
        scope=WRITE,
    ),
    get(_NODEDEF, get_nodedef, "A definition; without a version the newest.", NodeDefAnswer, scope=READ),
]
