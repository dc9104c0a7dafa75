"""Every route with every kind of key: the right one, another account's, one without the scope, none at all."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from yarl import URL

from pupload.controller.app import ROUTES
from pupload.controller.keys import add_key
from pupload.controller.routes import worker
from pupload.controller.routes.declaring import Route
from pupload.controller.scopes import USUAL_SCOPES, KeyScope
from pupload.stores.base import Store
from tests.support.controller import ControllerUnderTest, a_controller
from tests.support.flows import a_def, a_flow, documents

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

Json = dict[str, Any]
Names = dict[str, str]
SETTINGS: Json = {"require_keys": True, "pin_images": False, "wrong_keys_per_min": 0, "url_allow": ("localhost",)}
SOME = documents(a_flow(Name=""), a_def())
_NUMBERS = count()


@dataclass
class Party:
    """Somebody with a key, or with none."""

    controller: ControllerUnderTest
    key: str = ""

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        """Status and text of the answer; of a stream its status alone."""
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        given = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with self.controller.http.request(
            method, self.controller.url + path, headers=headers, allow_redirects=False, **given
        ) as answer:
            return answer.status, "" if answer.content_type == "text/event-stream" else await answer.text()

    async def get(self, path: str) -> Any:
        status, text = await self.ask("GET", path)
        assert status == 200, (path, status, text)
        return json.loads(text)

    async def make(self, method: str, path: str, body: Any = None) -> Any:
        status, text = await self.ask(method, path, body)
        assert status in {200, 201, 202, 204}, (path, status, text)
        return json.loads(text) if text else None


Maker = Callable[[Party], Awaitable[Names]]


async def nothing(_owner: Party) -> Names:
    return {}


async def a_run(owner: Party) -> Names:
    run = await owner.make("POST", "/api/v1/runs", SOME)
    return {"run": run["ID"], "edge": "in", "node": "copy"}


async def an_ended_run(owner: Party) -> Names:
    names = await a_run(owner)
    await owner.make("POST", f"/api/v1/runs/{names['run']}/cancel")
    return names


async def an_uploaded_run(owner: Party) -> Names:
    run = await owner.make("POST", "/api/v1/runs", SOME)
    async with owner.controller.http.put(URL(run["WaitingURLs"][0]["PutURL"], encoded=True), data=b"abc") as answer:
        assert answer.status == 200
    return {"run": run["ID"], "edge": "in"}


async def a_done_run(owner: Party) -> Names:
    """A run that has written, and of which somebody was to be told."""
    hand = await owner.controller.worker()
    wish = {**SOME, "Inputs": {"in": "abc"}, "CallbackURL": "http://localhost:9/"}
    run = await owner.make("POST", "/api/v1/runs", wish)
    # Other runs that were given their input meanwhile wait, too.
    while (assignment := (await hand.claim(wait_s=20))[0]).ref.run_id != run["ID"]:
        pass
    found = await hand.upload_output(assignment, b"result", "text/plain")
    await hand.finish(assignment.ref, outputs=[found], exit_code=0)
    told = await owner.get(f"/api/v1/runs/{run['ID']}/webhooks")
    return {"run": run["ID"], "edge": "out", "node": "copy", "webhook": told["Webhooks"][0]["ID"]}


async def an_upload(owner: Party) -> Names:
    names = await a_run(owner)
    upload = await owner.make("POST", f"/api/v1/runs/{names['run']}/uploads/in", {"Size": 3})
    return {**names, "upload": upload["ID"]}


async def a_whole_upload(owner: Party) -> Names:
    names = await an_upload(owner)
    path = "/api/v1/runs/{run}/uploads/{edge}/{upload}/parts".format(**names)
    (part,) = (await owner.make("POST", path, {"Numbers": [1]}))["Parts"]
    async with owner.controller.http.put(URL(part["PutURL"], encoded=True), data=b"abc") as answer:
        assert answer.status == 200
    return names


async def a_session(owner: Party) -> Names:
    return {"session": (await owner.make("POST", "/api/v1/sessions", {"Variables": {"whose": "mine"}}))["ID"]}


async def a_file(owner: Party) -> Names:
    return {"file": (await owner.make("POST", "/api/v1/files?name=mine", b"mine"))["ID"]}


async def a_kept_flow(owner: Party) -> Names:
    name = f"kept-{next(_NUMBERS)}"
    await owner.make("PUT", f"/api/v1/flows/{name}", SOME)
    await owner.make("POST", f"/api/v1/flows/{name}/versions")
    return {"flow": name, "version": "1"}


async def a_nodedef(owner: Party) -> Names:
    name = f"def-{next(_NUMBERS)}"
    await owner.make("PUT", f"/api/v1/nodedefs/pub/{name}", {"Image": "a/b"})
    return {"publisher": "pub", "nodedef": name}


async def a_new_name(_owner: Party) -> Names:
    return {"flow": f"new-{next(_NUMBERS)}", "publisher": "pub", "nodedef": f"new-{next(_NUMBERS)}"}


EMPTY, OWN, OPEN = "an empty list", "what is theirs", "whoever asks"
"""What another account's key is told where it is not that there is no such thing."""


@dataclass(frozen=True)
class Ask:
    """How to ask a route for what was made with the first key, and what it answers then; or what else it tells."""

    made: Maker = nothing
    body: Any = None
    good: int = 200
    others: str = "that there is none"
    none: int = 404


NEW = Ask(others=OWN, body=SOME, good=202)
ASKS: Mapping[str, Ask] = {
    "POST /api/v1/flow/test": Ask(others=OWN, body=SOME),
    "GET /api/v1/flow/status/{run}": Ask(a_run, none=400),
    "GET /api/v1/runs": Ask(a_run, others=EMPTY),
    "POST /api/v1/runs": NEW,
    "POST /api/v1/runs/sync": Ask(others=OWN, body={**SOME, "Wait": "10ms"}, good=202),
    "POST /api/v1/runs/stream": Ask(others=OWN, body=SOME),
    "GET /api/v1/runs/{run}": Ask(a_run),
    "DELETE /api/v1/runs/{run}": Ask(an_ended_run, good=204),
    "POST /api/v1/runs/{run}/cancel": Ask(a_run),
    # No node of it has asked for anything: that is told to who may know of the run.
    "POST /api/v1/runs/{run}/resume": Ask(a_run, {"ToolResults": []}, good=409),
    "POST /api/v1/runs/{run}/replay": Ask(an_ended_run, {}, good=202),
    "POST /api/v1/runs/{run}/replay/sync": Ask(an_ended_run, {"Wait": "10ms"}, good=202),
    "POST /api/v1/runs/{run}/replay/stream": Ask(an_ended_run, {}),
    "GET /api/v1/runs/{run}/events": Ask(an_ended_run),
    "GET /api/v1/runs/{run}/nodes/{node}/logs": Ask(a_run),
    "GET /api/v1/runs/{run}/trace": Ask(a_run),
    "GET /api/v1/runs/{run}/evals": Ask(a_run),
    "GET /api/v1/runs/{run}/outputs": Ask(a_done_run),
    "GET /api/v1/runs/{run}/artifacts/{edge}": Ask(a_done_run, good=302),
    "GET /api/v1/runs/{run}/webhooks": Ask(a_done_run),
    "POST /api/v1/webhooks/{webhook}/redeliver": Ask(a_done_run, good=202),
    "PUT /api/v1/runs/{run}/inputs/{edge}": Ask(a_run, b"abc", good=204),
    "POST /api/v1/runs/{run}/uploads/{edge}": Ask(a_run, {"Size": 3}, good=201),
    "POST /api/v1/runs/{run}/uploads/{edge}/complete": Ask(an_uploaded_run),
    "GET /api/v1/runs/{run}/uploads/{edge}/{upload}": Ask(an_upload),
    "DELETE /api/v1/runs/{run}/uploads/{edge}/{upload}": Ask(an_upload, good=204),
    "POST /api/v1/runs/{run}/uploads/{edge}/{upload}/parts": Ask(an_upload, {"Numbers": [1]}),
    "POST /api/v1/runs/{run}/uploads/{edge}/{upload}/complete": Ask(a_whole_upload),
    "POST /api/v1/sessions": Ask(others=OWN, body={}, good=201),
    "GET /api/v1/sessions": Ask(a_session, others=EMPTY),
    "GET /api/v1/sessions/{session}": Ask(a_session),
    "DELETE /api/v1/sessions/{session}": Ask(a_session, good=204),
    "POST /api/v1/files": Ask(others=OWN, body=b"abc", good=201),
    "GET /api/v1/files": Ask(a_file, others=EMPTY),
    "GET /api/v1/files/{file}": Ask(a_file),
    "DELETE /api/v1/files/{file}": Ask(a_file, good=204),
    "GET /api/v1/flows": Ask(a_kept_flow, others=EMPTY),
    "PUT /api/v1/flows/{flow}": Ask(a_new_name, SOME, others=OWN),
    "GET /api/v1/flows/{flow}": Ask(a_kept_flow),
    "DELETE /api/v1/flows/{flow}": Ask(a_kept_flow, good=204),
    "POST /api/v1/flows/{flow}/validate": Ask(a_kept_flow),
    "POST /api/v1/flows/{flow}/versions": Ask(a_kept_flow),
    "GET /api/v1/flows/{flow}/versions": Ask(a_kept_flow),
    "GET /api/v1/flows/{flow}/versions/{version}": Ask(a_kept_flow),
    "POST /api/v1/flows/{flow}/versions/{version}/promote": Ask(a_kept_flow),
    "GET /api/v1/flows/{flow}/compare": Ask(a_kept_flow),
    "POST /api/v1/flows/{flow}/runs": Ask(a_kept_flow, {}, good=202),
    "POST /api/v1/flows/{flow}/runs/sync": Ask(a_kept_flow, {"Wait": "10ms"}, good=202),
    "POST /api/v1/flows/{flow}/runs/stream": Ask(a_kept_flow, {}),
    "POST /api/v1/flows/{flow}/runs/step": Ask(a_kept_flow, {"Inputs": {"in": "abc"}}),
    "GET /api/v1/nodedefs": Ask(a_nodedef, others=EMPTY),
    "PUT /api/v1/nodedefs/{publisher}/{nodedef}": Ask(a_new_name, {"Image": "a/b"}, good=201, others=OWN),
    "GET /api/v1/nodedefs/{publisher}/{nodedef}": Ask(a_nodedef),
    "GET /api/v1/account": Ask(others=OWN),
    "GET /api/v1/tiers": Ask(others=OWN),
    "GET /api/v1/workers": Ask(others=OWN),
    "POST /api/v1/hooks/{run}/{edge}/{token}": Ask(others=OPEN),
    "GET /healthz": Ask(others=OPEN),
    "GET /readyz": Ask(others=OPEN),
    "GET /openapi.json": Ask(others=OPEN),
    "GET /docs": Ask(others=OPEN),
}
PUBLIC = {f"{route.method} {route.path}": route for route in ROUTES if isinstance(route, Route)}
CLOSED = {name: route for name, route in PUBLIC.items() if route.scope is not None}


def test_every_route_is_tried_here_or_takes_a_workers_token() -> None:
    others = [route for route in ROUTES if not isinstance(route, Route)]
    assert others == worker.ROUTES
    assert PUBLIC.keys() == ASKS.keys()
    assert {name for name, ask in ASKS.items() if ask.others == OPEN} == PUBLIC.keys() - CLOSED.keys()


def test_no_two_routes_have_one_handler() -> None:
    handlers = [route.handler for route in ROUTES if isinstance(route, Route | web.RouteDef)]
    assert len(set(handlers)) == len(ROUTES)


@pytest.fixture
async def controller(database_dsn: str, store: Store, tmp_path: Path) -> AsyncIterator[ControllerUnderTest]:
    """A controller that wants keys."""
    async with a_controller(database_dsn, store, tmp_path, **SETTINGS) as running:
        yield running


async def somebody(controller: ControllerUnderTest, *scopes: KeyScope, account: str = "") -> Party:
    """Somebody with a new key."""
    async with controller.running.parts.service.database.connection() as connection:
        key, _ = await add_key(connection, f"key-{next(_NUMBERS)}", account=account, scopes=scopes)
    return Party(controller, key)


def filled(path: str, names: Mapping[str, str]) -> str:
    """The path of these things; whatever has no name is none."""
    for name in (
        "run",
        "edge",
        "node",
        "upload",
        "session",
        "file",
        "flow",
        "version",
        "publisher",
        "nodedef",
        "webhook",
    ):
        path = path.replace(f"{{{name}}}", names.get(name, "1"))
    return path


async def test_without_a_key_or_with_a_wrong_one_nothing_is_told(controller: ControllerUnderTest) -> None:
    for party in (Party(controller), Party(controller, "pup_0_0")):
        for name, route in CLOSED.items():
            status, text = await party.ask(route.method, filled(route.path, {}), {})
            assert (status, "UNAUTHORIZED" in text) == (401, True), name


async def test_a_key_goes_as_far_as_its_scopes(controller: ControllerUnderTest) -> None:
    lacking = {scope: await somebody(controller, *(USUAL_SCOPES - {scope}), account="a") for scope in KeyScope}
    for name, route in CLOSED.items():
        assert route.scope is not None
        status, text = await lacking[route.scope].ask(route.method, filled(route.path, {}), {})
        assert status == 403, (name, text)
        error = next(iter(json.loads(text).values()))
        assert (error["Code"], route.scope.value in error["Message"]) == ("SCOPE_MISSING", True), name


async def test_a_worker_is_known_by_its_token_alone(controller: ControllerUnderTest) -> None:
    operator = await somebody(controller, KeyScope.ADMIN)
    for route in worker.ROUTES:
        assert (await operator.ask(route.method, route.path, {}))[0] == 401


def without_ids(text: str, *ids: str) -> str:
    """The answer but for what names the thing that was asked for, and the request."""
    try:
        said = json.loads(text)
    except ValueError:
        return text
    for error in said.values() if isinstance(said, dict) else ():
        if isinstance(error, dict):
            error.pop("RequestID", None)
    told = json.dumps(said)
    for each in ids:
        told = told.replace(each, "…")
    return told


async def test_what_is_anothers_is_as_if_it_were_not_there(controller: ControllerUnderTest) -> None:
    """And what is one's own is there, after the other had tried."""
    owner, other, newcomer = await somebody(controller), await somebody(controller), await somebody(controller)
    operator = await somebody(controller, KeyScope.ADMIN)
    wrong: list[object] = []
    done = await a_done_run(owner)
    for name, route in CLOSED.items():
        ask = ASKS[name]
        names = done if ask.made is a_done_run else await ask.made(owner)
        path = filled(route.path, names)
        if ask.others == EMPTY:
            # Who asks has made nothing yet.
            status, text = await newcomer.ask(route.method, path, ask.body)
            wrong += [] if status == 200 and not any(json.loads(text).values()) else [(name, status, text)]
        elif ask.others != OWN:
            told = await other.ask(route.method, path, ask.body)
            none = await other.ask(route.method, filled(route.path, unlike(names)), ask.body)
            ids = [*names.values(), *unlike(names).values()]
            same = without_ids(told[1], *ids) == without_ids(none[1], *ids)
            wrong += [] if same and told[0] == none[0] == ask.none else [(name, told, none)]
        status, text = await (operator if route.scope is KeyScope.ADMIN else owner).ask(route.method, path, ask.body)
        wrong += [] if status == ask.good else [(name, status, text)]
    assert wrong == []


def unlike(names: Names) -> Names:
    """Names of the same shape that nothing has; a place within a thing stays."""
    return {
        kind: name if kind in {"edge", "node", "version"} else f"{name[:4]}{'0' * len(name[4:])}"
        for kind, name in names.items()
    }
