"""Two live attempts of one node: the first worker was frozen past its lease, the second has the node now.

Whatever the first one says, and whenever it thaws, one result is recorded, and it is the second's.
"""

import base64
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pupload.protocol import Assignment, AttemptRef
from pupload.stores.base import Store
from pupload.stores.embedded import EmbeddedStore
from tests.support.controller import REFERENCE, ControllerUnderTest, HandWorker, a_controller
from tests.support.rows import RESTING, RunRows, fetch_rows

pytestmark = pytest.mark.integration

_LATE, _TRUE = b"of the frozen one", b"of the living one"
_KEPT = REFERENCE | {
    "Flow": REFERENCE["Flow"] | {"DataWells": [{"Edge": "output-image", "Key": "kept/result.txt"}]},
    "NodeDefs": [REFERENCE["NodeDefs"][0] | {"Retry": {"Delay": "10ms"}}],
}


@dataclass
class Duel:
    """A node, the attempt that was lost with its frozen worker, and the worker that gets the next one."""

    controller: ControllerUnderTest
    frozen: HandWorker
    old: Assignment
    put: dict[str, Any]
    """The URL that the frozen worker was given in time; it is good for longer than the lease."""
    living: HandWorker

    @property
    def run_id(self) -> str:
        return self.old.ref.run_id

    async def put_late(self) -> None:
        async with self.controller.http.put(self.put["URL"], data=_LATE, headers=self.put["Headers"]) as response:
            assert response.status == 200

    async def lease_ends_in(self, span: str) -> None:
        """By the database's clock, the only one that counts."""
        async with self.controller.running.parts.service.database.connection() as connection:
            await connection.execute(f"UPDATE attempts SET lease_until = now() + interval '{span}' WHERE attempt = 1")

    async def rows(self) -> RunRows:
        async with self.controller.running.parts.service.database.connection() as connection:
            return await fetch_rows(connection, self.run_id)


@pytest.fixture
async def controller(database_dsn: str, store: Store, tmp_path: Path) -> AsyncIterator[ControllerUnderTest]:
    """One with the leases of every day; a test says when one is over, so that no slow machine ends another."""
    async with a_controller(database_dsn, store, tmp_path) as running:
        yield running


@pytest.fixture
async def begun(controller: ControllerUnderTest) -> Duel:
    """The first worker has the node."""
    frozen = await a_worker(controller, "frozen")
    run = await controller.post("/api/v1/flow/test", _KEPT)
    async with controller.http.put(run["WaitingURLs"][0]["PutURL"], data=b"abc") as response:
        assert response.status == 200
    (old,) = await frozen.claim(wait_s=10)
    put = (await frozen.call("sign", {"Ref": old.ref.wire(), "Puts": [a_wish(old, _LATE)]}))["Puts"][0]
    return Duel(controller, frozen, old, put, await a_worker(controller, "living"))


@pytest.fixture
async def duel(begun: Duel) -> Duel:
    """The first worker was frozen for longer than its lease; nobody has the next attempt yet."""
    await begun.lease_ends_in("-1 second")
    return begun


async def a_worker(controller: ControllerUnderTest, name: str) -> HandWorker:
    worker = HandWorker(controller.http, controller.url, await controller.running.add_worker(name), instance=name)
    await worker.hello()
    return worker


def a_wish(assignment: Assignment, content: bytes) -> dict[str, Any]:
    md5 = base64.b64encode(hashlib.md5(content).digest()).decode()
    return {
        "Edge": assignment.outputs[0].edge,
        "SizeBytes": len(content),
        "MD5": md5,
        "ContentType": "text/plain",
    }


async def everything_is_refused(duel: Duel, ref: AttemptRef) -> None:
    """What a worker can say of an attempt, said of one that is not its own any more; and a PUT, not refused."""
    worker, told = duel.frozen, ref.wire()
    assert [lost["Lease"] for lost in (await worker.beat([ref]))["Lost"]] == [ref.lease]
    await worker.call("sign", {"Ref": told, "Gets": ["input-image"]}, expect=409)
    await worker.call("sign", {"Ref": told, "Puts": [a_wish(duel.old, _LATE)]}, expect=409)
    line = {"At": "2026-01-01T00:00:00Z", "Stream": "stdout", "Text": "late"}
    for first in (None, 0, 7):
        await worker.call("logs", {"Ref": told, "First": first, "Lines": [line], "Progress": 99}, expect=409)
    await duel.put_late()
    output = {
        "Edge": duel.old.outputs[0].edge,
        "Key": duel.put["Key"],
        "SizeBytes": len(_LATE),
        "SHA256": hashlib.sha256(_LATE).hexdigest(),
        "ContentType": "text/plain",
    }
    for outcome in ("succeeded", "failed", "released", "asked"):
        end = {"Ref": told, "Outcome": outcome, "Outputs": [output], "Lines": [line], "ToolCalls": "[]"}
        for first in (None, 0):
            refused = await worker.call("finish", end | {"FirstLine": first}, expect=409)
            assert refused["Error"]["Code"] == "LOST_LEASE"


async def the_living_one_succeeds(duel: Duel, meanwhile: Callable[[], Awaitable[None]]) -> None:
    (new,) = await duel.living.claim(wait_s=20)
    assert (new.ref.run_id, new.ref.attempt) == (duel.run_id, 2)
    found = await duel.living.upload_output(new, _TRUE, "text/plain")
    await meanwhile()
    await duel.living.beat([new.ref])
    await duel.living.finish(new.ref, outputs=[found])


async def nothing() -> None:
    """What happens meanwhile, where nothing does."""


async def one_story_is_told(duel: Duel) -> None:
    """The living one's result, in the rows, in the events, and in the store."""
    rows = await duel.rows()
    for holds in RESTING:
        holds(rows)
    told = [
        (event["type"], attempt)
        for event, record in zip(rows.events, rows.records, strict=True)
        if (attempt := record.data.get("Attempt")) is not None and event["type"] not in {"node_queued", "node_output"}
    ]
    assert told == [("node_started", 1), ("node_retrying", 1), ("node_started", 2), ("node_completed", 2)], told
    assert [(attempt["attempt"], attempt["state"]) for attempt in rows.attempts] == [(1, "lost"), (2, "succeeded")]
    run = await duel.controller.get(f"/api/v1/runs/{duel.run_id}")
    artifact = run["Artifacts"]["output-image"]
    assert (run["Status"], artifact["ObjectName"]) == ("COMPLETE", "kept/result.txt")
    assert artifact["SHA256"] == hashlib.sha256(_TRUE).hexdigest()
    assert await content(duel, "output-image") == _TRUE


async def content(duel: Duel, edge: str) -> bytes:
    path = f"{duel.controller.url}/api/v1/runs/{duel.run_id}/artifacts/{edge}"
    async with duel.controller.http.get(path) as response:
        assert response.status == 200
        return await response.read()


async def test_one_that_thaws_while_its_successor_runs_changes_nothing(duel: Duel) -> None:
    await the_living_one_succeeds(duel, lambda: everything_is_refused(duel, duel.old.ref))
    await one_story_is_told(duel)


async def test_one_that_thaws_after_the_end_changes_nothing(duel: Duel) -> None:
    await the_living_one_succeeds(duel, nothing)
    before = await duel.rows()
    await everything_is_refused(duel, duel.old.ref)
    assert await duel.rows() == before
    await one_story_is_told(duel)


async def test_one_cannot_speak_for_its_successor(duel: Duel) -> None:
    """Neither with its own token under the new number, nor with a token that it made up."""
    (new,) = await duel.living.claim(wait_s=20)
    for lease in (duel.old.ref.lease, "0" * 32, ""):
        await everything_is_refused(duel, new.ref.model_copy(update={"lease": lease}))
    found = await duel.living.upload_output(new, _TRUE, "text/plain")
    await duel.living.finish(new.ref, outputs=[found])
    await one_story_is_told(duel)


async def test_a_beat_that_comes_in_time_keeps_the_node(begun: Duel) -> None:
    """The other side of the fence: who beats is believed, and nobody else gets the node."""
    await begun.lease_ends_in("10 seconds")
    assert (await begun.frozen.beat([begun.old.ref]))["Lost"] == []
    async with begun.controller.running.parts.service.database.connection() as connection:
        assert await connection.fetchval("SELECT lease_until > now() + interval '15 seconds' FROM attempts")
    assert await begun.living.claim(wait_s=0.5) == []
    await begun.put_late()
    found = await begun.frozen.upload_output(begun.old, _TRUE, "text/plain")
    await begun.frozen.finish(begun.old.ref, outputs=[found])
    run = await begun.controller.get(f"/api/v1/runs/{begun.run_id}")
    assert (run["Status"], run["NodeState"]["resize-1"]["Attempt"]) == ("COMPLETE", 1)


async def test_what_the_loser_stored_is_collected(duel: Duel, store: EmbeddedStore) -> None:
    await duel.put_late()
    await the_living_one_succeeds(duel, nothing)
    assert duel.put["Key"] in await keys(store)
    await age(duel, "2 hours")
    while duel.put["Key"] in await keys(store):
        await duel.living.claim(wait_s=0.1)
    assert "kept/result.txt" in await keys(store)
    assert await content(duel, "output-image") == _TRUE


async def keys(store: Store) -> set[str]:
    return {head.key async for head in store.list("")}


async def age(duel: Duel, span: str) -> None:
    """Let the end of the run be so long ago."""
    async with duel.controller.running.parts.service.database.connection() as connection:
        await connection.execute(
            f"UPDATE runs SET finished_at = finished_at - interval '{span}' WHERE id = $1", duel.run_id
        )


async def test_a_worker_that_starts_anew_cannot_speak_for_what_it_held(duel: Duel) -> None:
    """At once, without waiting for the lease: its new instance says that the old one is gone."""
    await replace(duel.frozen, instance="anew").hello()
    await duel.frozen.call("beat", {"Instance": "frozen", "Attempts": [], "Free": duel.frozen.capacity()}, expect=409)
    await the_living_one_succeeds(duel, nothing)
    await duel.frozen.finish(duel.old.ref, outcome="failed", reason="exit", expect=409)
    await one_story_is_told(duel)
