"""The disk of the embedded store is full: it says so, and what waits goes on once there is room."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import EVERYWHERE
from tests.support.docker_images import ensure_busybox
from tests.support.recorded import assert_recorded_once
from tests.support.shell_steps import a_request, a_step
from tests.support.small_disk import SmallDisk, a_small_disk, only_root_mounts
from tests.support.system import System, a_system
from tests.support.visitor import Visitor, put_url, told

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180), only_root_mounts]

SLOW_COPY = 'echo begun; sleep 1; cat "$INPUT_IN" > "$OUTPUT_OUT"'


@pytest.fixture
def disk(place: Path) -> Iterator[SmallDisk]:
    (place / "data").mkdir()
    with a_small_disk(place / "data" / "store", "size=8m") as disk:
        yield disk


@pytest.fixture
def cramped(place: Path, disk: SmallDisk) -> Iterator[System]:
    """A system whose store is on the small disk."""
    ensure_busybox()
    with a_system(place / "data", EVERYWHERE) as system:
        yield system
        disk.empty()


def test_a_store_without_room_says_so_and_what_waits_goes_on_when_there_is_some(
    cramped: System, disk: SmallDisk
) -> None:
    with Visitor(cramped.url) as visitor:
        run_id = visitor.start(a_request(a_step("slow", SLOW_COPY, MaxAttempts=1)), **{"in": b"abc"})
        late = visitor.submit(a_request())
        visitor.until(run_id, lambda run: bool(run["NodeState"]["slow"]["Logs"]))
        disk.fill()
        # The client is refused, and the output is tried again and again.
        visitor.ask("PUT", put_url(late, "in"), data=b"abc", status=500)
        error = visitor.get("/readyz", status=503)["Error"]
        assert error["Code"] == "STORE_UNAVAILABLE"
        assert f"no room is left at {disk.place}" in error["Message"]
        refused = visitor.ask("PUT", f"/api/v1/runs/{late['ID']}/inputs/in", data=b"abc", status=503).json()["Error"]
        assert f"no room is left at {disk.place}" in refused["Message"]
        visitor.eventually(lambda: "tried again: the store answered 500" in cramped.log)
        disk.empty()
        visitor.upload(late, "in", b"abc")
        for run in (visitor.ended(run_id), visitor.ended(late["ID"])):
            assert run["Status"] == "COMPLETE", told(run)
            assert visitor.artifact(run["ID"], "out") == b"abc"
            assert {state["Attempt"] for state in run["NodeState"].values()} == {1}
            assert_recorded_once(visitor, run, given="in")
        assert visitor.get("/readyz")["Status"] == "ready"
