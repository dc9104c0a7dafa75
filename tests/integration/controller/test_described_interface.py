"""The server answers as its description says, whatever is asked."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pupload.controller.app import ROUTES
from pupload.controller.routes.declaring import Route
from pupload.stores.base import Store
from tests.support.controller import ControllerUnderTest, a_controller
from tests.support.described import EXAMPLES, try_all
from tests.support.flows import a_def, a_flow, a_node, documents

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3600 if EXAMPLES else 600)]


@pytest.fixture
async def controller(database_dsn: str, store: Store, tmp_path: Path) -> AsyncIterator[ControllerUnderTest]:
    """A controller that waits for nothing."""
    async with a_controller(database_dsn, store, tmp_path, sync_wait_s=0.01) as running:
        yield running


async def known(controller: ControllerUnderTest) -> dict[str, str]:
    """What there is of each thing that a path may name."""
    posted = documents(a_flow(a_node(), Name="kept"), a_def())
    async with controller.http.put(f"{controller.url}/api/v1/flows/kept", json=posted) as answer:
        assert answer.status == 200, await answer.text()
    await controller.post("/api/v1/flows/kept/versions", {}, expect=201)
    async with controller.http.put(f"{controller.url}/api/v1/nodedefs/pub/name@1", json={"Image": "a/b"}) as answer:
        assert answer.status == 201, await answer.text()
    run = await controller.post("/api/v1/flows/kept/runs", {}, expect=202)
    upload = await controller.post(f"/api/v1/runs/{run['ID']}/uploads/in", {"Size": 10}, expect=201)
    token = controller.running.parts.hooks.url(run["ID"], "in").rpartition("/")[2]  # type: ignore[arg-type]
    return {
        "run": run["ID"], "flow": "kept", "edge": "in", "node": "copy", "upload": upload["ID"], "version": "1",
        "publisher": "pub", "nodedef": "name@1", "token": token,
    }  # fmt: skip


async def test_every_answer_is_one_that_the_description_tells_of(
    controller: ControllerUnderTest, tmp_path: Path
) -> None:
    description = await controller.get("/openapi.json")
    trial = await try_all(description, controller.url, await known(controller), tmp_path, examples=4)
    assert trial.passed, trial.told
    assert trial.calls > 3 * len(description["paths"])


async def test_a_key_is_asked_for_where_the_description_says(database_dsn: str, store: Store, tmp_path: Path) -> None:
    async with a_controller(database_dsn, store, tmp_path, require_keys=True) as controller:
        for route in (each for each in ROUTES if isinstance(each, Route)):
            url = controller.url + route.path.replace("{", "").replace("}", "")
            async with controller.http.request(route.method, url) as answer:
                assert (answer.status == 401) == (not route.open), (route.method, route.path)


async def test_the_page_may_do_nothing_but_be_read(controller: ControllerUnderTest) -> None:
    async with controller.http.get(controller.url + "/docs") as answer:
        text = await answer.text()
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.content_type == "text/html"
        assert "/api/v1/flow/test" in text
