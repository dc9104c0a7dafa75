"""The list of runs, and runs that are deleted."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.shell_steps import a_request, a_source
from tests.support.system import System
from tests.support.visitor import Json, Visitor

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]


def pages(visitor: Visitor, query: str) -> list[list[Json]]:
    """The runs of each page, following the cursor."""
    found, cursor = [], ""
    while True:
        page = visitor.get(f"/api/v1/runs?{query}{cursor}")
        found.append(page["Runs"])
        if not page["NextCursor"]:
            return found
        cursor = f"&cursor={page['NextCursor']}"


def test_the_cursor_gives_each_run_once_newest_first(visitor: Visitor) -> None:
    ids = [visitor.submit(a_request(Name="paged"))["ID"] for _ in range(7)]
    found = pages(visitor, "flow=paged&limit=3")
    assert [len(page) for page in found] == [3, 3, 1]
    assert [run["ID"] for page in found for run in page] == ids[::-1] == sorted(ids)[::-1]


def test_runs_made_while_paging_do_not_shift_the_pages(visitor: Visitor) -> None:
    ids = [visitor.submit(a_request(Name="shifting"))["ID"] for _ in range(3)]
    first = visitor.get("/api/v1/runs?flow=shifting&limit=2")
    ids.append(visitor.submit(a_request(Name="shifting"))["ID"])
    second = visitor.get(f"/api/v1/runs?flow=shifting&limit=2&cursor={first['NextCursor']}")
    assert [run["ID"] for run in first["Runs"] + second["Runs"]] == ids[2::-1]


def test_the_list_is_filtered_by_flow_and_status(visitor: Visitor) -> None:
    done = visitor.complete(a_request(a_source("ok", "true", writes={}), Name="listed"))
    failed = visitor.fail(a_request(a_source("bad", "exit 1", writes={}, MaxAttempts=1), Name="listed"))
    waiting = visitor.submit(a_request(Name="listed"))
    expected = {"COMPLETE": [done], "ERROR": [failed], "WAITING": [waiting], "RUNNING": [], "STOPPED": []}
    for status, runs in expected.items():
        found = visitor.get(f"/api/v1/runs?flow=listed&status={status}")["Runs"]
        assert [run["ID"] for run in found] == [run["ID"] for run in runs]
    both = visitor.get("/api/v1/runs?flow=listed&status=COMPLETE,ERROR")["Runs"]
    assert [run["ID"] for run in both] == [failed["ID"], done["ID"]]
    assert both[0]["Error"]["Code"] == "NODE_EXIT"


def test_many_runs_at_once_all_end(visitor: Visitor) -> None:
    def made(number: int) -> str:
        with Visitor(visitor.url) as other:
            return other.start(a_request(Name="crowd"), **{"in": str(number).encode()})

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(made, range(24)))
    for number, run_id in enumerate(ids):
        assert visitor.ended(run_id)["Status"] == "COMPLETE"
        assert visitor.artifact(run_id, "out") == str(number).encode()


def test_a_deleted_run_is_gone_with_its_objects(visitor: Visitor, system: System) -> None:
    run = visitor.complete(a_request(), **{"in": b"abc"})
    location = visitor.ask("GET", f"/api/v1/runs/{run['ID']}/artifacts/out", status=302).headers["Location"]
    assert visitor.ask("GET", location).content == b"abc"
    assert objects_of(system, run["ID"]) != []
    visitor.ask("DELETE", f"/api/v1/runs/{run['ID']}", status=204)
    visitor.ask("GET", location, status=404)
    assert objects_of(system, run["ID"]) == []
    visitor.get(f"/api/v1/runs/{run['ID']}", status=404)
    assert run["ID"] not in [each["ID"] for page in pages(visitor, "limit=500") for each in page]
    visitor.ask("DELETE", f"/api/v1/runs/{run['ID']}", status=404)


def objects_of(system: System, run_id: str) -> list[str]:
    """Names of files in the embedded store that were made for the run."""
    files = (path for path in (system.data / "store").rglob("*") if path.is_file())
    return [str(path) for path in files if run_id in str(path)]


def test_a_run_that_has_not_ended_is_not_deleted(visitor: Visitor) -> None:
    run_id = visitor.submit(a_request())["ID"]
    answer = visitor.ask("DELETE", f"/api/v1/runs/{run_id}", status=409)
    assert answer.json()["Error"]["Code"] == "RUN_NOT_ENDED"
    assert visitor.cancel(run_id)["Status"] == "STOPPED"


def test_the_server_says_how_it_is_and_what_it_offers(visitor: Visitor) -> None:
    assert visitor.get("/healthz")["Status"] == "ok"
    assert visitor.get("/readyz")["Status"] == "ready"
    tiers = {tier["Name"]: tier for tier in visitor.get("/api/v1/tiers")["Tiers"]}
    assert len(tiers) == 40
    assert (tiers["c-nano"]["Cpu"], tiers["c-nano"]["MemoryBytes"]) == (1, 512 * 1024**2)
    assert tiers["tiny"]["MemoryBytes"] == 32 * 1024**2
    [worker] = visitor.get("/api/v1/workers")["Workers"]
    assert worker["Live"]
    assert worker["Capacity"]["MemoryBytes"] > 0
