"""What must hold for the rows of a run at rest, whatever was done to it and from wherever; one sentence a function."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import asyncpg

from pupload.db.pool import Connection
from pupload.db.runs import failure_of
from pupload.flow.plan import Edge, NodeID, Plan, Reason, Source, load_plan
from pupload.run.commands import TERMINAL_RECORDS, Record, RecordType
from pupload.run.retry import INFRASTRUCTURE
from pupload.run.state import TERMINAL, End, NodeStatus, Run, RunID, status_of, status_reason
from tests.support.invariants import fold

_CLAIMABLE = {NodeStatus.READY.value, NodeStatus.RETRYING.value}
_NO_TRANSITION = {RecordType.NODE_LOG, RecordType.NODE_PROGRESS}


@dataclass(frozen=True)
class RunRows:
    """Everything that the database knows of one run, of one moment."""

    plan: Plan
    header: asyncpg.Record
    nodes: Sequence[asyncpg.Record]
    attempts: Sequence[asyncpg.Record]
    artifacts: Sequence[asyncpg.Record]
    uploads: Sequence[asyncpg.Record]
    events: Sequence[asyncpg.Record]
    jobs: Sequence[tuple[str, int]]
    rounds: Sequence[asyncpg.Record] = ()

    @cached_property
    def run(self) -> Run:
        """The run's header as the state machine sees it, with counts taken anew from the nodes."""
        return Run(
            RunID(self.header["id"]),
            self.plan,
            counts=Counter(NodeStatus(node["status"]) for node in self.nodes),
            end=End(self.header["ending"]) if self.header["ending"] else None,
            failure=failure_of(self.header["failure"]),
            finished_at=self.header["finished_at"],
        )

    @cached_property
    def statuses(self) -> dict[NodeID, NodeStatus]:
        """Where each node is."""
        return {NodeID(node["node_id"]): NodeStatus(node["status"]) for node in self.nodes}

    @cached_property
    def tries(self) -> dict[str, list[asyncpg.Record]]:
        """The attempts of each node that has any, by number."""
        tries: dict[str, list[asyncpg.Record]] = defaultdict(list)
        for attempt in self.attempts:
            tries[attempt["node_id"]].append(attempt)
        return tries

    @cached_property
    def records(self) -> list[Record]:
        """The public stream without log lines and progress."""
        return [
            Record(RecordType(event["type"]), event["node_id"], json.loads(event["data"]))
            for event in self.events
            if event["type"] not in _NO_TRANSITION
        ]

    @property
    def lines(self) -> list[str]:
        """The text of every log line, in order."""
        return [json.loads(event["data"])["Message"] for event in self.events if event["type"] == RecordType.NODE_LOG]


async def fetch_rows(connection: Connection, run_id: str) -> RunRows:
    """The run's rows, all of one snapshot."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):

        async def of(table: str, order: str) -> list[asyncpg.Record]:
            return await connection.fetch(f"SELECT * FROM {table} WHERE run_id = $1 ORDER BY {order}", run_id)

        header = await connection.fetchrow("SELECT * FROM runs WHERE id = $1", run_id)
        assert header is not None
        payloads = await connection.fetch(
            "SELECT convert_from(payload, 'UTF8') AS payload FROM pgqueuer WHERE dedupe_key LIKE $1 || '/%'", run_id
        )
        return RunRows(
            plan=load_plan(await connection.fetchval("SELECT plan FROM run_plans WHERE run_id = $1", run_id)),
            header=header,
            nodes=await of("run_nodes", "position"),
            attempts=await of("attempts", "node_id, attempt"),
            artifacts=await of("artifacts", "edge"),
            uploads=await of("uploads", "edge"),
            events=await of("events", "seq"),
            jobs=[(node, attempt) for _, node, attempt in (json.loads(row["payload"]) for row in payloads)],
            rounds=await of("tool_rounds", "node_id, round"),
        )


def events_are_numbered_without_a_gap(rows: RunRows) -> None:
    """From one to the header's last number (I7)."""
    assert [event["seq"] for event in rows.events] == list(range(1, rows.header["last_seq"] + 1))


def the_stream_begins_and_ends_once(rows: RunRows) -> None:
    """Nothing follows the terminal event, not even a log line."""
    types = [RecordType(event["type"]) for event in rows.events]
    assert types[0] is RecordType.RUN_STARTED
    assert types.count(RecordType.RUN_STARTED) == 1
    terminal = [kind in TERMINAL_RECORDS for kind in types]
    assert not any(terminal[:-1])
    assert terminal[-1] == (rows.header["finished_at"] is not None)


def the_stream_tells_where_every_node_is(rows: RunRows) -> None:
    """State folded from the events is the state in the rows (I7), but between an accepted end and its coming."""
    if rows.run.end is None or rows.header["finished_at"] is not None:
        assert fold(rows.plan, rows.records) == rows.statuses


def the_header_follows_from_the_nodes(rows: RunRows) -> None:
    """Counts are their histogram; status and reason are derived from them (I4)."""
    assert {status: count for status, count in json.loads(rows.header["counts"]).items() if count} == rows.run.counts
    assert rows.header["status"] == status_of(rows.run).value
    assert rows.header["status_reason"] == status_reason(rows.run)
    assert (rows.header["finished_at"] is not None) == (status_of(rows.run) in TERMINAL)


def attempts_have_no_gap_and_no_repeat(rows: RunRows) -> None:
    """One row for each number up to the node's newest (I3)."""
    for node in rows.nodes:
        numbers = [attempt["attempt"] for attempt in rows.tries.get(node["node_id"], [])]
        assert numbers == list(range(1, node["attempt"] + 1))


def what_runs_has_one_lease(rows: RunRows) -> None:
    """An attempt runs exactly where its node does, and it is the newest; no two attempts share a token."""
    held = [attempt for attempt in rows.attempts if attempt["state"] in {"running", "calling"}]
    running = [(attempt["node_id"], attempt["attempt"]) for attempt in held]
    assert sorted(running) == sorted(
        (node["node_id"], node["attempt"]) for node in rows.nodes if node["status"] == NodeStatus.RUNNING
    )
    assert len({attempt["lease"] for attempt in rows.attempts}) == len(rows.attempts)


def the_budgets_are_charged_for_what_failed(rows: RunRows) -> None:
    """Infrastructure's failures to its own budget, the others to the user's, a release to none (I3)."""
    for node in rows.nodes:
        plan, tries = rows.plan.nodes[node["node_id"]], rows.tries.get(node["node_id"], [])
        failures = [Reason(attempt["reason"]) for attempt in tries if attempt["state"] in {"failed", "lost"}]
        restarts = sum(reason in INFRASTRUCTURE for reason in failures)
        if node["status"] != NodeStatus.STOPPED:
            assert (node["charged"], node["restarts"]) == (len(failures) - restarts, restarts)
        assert node["charged"] <= plan.max_attempts
        assert node["restarts"] <= rows.plan.max_restarts + 1


def every_question_is_kept_until_it_is_answered(rows: RunRows) -> None:
    """One round for each attempt that asked; what waits for an answer is the newest round of a node that waits."""
    asked = [(attempt["node_id"], attempt["attempt"]) for attempt in rows.attempts if attempt["state"] == "asked"]
    kept = [(each["node_id"], each["attempt"]) for each in rows.rounds]
    # A question that came while the run was ending has no round.
    assert set(kept) <= set(asked)
    assert rows.run.end is not None or kept == asked
    for node in rows.nodes:
        own = [each for each in rows.rounds if each["node_id"] == node["node_id"]]
        assert [each["round"] for each in own] == list(range(1, node["rounds"] + 1))
        assert all(each["results"] is not None for each in own[:-1])
        if node["status"] not in {NodeStatus.STOPPED, NodeStatus.WAITING}:
            assert all(each["results"] is not None for each in own)
        if node["status"] == NodeStatus.WAITING:
            assert own[-1]["results"] is None


def one_result_is_accepted(rows: RunRows) -> None:
    """A node is COMPLETE by its newest attempt, whose objects are its artifacts; no other attempt has any (I2)."""
    complete = {node["node_id"]: node["attempt"] for node in rows.nodes if node["status"] == NodeStatus.COMPLETE}
    for node, newest in complete.items():
        assert [each["attempt"] for each in rows.tries[node] if each["state"] == "succeeded"] == [newest]
    for artifact in rows.artifacts:
        producer = rows.plan.edges[Edge(artifact["edge"])].producer
        assert artifact["node_id"] == producer
        assert artifact["attempt"] == (0 if producer is None else complete[producer])


def no_node_started_before_what_it_needs(rows: RunRows) -> None:
    """Every required object was told of before the first start of its reader (I4)."""
    exists = {edge.name for edge in rows.plan.edges.values() if edge.source is Source.STATIC}
    for record in rows.records:
        if record.type in {RecordType.UPLOAD_RECEIVED, RecordType.NODE_OUTPUT}:
            exists.add(Edge(str(record.data["Edge"])))
        elif record.type is RecordType.NODE_STARTED:
            assert record.node is not None
            inputs = rows.plan.nodes[record.node].inputs
            assert {binding.edge for binding in inputs if binding.required} <= exists


def uploads_are_settled_by_their_objects(rows: RunRows) -> None:
    """And nothing is awaited by a run that is over."""
    present = {artifact["edge"] for artifact in rows.artifacts}
    for upload in rows.uploads:
        assert (upload["state"] == "received") == (upload["edge"] in present)
        assert upload["state"] != "awaiting" or rows.header["finished_at"] is None


def an_accepted_cancel_has_won(rows: RunRows) -> None:
    """The run is stopping or STOPPED, never anything else (I10)."""
    if rows.run.end is End.CANCELLED:
        assert rows.header["status"] in {"RUNNING", "STOPPED"}


RESTING: tuple[Callable[[RunRows], None], ...] = (
    events_are_numbered_without_a_gap,
    the_stream_begins_and_ends_once,
    the_stream_tells_where_every_node_is,
    the_header_follows_from_the_nodes,
    attempts_have_no_gap_and_no_repeat,
    what_runs_has_one_lease,
    the_budgets_are_charged_for_what_failed,
    every_question_is_kept_until_it_is_answered,
    one_result_is_accepted,
    no_node_started_before_what_it_needs,
    uploads_are_settled_by_their_objects,
    an_accepted_cancel_has_won,
)


def everything_claimable_is_queued_once(rows: RunRows) -> None:
    """After a reconciler's look: a job for each node that waits for a worker, and no job twice."""
    wanted = {(node["node_id"], node["attempt"] + 1) for node in rows.nodes if node["status"] in _CLAIMABLE}
    assert wanted <= set(rows.jobs)
    assert len(set(rows.jobs)) == len(rows.jobs)
