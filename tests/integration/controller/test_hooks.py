"""Webhook wells: an address that takes the bytes of one edge, once."""

import gzip
import logging
from typing import Any
from urllib.parse import urlsplit

import pytest

from pupload.stores.base import Store
from tests.support.controller import REFERENCE, ControllerUnderTest

pytestmark = pytest.mark.integration

EDGE = "input-image"
HOOKED = {
    **REFERENCE,
    "Flow": {**REFERENCE["Flow"], "DataWells": [{"Edge": EDGE, "Source": "webhook", "MaxSize": "1kb"}]},
}


async def a_run(controller: ControllerUnderTest) -> tuple[str, str]:
    run = await controller.post("/api/v1/flow/test", HOOKED)
    (waiting,) = run["WaitingURLs"]
    assert (run["Status"], run["StatusReason"], waiting["PutURL"]) == ("WAITING", "uploads", "")
    assert waiting["PostURL"].startswith(f"{controller.url}/api/v1/hooks/{run['ID']}/{EDGE}/")
    assert waiting["TTL"] > 3600
    return run["ID"], waiting["PostURL"]


async def post(controller: ControllerUnderTest, url: str, data: Any, **how: Any) -> int:
    async with controller.http.post(url, data=data, **how) as response:
        return response.status


async def test_what_is_posted_once_is_the_object_of_the_edge(controller: ControllerUnderTest, store: Store) -> None:
    run_id, url = await a_run(controller)
    assert await post(controller, url, b"{}", headers={"Content-Type": "application/json"}) == 204
    assert await post(controller, url, b"[]") == 409
    run = await controller.get(f"/api/v1/runs/{run_id}")
    assert (run["Status"], run["WaitingURLs"]) == ("RUNNING", [])
    assert await store.get(run["Artifacts"][EDGE]["ObjectName"], 10) == b"{}"


async def test_only_the_whole_address_leads_there(controller: ControllerUnderTest) -> None:
    run_id, url = await a_run(controller)
    _, other = await a_run(controller)
    token, another = url.rpartition("/")[2], other.rpartition("/")[2]
    assert token != another
    wrong = [url[:-1], f"{url}x", url.replace(token, another), url.replace(token, "é"), url.replace(EDGE, "other")]
    wrong.append(url.replace(run_id, "run_none"))
    assert [await post(controller, each, b"x") for each in wrong] == [404] * len(wrong)
    assert (await controller.get(f"/api/v1/runs/{run_id}"))["Status"] == "WAITING"


async def test_a_body_may_keep_its_length_to_itself(controller: ControllerUnderTest, store: Store) -> None:
    async def chunks() -> Any:
        yield b"some"
        yield b"where"

    for data, headers in ((chunks(), {}), (gzip.compress(b"somewhere"), {"Content-Encoding": "gzip"})):
        run_id, url = await a_run(controller)
        assert await post(controller, url, data, headers=headers) == 204
        run = await controller.get(f"/api/v1/runs/{run_id}")
        assert await store.get(run["Artifacts"][EDGE]["ObjectName"], 10) == b"somewhere"


async def test_more_than_the_well_takes_is_refused_and_may_be_posted_again(controller: ControllerUnderTest) -> None:
    async def chunks() -> Any:
        yield bytes(1025)

    _, url = await a_run(controller)
    assert await post(controller, url, bytes(1025)) == 413
    assert await post(controller, url, chunks()) == 413
    assert await post(controller, url, b"") == 204


async def test_a_hook_is_in_no_log_and_no_event(
    controller: ControllerUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        run_id, url = await a_run(controller)
        await post(controller, url, bytes(2000))
        await post(controller, url, b"x")
        await post(controller, url, b"x")
        await controller.post(f"/api/v1/runs/{run_id}/cancel")
        async with controller.http.get(f"{controller.url}/api/v1/runs/{run_id}/events") as response:
            events = await response.text()
    token = url.rpartition("/")[2]
    assert f"{urlsplit(url).path.removesuffix(token)}…" in caplog.text
    assert token not in "\n".join(each.getMessage() for each in caplog.records if each.name.startswith("pupload"))
    assert token not in events
