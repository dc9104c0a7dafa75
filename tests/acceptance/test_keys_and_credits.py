"""A system whose operator has made keys and set prices."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import SETTINGS, a_running_system
from tests.support.shell_steps import a_request, a_source
from tests.support.system import System
from tests.support.visitor import Json, Visitor, told

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

PRICES = {"PUPLOAD_PRICES": json.dumps({"tiny": 1, "c-nano": 0.5})}


@pytest.fixture(scope="module")
def priced_system(busybox: str) -> Iterator[System]:
    """A running system with prices."""
    with a_running_system(SETTINGS | PRICES) as system:
        yield system


def pup(data: Path, *arguments: str) -> str:
    """What the operator's command prints."""
    command = [sys.executable, "-m", "pupload.cli.main", *arguments, "--data", str(data)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def account_of(data: Path, name: str) -> str:
    """The account of the key of this name, as the operator reads it."""
    return next(line.split()[1] for line in pup(data, "key", "list").splitlines() if line.split()[0] == name)


@pytest.fixture
def payer(priced_system: System, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    """Somebody with a key, made the usual way; its name is the test's."""
    with Visitor(priced_system.url) as visitor:
        visitor.http.headers["Authorization"] = (
            f"Bearer {pup(priced_system.data, 'key', 'create', request.node.name).strip()}"
        )
        yield visitor


def credit(system: System, request: pytest.FixtureRequest, amount: str) -> None:
    """The operator gives the test's key that much."""
    pup(system.data, "account", "credit", account_of(system.data, request.node.name), amount)


def test_with_a_key_set_all_who_have_none_stay_outside(priced_system: System, payer: Visitor) -> None:
    with Visitor(priced_system.url) as stranger:
        for path in ("/api/v1/runs", "/api/v1/flow/status/x", "/api/v1/workers"):
            assert stranger.get(path, status=401)
        stranger.submit(a_request(), status=401)
        stranger.http.headers["X-API-Key"] = "pup_0_0"
        stranger.submit(a_request(), status=401)
    assert payer.get("/api/v1/runs")["Runs"] == []


def test_a_key_sees_what_is_its_own_and_does_what_it_was_made_for(priced_system: System, payer: Visitor) -> None:
    run = payer.submit(a_request())["ID"]
    account = payer.get("/api/v1/account")["ID"]
    with Visitor(priced_system.url) as other:
        other.http.headers["X-API-Key"] = pup(priced_system.data, "key", "create", "other").strip()
        assert other.get(f"/api/v1/runs/{run}", status=404)["Error"]["Code"] == "RUN_NOT_FOUND"
        looking = ("key", "create", "reader", "--scope", "run:read", "--account", account)
        other.http.headers["X-API-Key"] = pup(priced_system.data, *looking).strip()
        assert other.get(f"/api/v1/runs/{run}")["ID"] == run
        assert other.post("/api/v1/runs", a_request(), status=403)["Error"]["Code"] == "SCOPE_MISSING"


def test_a_signed_url_needs_no_key(priced_system: System, payer: Visitor) -> None:
    run = payer.submit(a_request())
    with Visitor(priced_system.url) as stranger:
        stranger.upload(run, "in", b"abc")
    assert payer.ended(run["ID"])["Status"] == "COMPLETE"


def test_without_credits_nothing_begins(priced_system: System, payer: Visitor, request: pytest.FixtureRequest) -> None:
    credit(priced_system, request, "0")
    refused = payer.submit(a_request(), status=402)
    assert refused["error"]["Code"] == "INSUFFICIENT_CREDITS"
    assert payer.get("/api/v1/runs", params={"flow": "nobody"})["Runs"] == []


def test_a_run_that_outlives_its_credits_is_ended_and_its_container_gone(
    priced_system: System, payer: Visitor, request: pytest.FixtureRequest
) -> None:
    credit(priced_system, request, "2")
    run_id = payer.submit(a_request(a_source("long", "sleep 60", Tier="tiny")))["ID"]
    run: Json = payer.ended(run_id)
    assert (run["Status"], run["StatusReason"], run["Error"]["Code"]) == ("ERROR", "quota", "CREDITS_EXHAUSTED"), told(
        run
    )
    assert -30 < payer.get("/api/v1/account")["Balance"] <= 0
    assert priced_system.leftovers() == []


def test_a_run_may_cost_no_more_than_its_request_allows(
    priced_system: System, payer: Visitor, request: pytest.FixtureRequest
) -> None:
    credit(priced_system, request, "1000")
    wish = {**a_request(a_source("long", "sleep 60", Tier="tiny")), "Budget": 1}
    run = payer.ended(payer.post("/api/v1/runs", wish, status=202)["ID"])
    assert (run["Status"], run["StatusReason"], run["Error"]["Code"]) == ("ERROR", "quota", "BUDGET_EXHAUSTED"), told(
        run
    )
    assert payer.get("/api/v1/account")["Balance"] > 900
