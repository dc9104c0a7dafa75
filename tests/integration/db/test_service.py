"""The one transaction on a real PostgreSQL."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from pupload.controller.service import Service
from pupload.db.creation import NewRun, NewUpload
from pupload.db.pool import open_database
from pupload.db.sql import SQL
from pupload.errors import Conflict, NotFound
from pupload.flow.plan import Binding, Edge, EdgePlan, NodeID, NodePlan, Plan, Source
from pupload.queue import take
from pupload.run.events import NodeClaimed, NodeSucceeded
from pupload.run.state import Artifact, NodeStatus, RunID, RunStatus, status_of
from pupload.tiers import Tier

pytestmark = pytest.mark.integration

TIER = Tier("c-nano", 1, 512 * 1024**2, 10 * 1024**3)


def a_chain() -> Plan:
    """upload → a → b → out."""
    nodes = [
        NodePlan(
            NodeID("a"),
            0,
            "t/copy",
            "i",
            TIER,
            inputs=(Binding("x", Edge("in")),),
            outputs=(Binding("y", Edge("mid")),),
        ),
        NodePlan(
            NodeID("b"),
            1,
            "t/copy",
            "i",
            TIER,
            inputs=(Binding("x", Edge("mid")),),
            outputs=(Binding("y", Edge("out")),),
        ),
    ]
    edges = [
        EdgePlan(Edge("in"), source=Source.UPLOAD, consumers=(NodeID("a"),)),
        EdgePlan(Edge("mid"), producer=NodeID("a"), consumers=(NodeID("b"),)),
        EdgePlan(Edge("out"), producer=NodeID("b")),
    ]
    return Plan("chain", {node.id: node for node in nodes}, {edge.name: edge for edge in edges}, digest="d")


def a_new_run(run_id: str, **changes: object) -> NewRun:
    upload = NewUpload(Edge("in"), "default", f"{run_id}/in/0", 1000)
    return NewRun(RunID(run_id), a_chain(), timedelta(hours=1), [upload], {}, **changes)  # type: ignore[arg-type]


def an_artifact(edge: str, **changes: object) -> Artifact:
    return Artifact(Edge(edge), "default", f"k/{edge}", 3, **changes)  # type: ignore[arg-type]


@pytest.fixture
async def service(database_dsn: str) -> AsyncIterator[Service]:
    database = await open_database(database_dsn, 4)
    yield Service(database)
    await database.close()


async def claim(service: Service) -> tuple[str, int] | None:
    taken = await service.database.transact(lambda connection: take(connection, "c-nano", 1))
    if not taken:
        return None
    (queued,) = taken
    node = NodeID(queued.node_id)
    await service.apply(RunID(queued.run_id), lambda at: NodeClaimed(at, node, queued.attempt, "w"))
    return queued.node_id, queued.attempt


async def test_a_chain_goes_from_upload_to_complete(service: Service) -> None:
    run_id, new = await service.create(a_new_run("run_1"))
    assert new
    assert await claim(service) is None
    assert await service.receive(run_id, an_artifact("in"))
    assert not await service.receive(run_id, an_artifact("in"))
    assert await claim(service) == ("a", 1)
    await service.apply(run_id, lambda at: NodeSucceeded(at, NodeID("a"), 1, (an_artifact("mid"),)))
    assert await claim(service) == ("b", 1)
    step = await service.apply(run_id, lambda at: NodeSucceeded(at, NodeID("b"), 1, (an_artifact("out"),)))
    assert status_of(step.run) is RunStatus.COMPLETE
    async with service.database.connection() as connection:
        rows = await connection.fetch(SQL["events_after"], [run_id], [0], [100])
        nodes = await connection.fetch(SQL["nodes_of_run"], run_id)
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    assert (rows[0]["type"], rows[-1]["type"]) == ("run_started", "run_completed")
    assert [NodeStatus(node["status"]) for node in nodes] == [NodeStatus.COMPLETE] * 2


async def test_one_idempotency_key_makes_one_run(service: Service) -> None:
    first, _ = await service.create(a_new_run("run_1", idempotency_key="k", request_sha256=b"1"))
    again, new = await service.create(a_new_run("run_2", idempotency_key="k", request_sha256=b"1"))
    assert (again, new) == (first, False)
    with pytest.raises(Conflict):
        await service.create(a_new_run("run_3", idempotency_key="k", request_sha256=b"2"))


async def test_cancel_in_waiting_stops_at_once_and_twice_is_fine(service: Service) -> None:
    run_id, _ = await service.create(a_new_run("run_1"))
    await service.cancel(run_id)
    await service.cancel(run_id)
    async with service.database.connection() as connection:
        header = await connection.fetchrow(SQL["run_header"], run_id)
    assert header is not None
    assert (header["status"], header["status_reason"]) == ("STOPPED", "cancelled")


async def test_an_unknown_run_is_not_found(service: Service) -> None:
    with pytest.raises(NotFound):
        await service.cancel(RunID("run_none"))
