"""Outgrown `pup dev`: controllers and workers apart, on a PostgreSQL and an S3 server that are not ours."""

import signal
from collections.abc import Iterator

import pytest

from tests.acceptance.conftest import a_place
from tests.support.docker_images import ensure_busybox
from tests.support.fleet import Fleet, a_fleet
from tests.support.postgres import a_postgres
from tests.support.s3_servers import a_moto
from tests.support.shell_steps import a_chain, a_fan, a_request, a_source, a_step
from tests.support.visitor import Visitor, put_url, statuses

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]

SETTINGS = {
    "PUPLOAD_RECONCILE_S": "0.5",
    "PUPLOAD_BEAT_S": "0.5",
    "PUPLOAD_FENCE_S": "2",
    "PUPLOAD_LEASE_S": "3",
    # Room for one node of the smallest tier at a time.
    "PUPLOAD_CPU": "1",
    "PUPLOAD_CPU_OVERCOMMIT": "1",
    "PUPLOAD_MEMORY": "1gb",
    "PUPLOAD_DISK": "100gb",
}


@pytest.fixture(scope="module")
def the_fleet() -> Iterator[Fleet]:
    """Two controllers with a worker each."""
    ensure_busybox()
    with a_postgres() as dsn, a_moto() as moto, a_place() as place:
        public = moto.endpoint.replace("127.0.0.1", "localhost")
        with a_fleet(place, dsn, moto.new_bucket(), public, SETTINGS) as fleet:
            urls = [fleet.add_controller(name) for name in ("one", "two")]
            for url in urls:
                await_controller(url)
            fleet.add_worker("left", "one")
            fleet.add_worker("right", "two")
            with Visitor(fleet.urls["one"]) as visitor:
                visitor.await_workers(2)
            yield fleet


def await_controller(url: str) -> None:
    """Returns when it is ready."""
    with Visitor(url) as visitor:
        visitor.eventually(lambda: is_ready(visitor))


def is_ready(visitor: Visitor) -> bool:
    try:
        return visitor.http.get(f"{visitor.url}/readyz", timeout=5).ok
    except OSError:
        return False


@pytest.fixture
def fleet(the_fleet: Fleet) -> Iterator[Fleet]:
    """The fleet; after the test no attempt may have left anything."""
    yield the_fleet
    assert the_fleet.leftovers() == []


@pytest.fixture
def one(fleet: Fleet) -> Iterator[Visitor]:
    """Somebody who talks to the first controller."""
    with Visitor(fleet.urls["one"]) as visitor:
        yield visitor
        visitor.tidy()


@pytest.fixture
def two(fleet: Fleet) -> Iterator[Visitor]:
    """Somebody who talks to the second controller."""
    with Visitor(fleet.urls["two"]) as visitor:
        yield visitor


def test_a_file_goes_through_on_another_s3_server(one: Visitor, fleet: Fleet) -> None:
    run = one.submit(a_request())
    assert put_url(run, "in").startswith(f"http://{fleet.public_endpoint}/{fleet.store.bucket}/")
    one.upload(run, "in", b"abc")
    run = one.ended(run["ID"])
    assert (run["Status"], run["Artifacts"]["out"]["Size"]) == ("COMPLETE", 3)
    assert one.artifact(run["ID"], "out") == b"abc"


def test_shapes_keys_and_retries_work_on_another_s3_server(one: Visitor) -> None:
    late = a_step(script='[ "$PUP_ATTEMPT" -ge 2 ] || exit 1; cat "$INPUT_IN" > "$OUTPUT_OUT"', Retry={"Delay": "10ms"})
    kept = a_request(late, DataWells=[{"Edge": "out", "Key": "kept/$RUN_ID.txt"}])
    chain, fan, again = (
        one.start(a_chain(3), e0=b"abc"),
        one.start(a_fan(4), **{"in": b"x"}),
        one.start(kept, **{"in": b"y"}),
    )
    assert {one.ended(run_id)["Status"] for run_id in (chain, fan, again)} == {"COMPLETE"}
    assert one.artifact(chain, "e3") == b"abc"
    assert one.artifact(fan, "out") == b"x0\nx1\nx2\nx3\n"
    assert one.artifact(again, "out") == b"y"
    assert one.run(again)["Artifacts"]["out"]["ObjectName"] == f"kept/{again}.txt"


def test_a_deleted_run_leaves_no_object_on_another_s3_server(one: Visitor) -> None:
    run = one.complete(a_request(), **{"in": b"abc"})
    location = one.ask("GET", f"/api/v1/runs/{run['ID']}/artifacts/out", status=302).headers["Location"]
    assert one.ask("GET", location).content == b"abc"
    one.ask("DELETE", f"/api/v1/runs/{run['ID']}", status=204)
    # 404 by the book; moto says 403.
    assert one.http.get(location, timeout=30).status_code in {403, 404}


def test_workers_share_the_nodes_of_a_run(one: Visitor, fleet: Fleet) -> None:
    run_id = one.start(a_request(*(a_source(name, "sleep 60", writes={}) for name in ("a", "b", "c"))))
    full = one.until(run_id, lambda run: list(statuses(run).values()).count("RUNNING") == 2)
    busy = {state["Worker"] for state in full["NodeState"].values() if state["Status"] == "RUNNING"}
    assert busy == {fleet.mark("left"), fleet.mark("right")}
    one.cancel(run_id)
    assert one.ended(run_id)["Status"] == "STOPPED"


def test_controllers_tell_and_do_the_same(one: Visitor, two: Visitor) -> None:
    run = one.submit(a_request())
    assert two.status(run["ID"])["Status"] == "WAITING"
    with two.stream(run["ID"]) as frames:
        first = next(frames)
        two.ask("PUT", f"/api/v1/runs/{run['ID']}/inputs/in", status=204, data=b"abc")
        live = [first, *frames]
    assert live == one.events(run["ID"])
    assert one.run(run["ID"]) == two.run(run["ID"])


def test_the_work_of_a_dead_worker_is_done_by_another_and_charged_to_nobody(one: Visitor, fleet: Fleet) -> None:
    script = '[ "$PUP_ATTEMPT" = 2 ] || sleep 60; echo "$PUP_ATTEMPT" > "$OUTPUT_OUT"'
    run_id = one.start(a_request(a_source("long", script, MaxAttempts=1)))
    run = one.until(run_id, lambda run: bool(run["NodeState"]["long"]["Worker"]))
    name = run["NodeState"]["long"]["Worker"].rpartition("-")[2]
    fleet.parts[name].kill()
    run = one.ended(run_id)
    assert (run["Status"], run["NodeState"]["long"]["Attempt"]) == ("COMPLETE", 2)
    assert run["NodeState"]["long"]["Worker"] != fleet.mark(name)
    [retry] = [frame for frame in one.events(run_id) if frame.event == "node_retrying"]
    assert retry.data["Data"]["Reason"] == "lost"
    # It removes what it left when it comes back.
    fleet.parts[name].start()
    one.await_workers(2)


def test_a_frozen_worker_s_late_result_is_not_taken(one: Visitor, fleet: Fleet) -> None:
    run_id = one.start(a_request(a_source("slow", 'sleep 1; echo "$PUP_ATTEMPT" > "$OUTPUT_OUT"', MaxAttempts=1)))
    run = one.until(run_id, lambda run: bool(run["NodeState"]["slow"]["Worker"]))
    frozen = fleet.parts[run["NodeState"]["slow"]["Worker"].rpartition("-")[2]]
    frozen.signal(signal.SIGSTOP)
    try:
        run = one.ended(run_id)
    finally:
        frozen.signal(signal.SIGCONT)
    assert (run["Status"], run["NodeState"]["slow"]["Attempt"]) == ("COMPLETE", 2)
    assert one.artifact(run_id, "out") == b"2\n"
    one.await_workers(2)
    assert fleet.leftovers() == []
    assert one.run(run_id) == run
    completed = [frame.data["Data"]["Attempt"] for frame in one.events(run_id) if frame.event == "node_completed"]
    assert completed == [2]


def test_a_worker_that_is_asked_to_stop_ends_what_it_runs(one: Visitor, fleet: Fleet) -> None:
    run_id = one.start(a_request(a_source("short", 'sleep 2; echo done > "$OUTPUT_OUT"')))
    run = one.until(run_id, lambda run: bool(run["NodeState"]["short"]["Worker"]))
    leaving = fleet.parts[run["NodeState"]["short"]["Worker"].rpartition("-")[2]]
    leaving.signal(signal.SIGTERM)
    assert leaving.wait() == 0
    run = one.ended(run_id)
    assert (run["Status"], run["NodeState"]["short"]["Attempt"]) == ("COMPLETE", 1)
    leaving.start()
    one.await_workers(2)


def test_a_dead_controller_s_runs_go_on_with_another_and_with_itself(one: Visitor, two: Visitor, fleet: Fleet) -> None:
    run_id = one.start(a_request(*(a_source(f"n{i}", f'sleep 1; echo {i} > "$OUTPUT_OUT"', writes={"out": f"e{i}"})
                                   for i in range(4))))  # fmt: skip
    one.until(run_id, lambda run: "RUNNING" in statuses(run).values())
    fleet.parts["one"].kill()
    assert two.ended(run_id)["Status"] == "COMPLETE"
    fleet.parts["one"].start()
    await_controller(one.url)
    run = one.complete(a_request(), **{"in": b"abc"})
    assert one.artifact(run["ID"], "out") == b"abc"
    one.await_workers(2)


def test_no_secret_is_ever_said(one: Visitor, fleet: Fleet) -> None:
    run = one.complete(a_request(), **{"in": b"abc"})
    tokens = [part.environment.get("PUPLOAD_WORKER_TOKEN", "") for part in fleet.parts.values()]
    told = "".join([fleet.log, repr(run), repr(one.events(run["ID"])), repr(one.get("/api/v1/workers"))])
    for secret in filter(None, [fleet.store.secret_key, *tokens]):
        assert secret not in told
    assert "X-Amz-Signature" not in fleet.log
