"""Flows by name over HTTP: drafts, findings, versions, definitions for all, and what a call of a flow runs."""

import asyncio
from collections.abc import AsyncIterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from pupload.client.client import AsyncClient
from pupload.controller.submission import Definition, Start
from pupload.errors import InvalidRequest, NotFound, PuploadError
from pupload.stores.base import Store
from tests.support.controller import REFERENCE, ControllerUnderTest, a_controller
from tests.support.docker_images import ensure_busybox
from tests.support.flows import a_def, a_flow, a_node, documents

pytestmark = pytest.mark.integration

Json = dict[str, Any]
FLOW = "/api/v1/flows/resize"


@pytest.fixture
async def controller(database_dsn: str, store: Store, tmp_path: Path) -> AsyncIterator[ControllerUnderTest]:
    """A controller that asks no Docker engine."""
    async with a_controller(database_dsn, store, tmp_path, pin_images=False) as running:
        yield running


def a_draft(width: object = "800", **flow: Any) -> Json:
    body = deepcopy(REFERENCE)
    body["Flow"]["Nodes"][0]["Flags"][0]["Value"] = width
    body["Flow"] = {name: value for name, value in body["Flow"].items() if name != "Name"} | flow
    return body


async def ask(
    controller: ControllerUnderTest, method: str, path: str, body: object = None, *, expect: int = 200
) -> Any:
    async with controller.http.request(method, controller.url + path, json=body) as response:
        assert response.status == expect, (response.status, await response.text())
        return await response.json() if response.content_type == "application/json" else None


async def refused(controller: ControllerUnderTest, method: str, path: str, body: object = None, *, expect: int) -> str:
    return str((await ask(controller, method, path, body, expect=expect))["Error"]["Code"])


async def put(controller: ControllerUnderTest, draft: Json) -> Json:
    return dict(await ask(controller, "PUT", FLOW, draft))


async def publish(controller: ControllerUnderTest, draft: Json) -> int:
    await put(controller, draft)
    return int((await ask(controller, "POST", f"{FLOW}/versions", expect=201))["Version"])


def width_of(definition: Definition) -> object:
    return definition.flow.nodes[0].flags[0].value


async def resolved(controller: ControllerUnderTest, version: str | None = None) -> Definition:
    return await controller.running.parts.flows.resolve("", "resize", version)


async def refusal(controller: ControllerUnderTest, version: str, name: str = "resize") -> str:
    with pytest.raises((NotFound, InvalidRequest)) as caught:
        await controller.running.parts.flows.resolve("", name, version)
    error: PuploadError = caught.value
    return error.code


async def test_a_draft_comes_back_as_it_was_put(controller: ControllerUnderTest) -> None:
    put_answer = await put(controller, a_draft())
    got = await controller.get(FLOW)
    assert got == put_answer
    assert (got["Flow"], got["NodeDefs"]) == (a_draft()["Flow"] | {"Name": "resize"}, REFERENCE["NodeDefs"])
    assert (got["Name"], got["Draft"], got["Versions"], got["Production"]) == ("resize", True, [], None)


async def test_a_flow_that_nobody_put_is_not_found_on_any_route(controller: ControllerUnderTest) -> None:
    for method, route in [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/validate"),
        ("POST", "/versions"),
        ("GET", "/versions"),
        ("GET", "/versions/1"),
        ("POST", "/versions/1/promote"),
        ("GET", "/compare"),
    ]:
        assert await refused(controller, method, f"{FLOW}{route}", expect=404) == "FLOW_NOT_FOUND"
    assert await refusal(controller, "draft", "nothing") == "FLOW_NOT_FOUND"


async def test_names_are_one_and_safe(controller: ControllerUnderTest) -> None:
    assert await refused(controller, "PUT", FLOW, a_draft(Name="other"), expect=422) == "NAME_MISMATCH"
    assert await refused(controller, "PUT", "/api/v1/flows/a%20b", a_draft(), expect=422) == "INVALID_NAME"
    assert await refused(controller, "PUT", FLOW, {"Flow": 1}, expect=422) == "INVALID_REQUEST"
    assert (await controller.get("/api/v1/flows"))["Flows"] == []


async def test_a_draft_may_have_findings_and_a_version_may_not(controller: ControllerUnderTest) -> None:
    circle = a_flow(
        a_node("a", reads={"in": "x"}, writes={"out": "y"}), a_node("b", reads={"in": "y"}, writes={"out": "x"})
    )
    circle["Nodes"].append({"ID": "c", "Uses": "no/body"})
    await put(controller, documents({**circle, "Name": "resize"}))
    found = (await controller.post(f"{FLOW}/validate"))["Findings"]
    assert {"FLOW_001", "NODE_001"} <= {finding["Code"] for finding in found}
    error = (await controller.post(f"{FLOW}/versions", expect=422))["Error"]
    assert (error["Code"], error["Details"]) == ("INVALID_FLOW", found)
    assert (await controller.get(f"{FLOW}/versions"))["Versions"] == []


async def test_documents_can_be_validated_before_they_are_put(controller: ControllerUnderTest) -> None:
    assert (await controller.post(f"{FLOW}/validate", a_draft()))["Findings"] == []
    found = (await controller.post(f"{FLOW}/validate", {"Flow": {"Nodes": []}}))["Findings"]
    assert [finding["Code"] for finding in found] == ["FLOW_002"]


async def test_a_version_does_not_change_with_the_draft(controller: ControllerUnderTest) -> None:
    assert await publish(controller, a_draft("1")) == 1
    first = await controller.get(f"{FLOW}/versions/1")
    assert await publish(controller, a_draft("2")) == 2
    assert await controller.get(f"{FLOW}/versions/1") == first
    assert first["Flow"]["Nodes"][0]["Flags"] == [{"Name": "width", "Value": "1"}]
    assert first["Definition"] != (await controller.get(f"{FLOW}/versions/2"))["Definition"]


async def test_a_draft_that_did_not_change_is_published_once(controller: ControllerUnderTest) -> None:
    await publish(controller, a_draft("1"))
    again = await ask(controller, "POST", f"{FLOW}/versions", expect=200)
    assert again == await controller.get(f"{FLOW}/versions/1")
    await publish(controller, a_draft("2"))
    assert await publish(controller, a_draft("1")) == 3


async def test_many_who_publish_at_once_get_one_version(controller: ControllerUnderTest) -> None:
    await put(controller, a_draft())
    publishing = controller.running.parts.publishing
    found = await asyncio.gather(*(publishing.publish("", "resize") for _ in range(6)))
    assert sorted(fresh for _, fresh in found) == [False] * 5 + [True]
    assert {version.version for version, _ in found} == {1}


async def test_a_call_gets_production_else_the_newest_else_the_draft(controller: ControllerUnderTest) -> None:
    await put(controller, a_draft("d"))
    assert ((await resolved(controller)).version, width_of(await resolved(controller))) == ("draft", "d")
    await publish(controller, a_draft("1"))
    await publish(controller, a_draft("2"))
    await put(controller, a_draft("edited"))
    assert (await resolved(controller)).version == "2"
    promoted = await controller.post(f"{FLOW}/versions/1/promote")
    assert (promoted["Version"], promoted["Production"]) == (1, True)
    widths = [width_of(await resolved(controller, version)) for version in (None, "production", "2", "draft")]
    assert widths == ["1", "1", "2", "edited"]
    assert (await resolved(controller)).digest == promoted["Definition"]
    listed = (await controller.get("/api/v1/flows"))["Flows"]
    assert [(flow["Name"], flow["Versions"], flow["Production"]) for flow in listed] == [("resize", [1, 2], 1)]


async def test_a_version_that_is_none_and_one_that_is_not_there(controller: ControllerUnderTest) -> None:
    await publish(controller, a_draft())
    assert [await refusal(controller, version) for version in ("99", "production")] == ["VERSION_NOT_FOUND"] * 2
    for version in ("main", "0", "01", "-1", "1.0", "9" * 30, "Draft", "१"):
        assert await refusal(controller, version) == "INVALID_VERSION"
    assert await refused(controller, "GET", f"{FLOW}/versions/main", expect=422) == "INVALID_VERSION"
    assert await refused(controller, "POST", f"{FLOW}/versions/7/promote", expect=404) == "VERSION_NOT_FOUND"
    assert (await controller.get(FLOW))["Production"] is None


async def test_a_deleted_draft_leaves_what_was_published(controller: ControllerUnderTest) -> None:
    await publish(controller, a_draft("1"))
    await ask(controller, "DELETE", FLOW, expect=204)
    got = await controller.get(FLOW)
    assert (got["Draft"], got["Flow"], got["NodeDefs"], got["Versions"]) == (False, None, [], [1])
    assert (await resolved(controller)).version == "1"
    assert await refusal(controller, "draft") == "VERSION_NOT_FOUND"
    assert await refused(controller, "POST", f"{FLOW}/versions", expect=404) == "VERSION_NOT_FOUND"
    assert await publish(controller, a_draft("2")) == 2


async def test_a_deleted_flow_that_was_never_published_is_gone(controller: ControllerUnderTest) -> None:
    await put(controller, a_draft())
    await ask(controller, "DELETE", FLOW, expect=204)
    assert await refused(controller, "GET", FLOW, expect=404) == "FLOW_NOT_FOUND"


async def test_lists_come_in_pages(controller: ControllerUnderTest) -> None:
    for name in ("b", "a", "Z"):
        await ask(controller, "PUT", f"/api/v1/flows/{name}", a_draft())
    first = await controller.get("/api/v1/flows?limit=2")
    rest = await controller.get(f"/api/v1/flows?limit=2&cursor={first['NextCursor']}")
    assert [flow["Name"] for flow in first["Flows"] + rest["Flows"]] == ["Z", "a", "b"]
    for width in "123":
        await publish(controller, a_draft(width))
    first = await controller.get(f"{FLOW}/versions?limit=2")
    rest = await controller.get(f"{FLOW}/versions?limit=2&cursor={first['NextCursor']}")
    assert [version["Version"] for version in first["Versions"] + rest["Versions"]] == [3, 2, 1]
    assert rest["NextCursor"] == ""


async def test_two_versions_are_compared(controller: ControllerUnderTest) -> None:
    await publish(controller, a_draft("1"))
    await publish(controller, a_draft("2"))
    await put(controller, a_draft("3"))
    for query, old, new, widths in [
        ("?from=1&to=2", "1", "2", ["1", "2"]),
        ("", "2", "draft", ["2", "3"]),
        ("?from=draft&to=1", "draft", "1", ["3", "1"]),
    ]:
        found = await controller.get(f"{FLOW}/compare{query}")
        assert (found["From"], found["To"]) == (old, new)
        path = "$.Flow.Nodes['resize-1'].Flags['width'].Value"
        assert found["Differences"] == [{"Path": path, "From": widths[0], "To": widths[1]}]
    assert (await controller.get(f"{FLOW}/compare?from=1&to=1"))["Differences"] == []
    assert await refused(controller, "GET", f"{FLOW}/compare?from=9", expect=404) == "VERSION_NOT_FOUND"


# Secrets


def a_secret_draft(secret: str | None = "hush-hush", **params: str) -> Json:
    given = {"Endpoint": "s3.example", "BucketName": "photos", "AccessKey": "ak", **params}
    if secret is not None:
        given["SecretKey"] = secret
    store = {"Name": "mine", "Type": "s3", "Params": given}
    return a_draft(Stores=[store], DefaultDataWell={"Store": "mine"})


def secret_of(definition: Definition) -> str:
    return definition.flow.stores[0].read_params().secret_key.get_secret_value()


async def test_a_secret_is_kept_sealed_and_works(controller: ControllerUnderTest) -> None:
    put_answer = await put(controller, a_secret_draft())
    published = await controller.post(f"{FLOW}/versions", expect=201)
    compared = await controller.get(f"{FLOW}/compare?to=1&from=draft")
    assert "hush" not in str([put_answer, published, await controller.get(FLOW), compared])
    assert {secret_of(await resolved(controller, version)) for version in ("draft", "1")} == {"hush-hush"}
    async with controller.running.parts.service.database.connection() as connection:
        rows = [
            *await connection.fetch("SELECT f.* FROM flows AS f"),
            *await connection.fetch("SELECT v.* FROM flow_versions AS v"),
        ]
    assert len(rows) == 2
    assert not any("hush" in str(list(row.values())) for row in rows)


async def test_what_may_be_a_misspelt_secret_is_not_told_either(controller: ControllerUnderTest) -> None:
    answered = await put(controller, a_secret_draft(None, SecretAccessKey="hush-hush"))
    assert "hush-hush" not in str(answered)
    assert "hush-hush" not in str(await controller.get(FLOW))


async def test_a_draft_that_was_read_and_put_again_keeps_its_secret(controller: ControllerUnderTest) -> None:
    await put(controller, a_secret_draft())
    got = await controller.get(FLOW)
    await put(controller, {"Flow": got["Flow"], "NodeDefs": got["NodeDefs"]})
    assert secret_of(await resolved(controller, "draft")) == "hush-hush"


async def test_a_secret_does_not_follow_to_another_account(controller: ControllerUnderTest) -> None:
    for params in ({"Endpoint": "elsewhere.example"}, {"AccessKey": "other"}):
        await put(controller, a_secret_draft())
        await put(controller, a_secret_draft(None, **params))
        found = (await controller.post(f"{FLOW}/validate"))["Findings"]
        assert [finding["Code"] for finding in found] == ["STORE_003"]


async def test_another_secret_is_another_version(controller: ControllerUnderTest) -> None:
    assert await publish(controller, a_secret_draft("one")) == 1
    assert await publish(controller, a_secret_draft("two")) == 2
    await ask(controller, "POST", f"{FLOW}/versions", expect=200)
    assert [secret_of(await resolved(controller, version)) for version in ("1", "2")] == ["one", "two"]


# Node definitions for every flow

DEFS = "/api/v1/nodedefs/pupload/resize"
IMAGE = {"Image": "pupload/resize:latest"}


async def test_a_definition_with_a_version_never_changes(controller: ControllerUnderTest) -> None:
    made = await ask(controller, "PUT", f"{DEFS}@1", IMAGE | {"Tier": "c-small"}, expect=201)
    assert made["NodeDef"] == {"Publisher": "pupload", "Name": "resize", "Version": "1", "Tier": "c-small", **IMAGE}
    written_out = IMAGE | {"Tier": "c-small", "Network": "none", "Version": "1"}
    assert await ask(controller, "PUT", f"{DEFS}@1", written_out) == made
    assert await refused(controller, "PUT", f"{DEFS}@1", {"Image": "other:1"}, expect=409) == "NODEDEF_EXISTS"
    assert await controller.get(f"{DEFS}@1") == made


async def test_a_definition_without_a_version_can_be_replaced(controller: ControllerUnderTest) -> None:
    await ask(controller, "PUT", DEFS, IMAGE, expect=201)
    await ask(controller, "PUT", DEFS, {"Image": "other:1"})
    assert (await controller.get(DEFS))["Image"] == "other:1"


async def test_without_a_version_the_newest_is_got(controller: ControllerUnderTest) -> None:
    for version in ("1.9", "1.10", "1.10-rc1"):
        await ask(controller, "PUT", f"{DEFS}@{version}", IMAGE, expect=201)
    await ask(controller, "PUT", "/api/v1/nodedefs/other/one", IMAGE, expect=201)
    assert (await controller.get(DEFS))["Version"] == "1.10"
    first = await controller.get("/api/v1/nodedefs?limit=3")
    rest = await controller.get(f"/api/v1/nodedefs?limit=3&cursor={first['NextCursor']}")
    assert [each["Version"] for each in first["NodeDefs"] + rest["NodeDefs"]] == ["", "1.10", "1.10-rc1", "1.9"]
    assert len((await controller.get("/api/v1/nodedefs?publisher=pupload"))["NodeDefs"]) == 3


async def test_a_definition_that_cannot_be_used_is_refused(controller: ControllerUnderTest) -> None:
    error = (await ask(controller, "PUT", DEFS, {"Image": "A B", "Tier": "none"}, expect=422))["Error"]
    found = {finding["Code"]: finding["Path"] for finding in error["Details"]}
    assert (error["Code"], found) == ("INVALID_NODEDEF", {"NODE_004": "$.Tier", "DEF_002": "$.Image"})
    assert await refused(controller, "PUT", DEFS, IMAGE | {"Name": "other"}, expect=422) == "NAME_MISMATCH"
    assert await refused(controller, "PUT", "/api/v1/nodedefs/flow/x", IMAGE, expect=422) == "INVALID_NODEDEF"
    assert await refused(controller, "PUT", "/api/v1/nodedefs/a%20b/x", IMAGE, expect=422) == "INVALID_NAME"
    assert await refused(controller, "PUT", f"{DEFS}@a%2Fb", IMAGE, expect=422) == "INVALID_VERSION"
    shapes: list[object] = [[], IMAGE | {"Colour": "red"}, IMAGE | {"Description": "\ud800"}]
    for shape in shapes:
        assert await refused(controller, "PUT", DEFS, shape, expect=422) == "INVALID_REQUEST"
    assert await refused(controller, "GET", DEFS, expect=404) == "NODEDEF_NOT_FOUND"


async def test_a_flow_uses_definitions_that_it_does_not_bring(controller: ControllerUnderTest) -> None:
    bare = {"Flow": a_draft()["Flow"]}
    await put(controller, bare)
    assert [each["Code"] for each in (await controller.post(f"{FLOW}/validate"))["Findings"]] == ["NODE_001"]
    await ask(controller, "PUT", DEFS, IMAGE, expect=201)
    assert (await controller.post(f"{FLOW}/validate"))["Findings"] == []
    run = await controller.post("/api/v1/flow/test", bare | {"NodeDefs": []})
    assert run["Status"] == "WAITING"


async def test_what_was_published_keeps_the_definitions_of_its_day(controller: ControllerUnderTest) -> None:
    await ask(controller, "PUT", DEFS, {"Image": "first:1"}, expect=201)
    await put(controller, {"Flow": a_draft()["Flow"]})
    await controller.post(f"{FLOW}/versions", expect=201)
    await ask(controller, "PUT", DEFS, {"Image": "second:1"})
    assert [(await resolved(controller, version)).defs[0].image for version in ("1", "draft")] == [
        "first:1",
        "second:1",
    ]
    assert (await controller.get(f"{FLOW}/versions/1"))["NodeDefs"][0]["Image"] == "first:1"
    assert (await controller.post(f"{FLOW}/versions", expect=201))["Version"] == 2


async def test_a_definition_that_the_documents_bring_wins(controller: ControllerUnderTest) -> None:
    await ask(controller, "PUT", f"{DEFS}@9", {"Image": "kept:9"}, expect=201)
    flow, defs = a_flow(a_node(Uses="pupload/resize")), [a_def("pupload/resize", Image="brought:1")]
    await put(controller, documents({**flow, "Name": "resize"}, *defs))
    assert [each.image for each in (await resolved(controller)).defs] == ["brought:1"]


# Exact images


async def test_a_version_runs_the_images_of_its_day(database_dsn: str, store: Store, tmp_path: Path) -> None:
    busybox = ensure_busybox()
    async with a_controller(database_dsn, store, tmp_path) as controller:
        body = documents(a_flow(a_node(), Name="resize"), a_def(Image=busybox))
        await put(controller, body)
        version = await controller.post(f"{FLOW}/versions", expect=201)
        assert list(version["Images"]) == [busybox]
        assert version["Images"][busybox].rpartition(":")[0].endswith("sha256")
        assert (version["Warnings"], version["NodeDefs"][0]["Image"]) == ([], busybox)
        definition = await resolved(controller)
        assert definition.defs[0].image == version["Images"][busybox]
        run_id = await controller.running.parts.submission.start(Start(definition))
        assert (await controller.get(f"/api/v1/runs/{run_id}"))["Definition"] == version["Definition"]


async def test_without_an_engine_a_flow_is_published_with_a_warning(
    database_dsn: str, store: Store, tmp_path: Path
) -> None:
    async with a_controller(database_dsn, store, tmp_path, docker_host="tcp://127.0.0.1:1") as controller:
        await put(controller, a_draft())
        version = await controller.post(f"{FLOW}/versions", expect=201)
        assert version["Images"] == {}
        assert ["pupload/resize:latest" in warning for warning in version["Warnings"]] == [True]
        assert (await resolved(controller)).defs[0].image == "pupload/resize:latest"


async def test_a_failure_names_the_version_that_wanted_the_image(
    database_dsn: str, store: Store, tmp_path: Path
) -> None:
    async with a_controller(database_dsn, store, tmp_path) as controller:
        body = documents(a_flow(a_node(reads={}), Name="resize"), a_def(Image=ensure_busybox()))
        await put(controller, body)
        await controller.post(f"{FLOW}/versions", expect=201)
        worker = await controller.worker()
        run_id = await controller.running.parts.submission.start(Start(await resolved(controller)))
        (assignment,) = await worker.claim()
        failed: Json = {"outcome": "failed", "reason": "image", "message": "image sha256:… is not here", "final": True}
        await worker.finish(assignment.ref, **failed)
        error = (await controller.get(f"/api/v1/runs/{run_id}"))["Error"]
        assert "version 1 of flow resize was published with exactly this image" in error["Message"]


async def test_the_client_does_all_of_it(controller: ControllerUnderTest) -> None:
    async with AsyncClient(controller.url) as client:
        await client.put_nodedef("pupload/resize@2", IMAGE)
        assert (await client.nodedef("pupload/resize")).version == "2"
        assert [each.name for each in (await client.nodedefs(publisher="pupload")).node_defs] == ["resize"]
        assert (await client.put_flow("resize", a_draft()["Flow"])).draft
        assert await client.validate_flow("resize") == []
        version = await client.publish("resize")
        assert (await client.promote("resize", version.version)).production
        assert await client.version("resize", 1) == (await client.promote("resize", 1))
        assert [each.version for each in (await client.versions("resize")).versions] == [1]
        assert (await client.compare("resize", "production", "draft")).differences == []
        await client.delete_flow("resize")
        assert (await client.flow("resize")).flow is None
        assert [each.production for each in (await client.flows()).flows] == [1]
