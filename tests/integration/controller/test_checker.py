"""The checker says nothing of a system that is well, and sees each invariant broken: by a row, an object, a word."""

import asyncio
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import docker
import pytest

from pupload.stores.base import StoreAddress
from pupload.stores.s3 import S3Store
from tests.support.checker import judge
from tests.support.controller import REFERENCE, a_controller
from tests.support.docker_images import ensure_busybox
from tests.support.facts import Facts, Surveyed, read_facts
from tests.support.history import History, Told
from tests.support.processes import Footprint, growth
from tests.support.s3_servers import an_rclone
from tests.support.visitor import Visitor

pytestmark = pytest.mark.integration

WORKER = "checked-worker"
SECRET = "a-secret-that-nobody-may-read"
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that ended well, what its client knows of it, and where all of that lies."""

    server: str
    database: str
    bucket: StoreAddress
    run_id: str
    history: History
    place: Path

    def dsn(self, database: str) -> str:
        """The address of a database beside it."""
        return str(urlunsplit(urlsplit(self.server)._replace(path=f"/{database}")))

    def judged(self, statement: str = "SELECT 1", history: History | None = None) -> list[str]:
        """What is said of a copy in which the statement was executed."""
        return judge(self.facts(statement), history or self.history)

    def facts(self, statement: str = "SELECT 1") -> Facts:
        """The facts of a copy in which the statement was executed; $RUN is the run."""
        return asyncio.run(self._facts(statement.replace("$RUN", f"'{self.run_id}'")))

    async def _facts(self, statement: str) -> Facts:
        copy = f"planted_{next(_numbers)}"
        await _execute(self.server, f"CREATE DATABASE {copy} TEMPLATE {self.database}")
        store, engine = S3Store(self.bucket), docker.from_env().api
        try:
            await _execute(self.dsn(copy), statement)
            return await read_facts(
                Surveyed(
                    dsn=self.dsn(copy),
                    stores={"default": store},
                    workers=[WORKER],
                    engines=[engine],
                    work_dirs=[self.place / "work"],
                    scratch=[self.place / "scratch"],
                    logs=[self.place / "log"],
                    secrets=[SECRET],
                    lease_s=2.0,
                )
            )
        finally:
            engine.close()
            await store.close()
            await _execute(self.server, f"DROP DATABASE {copy} WITH (FORCE)")


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="module")
def ended(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ended]:
    database, place = f"checked_{next(_numbers)}", tmp_path_factory.mktemp("checked")
    with an_rclone() as server:
        bucket = replace(server.new_bucket(), name="default")
        made = Ended(postgres, database, bucket, "", History(), place)
        asyncio.run(_execute(postgres, f"CREATE DATABASE {database}"))
        try:
            yield replace(made, run_id=asyncio.run(_run(made)))
        finally:
            asyncio.run(_execute(postgres, f"DROP DATABASE {database} WITH (FORCE)"))


async def _run(made: Ended) -> str:
    store = S3Store(made.bucket)
    try:
        return await _run_on(store, made)
    finally:
        await store.close()


async def _run_on(store: S3Store, made: Ended) -> str:
    async with a_controller(made.dsn(made.database), store, made.place) as controller:
        worker = await controller.worker()
        run_id = str((await controller.post("/api/v1/flow/test", REFERENCE))["ID"])
        made.history.note_posted("key", run_id)
        async with controller.http.put(f"{controller.url}/api/v1/runs/{run_id}/inputs/input-image", data=b"in") as put:
            assert put.status == 204
        [assignment] = await worker.claim()
        found = await worker.upload_output(assignment, b"resized", "text/plain")
        await worker.finish(assignment.ref, outputs=[found.wire()])
        with Visitor(controller.url) as visitor:
            frames = await asyncio.to_thread(visitor.events, run_id)
        for frame in frames:
            made.history.note_seen(run_id, frame)
    return run_id


def test_nothing_is_said_of_a_system_that_is_well(ended: Ended) -> None:
    assert ended.judged() == []


PLANTS = {
    "UPDATE runs SET finished_at = NULL": "has not ended",
    "UPDATE runs SET deadline = finished_at - interval '2 minutes'": "after its deadline",
    "UPDATE artifacts SET sha256 = repeat('0', 64)": "I2: run .* hashes to",
    "UPDATE artifacts SET key = key || 'x'": "I2: run .* is not in the store",
    "UPDATE attempts SET state = 'lost', reason = 'lost', message = 'so'": "I2: .*one result is accepted",
    "INSERT INTO events SELECT run_id, seq + 100, type, node_id, at, data FROM events WHERE type = 'node_completed'":
        "I2: run .*: 2 results of node resize-1 were accepted",
    "UPDATE attempts SET attempt = 3": "I3: .*attempts have no gap and no repeat",
    "UPDATE run_nodes SET charged = 1": "I3: .*budgets are charged",
    "UPDATE run_nodes SET attempt = 40": "I3: .*was claimed 40 times",
    "DELETE FROM events WHERE type = 'upload_received'": "I4: .*no node started before what it needs",
    """UPDATE runs SET status = 'ERROR'""": "I4: .*header follows from the nodes",
    "UPDATE runs SET condemned_at = now()": "I5: run .* was condemned",
    """UPDATE attempts SET finished_at = now() + interval '1 hour';
       INSERT INTO attempts (run_id, node_id, attempt, state, lease, lease_until, worker_id, instance, tier)
       SELECT run_id, node_id, 2, 'failed', 'other', now(), worker_id, instance, tier FROM attempts""":
        "I6: .*attempts 1 and 2 of resize-1 ran at once",
    "UPDATE attempts SET state = 'failed', reason = 'exit', message = 'so'": "I6: .* was failed, and its object counts",
    "DELETE FROM events WHERE seq = 2": "I7: .*events are numbered without a gap",
    "UPDATE run_nodes SET status = 'ERROR'": "I7: .*stream tells where every node is",
    """UPDATE events SET data = '{"Other": 1}' WHERE seq = 2""": "I7: .*a client heard event 2",
    """INSERT INTO webhooks (id, run_id, seq, type, url) VALUES ('msg_1', $RUN, 1, 'run_started', 'http://x')""":
        "I7: .*webhook msg_1 is still to be told",
    "UPDATE attempts SET state = 'failed', reason = NULL": "I9: .*attempt 1 of resize-1 failed and does not say why",
    "UPDATE runs SET status = 'ERROR', failure = NULL": "I9: run .* failed and does not say why",
    """UPDATE events SET data = '{"URL": "http://s/k?X-Amz-Signature=abc"}' WHERE seq = 2""":
        "I9: run .*: event 2 holds a signed URL",
    f"UPDATE attempts SET message = 'with {SECRET}'": "I9: .*message of attempt 1 of resize-1 holds a secret",
    "UPDATE runs SET ending = 'cancelled'": "I10: .*accepted cancel has won",
}  # fmt: skip


@pytest.mark.parametrize("statement", PLANTS)
def test_a_row_that_should_not_be_so_is_told_of(ended: Ended, statement: str) -> None:
    said = "\n".join(ended.judged(statement))
    assert re.search(PLANTS[statement], said), said


def test_a_run_that_was_acknowledged_and_is_not_there_is_told_of(ended: Ended) -> None:
    history = History()
    history.note_posted("key", "run_gone")
    assert ended.judged(history=history) == ["I1: run run_gone was acknowledged and has vanished"]
    history.note_removed("run_gone")
    assert ended.judged(history=history) == []


def test_what_lies_about_is_told_of(ended: Ended) -> None:
    for folder in ("work/pup-x-1", "scratch"):
        (ended.place / folder).mkdir(parents=True)
    (ended.place / "scratch/.rclone_temp_1").touch()
    try:
        said = "\n".join(ended.judged())
    finally:
        (ended.place / "scratch/.rclone_temp_1").unlink()
        (ended.place / "work/pup-x-1").rmdir()
    assert "I5: work directory" in said
    assert "I5: unfinished object" in said


def test_an_object_that_nothing_names_is_told_of_when_its_time_is_over(ended: Ended) -> None:
    async def put(*keys: str) -> None:
        store = S3Store(ended.bucket)
        try:
            for key in keys:
                await store.put(key, b"stray", "text/plain")
        finally:
            await store.close()

    async def remove(*keys: str) -> None:
        store = S3Store(ended.bucket)
        try:
            await store.delete(keys)
        finally:
            await store.close()

    keys = (f"{ended.run_id}/stray", "run_000/stray", ".sessions/ses_0/a.tar")
    asyncio.run(put(*keys))
    try:
        young, old = ended.judged(), ended.judged("UPDATE runs SET swept_at = now()")
    finally:
        asyncio.run(remove(*keys))
    assert [each.split()[2] for each in young] == list(keys[1:])
    assert {each.split()[2] for each in old} == set(keys)


def test_a_container_that_is_left_is_told_of(ended: Ended) -> None:
    engine = docker.from_env().api
    names = [f"pup-check{next(_numbers)}-node-{attempt}" for attempt in (1, 2)]
    names[1] = names[0].removesuffix("1") + "2"
    made = [
        engine.create_container(ensure_busybox(), name=name, labels={"pupload.worker": WORKER})["Id"] for name in names
    ]
    try:
        said = ended.judged()
    finally:
        for container in made:
            engine.remove_container(container, force=True)
        engine.close()
    assert [f"I5: container {name} is left" in said for name in names] == [True, True]
    assert any(each.startswith("I6: 2 containers of") for each in said)


def test_a_webhook_that_tells_what_was_not_is_told_of(ended: Ended) -> None:
    told = [
        Told("msg_1", {"RunID": ended.run_id, "Seq": 1, "Type": "run_failed", "Data": {}}),
        Told("msg_2", {"RunID": ended.run_id, "Seq": 1, "Type": "run_failed", "Data": {}}),
    ]
    said = "\n".join(ended.judged(history=replace(ended.history, told=told)))
    assert "a webhook told of event 1 run_failed, which is not in the table" in said
    assert "webhook msg_1 was told, and no row knows of it" in said
    assert "event 1 was told under 2 ids" in said


def test_a_transaction_that_does_nothing_is_told_of(ended: Ended) -> None:
    async def idle() -> list[str]:
        connection = await asyncpg.connect(ended.dsn(ended.database))
        try:
            await connection.execute("BEGIN; SELECT 'held'")
            async with asyncio.timeout(30):
                while True:
                    found = await read_facts(Surveyed(dsn=ended.dsn(ended.database), stores={}))
                    if said := [each for each in judge(found, ended.history) if each.startswith("I8")]:
                        return said
                    await asyncio.sleep(0.5)
        finally:
            await connection.close()

    assert asyncio.run(idle()) == ["I8: a transaction is idle for over 5 s after: BEGIN; SELECT 'held'"]


def test_a_process_that_has_grown_is_told_of() -> None:
    before = {1: Footprint(descriptors=100, threads=10, memory_kb=100_000)}
    assert list(growth(before, {1: Footprint(115, 20, 130_000)})) == []
    grown = {1: Footprint(descriptors=130, threads=40, memory_kb=180_000)}
    assert [each.split()[4] for each in growth(before, grown)] == ["descriptors,", "threads,", "memory_kb,"]


def test_a_secret_in_a_log_is_told_of(ended: Ended) -> None:
    (ended.place / "log").write_text(f"GET http://s/k?X-Amz-Signature=1 by {SECRET}")
    try:
        said = ended.judged()
    finally:
        (ended.place / "log").unlink()
    assert [each.partition(" log ")[2].partition(" ")[2] for each in said] == ["holds a signed URL", "holds a secret"]


def test_a_key_with_two_runs_and_a_cancel_that_lost_after_all_are_told_of(ended: Ended) -> None:
    history = replace(ended.history, posted={"key": [ended.run_id, "run_2"]}, removed={"run_2"})
    assert [each.split(":")[0] for each in ended.judged(history=history)] == ["I10"]
    history = replace(ended.history, cancelled={ended.run_id: "RUNNING"})
    assert ended.judged(history=history) == [
        f"I10: run {ended.run_id} was cancelled while RUNNING, and completed later"
    ]
