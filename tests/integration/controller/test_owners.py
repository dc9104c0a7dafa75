"""Whose things are: names of one's own, what the operator shares, and what bodies may name."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pupload.controller.scopes import KeyScope
from pupload.stores.base import Store
from tests.integration.controller.test_two_keys import SETTINGS, Json, Party, a_done_run, a_file, a_session, somebody
from tests.support.controller import ControllerUnderTest, a_controller
from tests.support.flows import a_def, a_flow, a_node, documents

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@pytest.fixture
async def controller(database_dsn: str, store: Store, tmp_path: Path) -> AsyncIterator[ControllerUnderTest]:
    """A controller that wants keys."""
    async with a_controller(database_dsn, store, tmp_path, **SETTINGS) as running:
        yield running


async def code_of(party: Party, method: str, path: str, body: Any = None) -> tuple[int, str]:
    """Status and code of what is refused."""
    status, text = await party.ask(method, path, body)
    return status, next(iter(json.loads(text).values()))["Code"] if status >= 400 else ""


def saying(text: str) -> Json:
    """A flow that is told from others by its def's image."""
    return documents(a_flow(Name=""), a_def(Image=f"pupload/{text}:1"))


def image_in(answer: Json) -> str:
    return str(answer["NodeDefs"][0]["Image"])


async def test_two_accounts_have_a_flow_of_one_name(controller: ControllerUnderTest) -> None:
    one, two = await somebody(controller), await somebody(controller)
    for party, text in ((one, "one"), (two, "two")):
        await party.make("PUT", "/api/v1/flows/mine", saying(text))
        await party.make("POST", "/api/v1/flows/mine/versions")
    assert image_in(await one.get("/api/v1/flows/mine")) == "pupload/one:1"
    assert image_in(await two.get("/api/v1/flows/mine/versions/1")) == "pupload/two:1"
    await two.make("DELETE", "/api/v1/flows/mine")
    assert (await one.get("/api/v1/flows/mine"))["Draft"]


async def test_what_the_operator_keeps_is_everybodys_to_call_and_nobodys_to_change(
    controller: ControllerUnderTest,
) -> None:
    operator, user = await somebody(controller, KeyScope.ADMIN), await somebody(controller)
    await operator.make("PUT", "/api/v1/flows/shared", saying("shared"))
    await operator.make("POST", "/api/v1/flows/shared/versions")
    assert (await user.make("POST", "/api/v1/flows/shared/runs", {}))["Status"] == "WAITING"
    for method, path in (("DELETE", ""), ("POST", "/versions"), ("POST", "/versions/1/promote")):
        assert await code_of(user, method, f"/api/v1/flows/shared{path}") == (404, "FLOW_NOT_FOUND")
    await user.make("PUT", "/api/v1/flows/shared", saying("own"))
    assert image_in(await user.get("/api/v1/flows/shared")) == "pupload/own:1"
    assert image_in(await operator.get("/api/v1/flows/shared")) == "pupload/shared:1"
    assert [each["Name"] for each in (await user.get("/api/v1/flows"))["Flows"]] == ["shared"]
    await user.make("DELETE", "/api/v1/flows/shared")
    assert image_in(await user.get("/api/v1/flows/shared")) == "pupload/shared:1"


async def test_ones_own_definition_stands_before_a_shared_one(controller: ControllerUnderTest) -> None:
    operator, user, other = (
        await somebody(controller, KeyScope.ADMIN),
        await somebody(controller),
        await somebody(controller),
    )
    for party, version in ((operator, "2"), (user, "1")):
        await party.make("PUT", f"/api/v1/nodedefs/pub/name@{version}", {"Image": f"image:{version}"})
    assert (await user.get("/api/v1/nodedefs/pub/name"))["Version"] == "1"
    assert (await other.get("/api/v1/nodedefs/pub/name"))["Version"] == "2"
    assert [each["Version"] for each in (await user.get("/api/v1/nodedefs"))["NodeDefs"]] == ["1"]
    flow = {"Flow": a_flow(a_node(Uses="pub/name"), Name="f")}
    assert (await user.make("POST", "/api/v1/flows/f/validate", flow))["Findings"] == []
    assert await code_of(user, "GET", "/api/v1/nodedefs/pub/name@2") == (404, "NODEDEF_NOT_FOUND")


async def test_no_body_names_what_is_anothers(controller: ControllerUnderTest) -> None:
    owner, other = await somebody(controller), await somebody(controller)
    file, session = (await a_file(owner))["file"], (await a_session(owner))["session"]
    await owner.make("PUT", "/api/v1/flows/child", saying("child"))
    await owner.make("PUT", "/api/v1/nodedefs/pub/def", {"Image": "a/b"})
    named: dict[str, Json] = {
        "file": {**saying("x"), "Inputs": {"in": {"Uri": f"file://{file}"}}},
        "session": {**saying("x"), "SessionID": session},
        "called flow": {"Flow": a_flow(a_node(Uses="flow/child"))},
        "evaluation": {
            "Flow": a_flow(Evals=[{"Name": "e", "Flow": "child", "Inputs": {"in": "out"}}]),
            "NodeDefs": [a_def()],
        },
        "definition": {"Flow": a_flow(a_node(Uses="pub/def"))},
    }
    for what, body in named.items():
        status, text = await other.ask("POST", "/api/v1/runs", body)
        assert status in {404, 422}, (what, text)
        ours = await owner.ask("POST", "/api/v1/runs", body)
        assert what == "evaluation" or ours[0] == 202, (what, ours)


async def test_a_key_of_idempotency_is_an_accounts_own(controller: ControllerUnderTest) -> None:
    one, two = await somebody(controller), await somebody(controller)
    ids = set()
    for party in (one, two, one):
        headers = {"Authorization": f"Bearer {party.key}", "Idempotency-Key": "same"}
        run = await controller.post("/api/v1/runs", saying("x"), headers=headers, expect=202)
        ids.add(run["ID"])
    assert len(ids) == 2


async def test_who_may_only_look_is_not_told_where_to_put_inputs(controller: ControllerUnderTest) -> None:
    owner = await somebody(controller, account="one")
    reader = await somebody(controller, KeyScope.RUN_READ, account="one")
    wells = [{"Edge": "hooked", "Source": "webhook"}]
    node = a_node(reads={"in": "in", "more": "hooked"})
    run = await owner.make("POST", "/api/v1/runs", documents(a_flow(node, DataWells=wells), a_def()))
    for path in (f"/api/v1/runs/{run['ID']}", f"/api/v1/flow/status/{run['ID']}"):
        assert all(each["PutURL"] or each["PostURL"] for each in (await owner.get(path))["WaitingURLs"])
        told = (await reader.get(path))["WaitingURLs"]
        assert [(each["PutURL"], each["PostURL"]) for each in told] == [("", ""), ("", "")]


async def test_admin_sees_everything_and_acts_in_the_owners_place(controller: ControllerUnderTest) -> None:
    owner, operator = await somebody(controller, account="one"), await somebody(controller, KeyScope.ADMIN)
    run, file, session = await a_done_run(owner), await a_file(owner), await a_session(owner)
    assert [each["ID"] for each in (await operator.get("/api/v1/runs"))["Runs"]] == [run["run"]]
    assert [each["ID"] for each in (await operator.get("/api/v1/files"))["Files"]] == [file["file"]]
    assert session["session"] in [each["ID"] for each in (await operator.get("/api/v1/sessions"))["Sessions"]]
    again = await operator.make("POST", f"/api/v1/runs/{run['run']}/replay", {})
    assert (await owner.get(f"/api/v1/runs/{again['ID']}"))["ReplayOf"] == run["run"]
    await operator.make("DELETE", f"/api/v1/files/{file['file']}")


async def test_in_a_shared_store_a_chosen_key_is_in_the_accounts_folder(controller: ControllerUnderTest) -> None:
    one, two = await somebody(controller, account="one"), await somebody(controller, account="two")
    operator = await somebody(controller, KeyScope.ADMIN)
    wells = [{"Edge": "in", "Source": "upload", "Key": "models/${RUN_ID}"}]
    kept = {**documents(a_flow(DataWells=wells), a_def()), "Inputs": {"in": "abc"}}
    for party, folder in ((one, "accounts/one/"), (operator, "")):
        run = await party.make("POST", "/api/v1/runs", kept)
        assert run["Inputs"]["in"]["ObjectName"] == f"{folder}models/{run['ID']}"
        wells = [{"Edge": "in", "Source": "static", "Key": f"models/{run['ID']}"}]
        static = documents(a_flow(DataWells=wells), a_def())
        assert (await party.ask("POST", "/api/v1/runs", static))[0] == 202
        assert await code_of(two, "POST", "/api/v1/runs", static) == (422, "STATIC_NOT_FOUND")
