"""Where the objects of a run are kept, and what a node finds of them."""

import uuid
from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from pupload.db.pool import Connection
from pupload.db.runs import artifact_of
from pupload.db.sql import SQL
from pupload.flow.keys import default_key, key_values, render_key
from pupload.flow.mime import extension_for
from pupload.flow.plan import Edge, EdgePlan, NodePlan, Plan
from pupload.protocol import AttemptRef
from pupload.run.state import Artifact, RunID

ACCOUNTS = "accounts"
"""Where the folders of accounts are: no run has such an ID."""


def upload_key(plan: Plan, edge: EdgePlan, run_id: RunID) -> str:
    """The key of an object that comes from outside, or already exists.

    Errors: InvalidRequest when the well's template does not make a safe key.
    """
    values = _values(plan, edge, run_id)
    return _chosen_key(plan, edge, values) if edge.key is not None else default_key(values, edge.extension)


def attempt_key(edge: EdgePlan, run_id: RunID, attempt: int, content_type: str) -> str:
    """The key that one attempt writes: no other attempt and no other run ever has the same."""
    values = {"RUN_ID": run_id, "EDGE": edge.name, "ATTEMPT": str(attempt)}
    return default_key(values, edge.extension or extension_for(content_type))


def own_key(plan: Plan, edge: EdgePlan, run_id: RunID, ref: AttemptRef) -> str:
    """The key that a well has by its own template, for the accepted attempt."""
    return _chosen_key(plan, edge, _values(plan, edge, run_id, node_id=ref.node_id, attempt=ref.attempt))


def _chosen_key(plan: Plan, edge: EdgePlan, values: Mapping[str, str]) -> str:
    """What the well's own template makes: in a store that accounts share, a key in the folder of the run's own."""
    shared = plan.account and edge.store not in plan.stores
    return render_key(f"{ACCOUNTS}/{plan.account}/{edge.key}" if shared else edge.key or "", values)


def log_key(ref: AttemptRef) -> str:
    """Where the whole log of an attempt is kept, in the server's default store."""
    return f"{ref.run_id}/.logs/{ref.node_id}/{ref.attempt}.log"


def _values(plan: Plan, edge: EdgePlan, run_id: RunID, *, node_id: str = "", attempt: int = 0) -> dict[str, str]:
    return key_values(
        run_id=run_id,
        flow_name=plan.name,
        edge=edge.name,
        at=datetime.now(UTC),
        uuid=str(uuid.uuid4()),
        node_id=node_id,
        attempt=attempt,
        session_id=plan.session_id,
        parameters=plan.parameters,
    )


async def inputs_of(connection: Connection, run_id: str, node: NodePlan) -> dict[Edge, Artifact]:
    """The objects on the node's input edges; an edge that stays without one is missing here."""
    return (await inputs_of_all(connection, [(run_id, node)])).get(run_id, {})


async def inputs_of_all(
    connection: Connection, nodes: Collection[tuple[str, NodePlan]]
) -> dict[str, dict[Edge, Artifact]]:
    """The objects on the input edges of these nodes of runs, by run."""
    edges = {(run_id, binding.edge) for run_id, node in nodes for binding in node.inputs}
    found: dict[str, dict[Edge, Artifact]] = {}
    if edges:
        run_ids, names = zip(*edges, strict=True)
        for row in await connection.fetch(SQL["artifacts_of_nodes"], run_ids, names):
            found.setdefault(row["run_id"], {})[Edge(row["edge"])] = artifact_of(row)
    return found
