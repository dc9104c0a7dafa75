"""The ten invariants of docs/reliability.md, read from a system at rest and from what its client has heard.

Each function reads one of them and yields violations as sentences. At rest means: nothing new is posted, and what was
accepted has had its time.
"""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from pupload.flow.plan import NodeID
from pupload.run.commands import RecordType
from pupload.run.state import NodeStatus, RunStatus
from tests.support.facts import Facts, Surveyed, read_facts
from tests.support.history import History
from tests.support.processes import growth
from tests.support.rows import (
    RunRows,
    an_accepted_cancel_has_won,
    attempts_have_no_gap_and_no_repeat,
    events_are_numbered_without_a_gap,
    no_node_started_before_what_it_needs,
    one_result_is_accepted,
    the_budgets_are_charged_for_what_failed,
    the_header_follows_from_the_nodes,
    the_stream_begins_and_ends_once,
    the_stream_tells_where_every_node_is,
)

_SWEEP_GRACE_S = 60.0
_OVERDUE_S = 60.0
_SIGNED = ("X-Amz-Signature=", "X-Amz-Credential=")
_OWN_FOLDERS = {".sessions", "files"}
_BY_NODES = {one_result_is_accepted, attempts_have_no_gap_and_no_repeat, no_node_started_before_what_it_needs}
"""What does not hold for nodes that an earlier run has been through."""

Rule = Callable[[RunRows], None]


def violations(place: Surveyed, history: History | None = None) -> list[str]:
    """Every violation, each a sentence that begins with the invariant's name."""
    return asyncio.run(violations_of(place, history))


async def violations_of(place: Surveyed, history: History | None = None) -> list[str]:
    """As `violations`, for who is on an event loop."""
    return judge(await read_facts(place), history or History())


def judge(facts: Facts, history: History) -> list[str]:
    """Every violation in what was found."""
    return [f"{name}: {said}" for name, rule in INVARIANTS.items() for said in rule(facts, history)]


def every_accepted_run_has_ended(facts: Facts, history: History) -> Iterator[str]:
    """I1: each acknowledged run reaches a terminal state in time; none vanishes."""
    for run_id in sorted(history.acknowledged - history.removed - facts.runs.keys()):
        yield f"run {run_id} was acknowledged and has vanished"
    for run_id, rows in facts.runs.items():
        header = rows.header
        ended = facts.now if header["finished_at"] is None else _at(header["finished_at"])
        late = ended - _at(header["deadline"])
        if header["finished_at"] is None and _is_wanted(run_id, history):
            yield f"run {run_id} has not ended: it is {header['status']} {header['status_reason']}"
        elif late > _OVERDUE_S:
            yield f"run {run_id} ended {late:.0f} s after its deadline"


def _is_wanted(run_id: str, history: History) -> bool:
    """A run that nobody was told of may wait for uploads that nobody sends."""
    return not history.posted or run_id in history.acknowledged


def one_result_counts_and_is_what_it_says(facts: Facts, _: History) -> Iterator[str]:
    """I2: one accepted result for a node, by an attempt that began; its bytes hash to its SHA-256."""
    yield from _broken(facts, one_result_is_accepted)
    for run_id, rows in facts.runs.items():
        completed = Counter(record.node for record in rows.records if record.type is RecordType.NODE_COMPLETED)
        yield from (
            f"run {run_id}: {count} results of node {node} were accepted"
            for node, count in completed.items()
            if count > 1
        )
        for each in rows.artifacts:
            found = facts.digests.get((each["store"], each["key"]))
            name = f"run {run_id}: the object {each['key']} on edge {each['edge']}"
            if found == "":
                yield f"{name} is not in the store"
            elif found is not None and each["sha256"] and found != each["sha256"]:
                yield f"{name} hashes to {found[:12]}…, its artifact says {each['sha256'][:12]}…"


def attempts_are_counted_and_charged(facts: Facts, _: History) -> Iterator[str]:
    """I3: numbers without gap or repeat; each budget pays for its own failures and is kept."""
    yield from _broken(facts, attempts_have_no_gap_and_no_repeat, the_budgets_are_charged_for_what_failed)
    for run_id, rows in facts.runs.items():
        for node in rows.nodes:
            plan, released = rows.plan.nodes[NodeID(node["node_id"])], _released(rows, node["node_id"])
            most = plan.max_attempts + rows.plan.max_restarts + node["rounds"] + released
            if node["attempt"] > most:
                times = f"was claimed {node['attempt']} times, at most {most} is right"
                yield f"run {run_id}: node {node['node_id']} {times}"


def _released(rows: RunRows, node: str) -> int:
    return sum(each["state"] == "released" for each in rows.tries.get(node, []))


def nodes_begin_after_what_they_need(facts: Facts, _: History) -> Iterator[str]:
    """I4: no start before all of a node's parents are accepted; a run's state follows from its nodes."""
    yield from _broken(facts, no_node_started_before_what_it_needs, the_header_follows_from_the_nodes)
    for run_id, rows in facts.runs.items():
        complete = {node["node_id"] for node in rows.nodes if node["status"] == NodeStatus.COMPLETE}
        for attempt in () if _is_replay(rows) else rows.attempts:
            for binding in rows.plan.nodes[NodeID(attempt["node_id"])].inputs:
                parent = rows.plan.edges[binding.edge].producer
                if parent is not None and binding.required and parent not in complete:
                    yield f"run {run_id}: node {attempt['node_id']} began before node {parent} was complete"


def nothing_is_left(facts: Facts, _: History) -> Iterator[str]:
    """I5: no container, directory, mount, unfinished object, nor object that nothing names beyond the grace."""
    yield from (f"container {name} is left" for name in facts.containers)
    yield from (f"work directory {path} is left" for path in facts.folders)
    yield from (f"mount {path} is left" for path in facts.mounts)
    yield from (f"unfinished object {path} is left" for path in facts.unfinished)
    yield from (
        f"run {run_id} was condemned and is still there"
        for run_id, rows in facts.runs.items()
        if rows.header["condemned_at"] is not None
    )
    named = {(each["store"], each["key"]) for rows in facts.runs.values() for each in rows.artifacts}
    named |= {("default", each["log_key"]) for rows in facts.runs.values() for each in rows.attempts}
    named |= {("default", each["state_key"]) for rows in facts.runs.values() for each in rows.rounds}
    named |= facts.intakes
    for store, key in sorted(facts.objects.keys() - named):
        owner = key.partition("/")[0]
        if owner not in facts.runs and owner not in _OWN_FOLDERS and owner.startswith("run_"):
            yield f"object {key} in store {store} belongs to a run that is not there"
        elif owner in facts.runs and _is_swept(facts.runs[owner], facts):
            yield f"object {key} in store {store} is named by nothing, and its time is over"
    for store, key in sorted(facts.objects):
        if key.startswith(".sessions/") and key.split("/")[1] not in facts.owners:
            yield f"object {key} in store {store} belongs to a session that is not there"


def _is_swept(rows: RunRows, facts: Facts) -> bool:
    """True once nothing of the run's own may lie about any more."""
    header = rows.header
    if header["finished_at"] is None:
        return False
    grace_s = 2 * (facts.place.lease_s + _SWEEP_GRACE_S)
    return header["swept_at"] is not None or facts.now - _at(header["finished_at"]) > grace_s


def no_node_runs_twice_at_once(facts: Facts, _: History) -> Iterator[str]:
    """I6: no two attempts of a node at once for longer than a lease; no result of one that was fenced."""
    lease_s = facts.place.lease_s
    for run_id, rows in facts.runs.items():
        for node, tries in rows.tries.items():
            for earlier, later in pairwise(tries):
                ended = facts.now if earlier["finished_at"] is None else _at(earlier["finished_at"])
                if ended - _at(later["claimed_at"]) > lease_s:
                    yield f"run {run_id}: attempts {earlier['attempt']} and {later['attempt']} of {node} ran at once"
            yield from (
                f"run {run_id}: attempt {each['attempt']} of {node} was {each['state']}, and its object counts"
                for each in tries
                for artifact in rows.artifacts
                if each["state"] != "succeeded"
                and (artifact["node_id"], artifact["attempt"]) == (node, each["attempt"])
                and not artifact["origin"]
            )
    seen = Counter(name.rpartition("-")[0] for name in facts.containers)
    yield from (f"{count} containers of {name} are there at once" for name, count in seen.items() if count > 1)


def events_tell_the_truth(facts: Facts, history: History) -> Iterator[str]:
    """I7: events are numbered without gap, fold to the rows, and reach clients and receivers as they are."""
    yield from _broken(
        facts, events_are_numbered_without_a_gap, the_stream_begins_and_ends_once, the_stream_tells_where_every_node_is
    )
    yield from _streams(facts, history)
    yield from _webhooks(facts, history)


def _streams(facts: Facts, history: History) -> Iterator[str]:
    for run_id, frames in history.seen.items():
        rows = facts.runs.get(run_id)
        if rows is None:
            continue
        table = [(each["seq"], each["type"], each["node_id"] or "", json.loads(each["data"])) for each in rows.events]
        heard = [(int(each.id), each.event, each.node, each.data["Data"]) for each in frames]
        if heard != table[: len(heard)]:
            odd = next(here for here, there in zip(heard, [*table, *heard], strict=False) if here != there)
            yield f"run {run_id}: a client heard event {odd[0]} {odd[1]}, which is not what the table has there"
        elif len(heard) < len(table) and rows.header["finished_at"] is not None:
            yield f"run {run_id}: a client heard {len(heard)} of {len(table)} events before its stream ended"


def _webhooks(facts: Facts, history: History) -> Iterator[str]:
    rows = {row["id"]: row for row in facts.webhooks}
    ids = defaultdict[tuple[str, int], set[str]](set)
    for told in history.told:
        run_id, seq = str(told.body["RunID"]), int(told.body["Seq"])
        ids[run_id, seq].add(told.id)
        run = facts.runs.get(run_id)
        if run is None:
            continue
        event = next((each for each in run.events if each["seq"] == seq), None)
        if event is None or (event["type"], json.loads(event["data"])) != (told.body["Type"], told.body["Data"]):
            yield f"run {run_id}: a webhook told of event {seq} {told.body['Type']}, which is not in the table"
        if told.id not in rows:
            yield f"run {run_id}: webhook {told.id} was told, and no row knows of it"
    yield from (
        f"run {run}: event {seq} was told under {len(each)} ids" for (run, seq), each in ids.items() if len(each) > 1
    )
    heard = {told.id for told in history.told}
    now = datetime.now(UTC)
    for webhook_id, row in rows.items():
        if row["state"] == "pending" and (row["tries"] == 0 or row["next_at"] < now):
            yield f"run {row['run_id']}: webhook {webhook_id} is still to be told"
        elif row["state"] == "delivered" and history.told and webhook_id not in heard:
            yield f"run {row['run_id']}: webhook {webhook_id} is noted as delivered, and nobody heard it"


def nothing_is_held(facts: Facts, _: History) -> Iterator[str]:
    """I8: no idle transaction, no orphan lock, no growth of what processes hold."""
    yield from (f"a transaction is idle for over 5 s after: {query}" for query in facts.idle)
    yield from (f"a statement waits for a lock for over 5 s: {query}" for query in facts.blocked)
    yield from growth(facts.place.footprints, facts.footprints)


def failures_say_why_and_no_secret(facts: Facts, _: History) -> Iterator[str]:
    """I9: every failure names its cause; no secret and no signed URL in a log, event or error."""
    for run_id, rows in facts.runs.items():
        if rows.header["status"] == RunStatus.ERROR and not (rows.run.failure and rows.run.failure.message):
            yield f"run {run_id} failed and does not say why"
        for node in rows.nodes:
            if node["status"] == NodeStatus.ERROR and not (node["reason"] and node["error"]):
                yield f"run {run_id}: node {node['node_id']} failed and does not say why"
        for each in rows.attempts:
            if each["state"] in {"failed", "lost"} and not (each["reason"] and each["message"]):
                yield f"run {run_id}: attempt {each['attempt']} of {each['node_id']} failed and does not say why"
    for place, text in _texts(facts):
        yield from (f"{place} holds a signed URL" for mark in _SIGNED if mark in text)
        yield from (f"{place} holds a secret" for secret in facts.place.secrets if secret and secret in text)


def _texts(facts: Facts) -> Iterator[tuple[str, str]]:
    """Whatever people read."""
    yield from ((f"log {path}", text) for path, text in facts.logs.items())
    for run_id, rows in facts.runs.items():
        yield from ((f"run {run_id}: event {each['seq']}", each["data"]) for each in rows.events)
        yield from ((f"run {run_id}: the error of node {each['node_id']}", each["error"]) for each in rows.nodes)
        yield from (
            (f"run {run_id}: the message of attempt {each['attempt']} of {each['node_id']}", each["message"])
            for each in rows.attempts
        )


def a_key_makes_one_run_and_a_cancel_decides(facts: Facts, history: History) -> Iterator[str]:
    """I10: one idempotency key, one run; a cancel wins or loses, never "cancelled, later completed"."""
    for key, runs in history.posted.items():
        if len(set(runs)) > 1:
            yield f"idempotency key {key} made {len(set(runs))} runs: {', '.join(sorted(set(runs)))}"
    yield from _broken(facts, an_accepted_cancel_has_won)
    for run_id, status in history.cancelled.items():
        rows = facts.runs.get(run_id)
        now = rows.header["status"] if rows else status
        if status not in {RunStatus.COMPLETE, RunStatus.ERROR} and now == RunStatus.COMPLETE:
            yield f"run {run_id} was cancelled while {status}, and completed later"
        elif status in {RunStatus.COMPLETE, RunStatus.ERROR, RunStatus.STOPPED} and now != status:
            yield f"run {run_id} was {status} when it was cancelled, and is {now} now"


INVARIANTS: dict[str, Callable[[Facts, History], Iterator[str]]] = {
    "I1": every_accepted_run_has_ended,
    "I2": one_result_counts_and_is_what_it_says,
    "I3": attempts_are_counted_and_charged,
    "I4": nodes_begin_after_what_they_need,
    "I5": nothing_is_left,
    "I6": no_node_runs_twice_at_once,
    "I7": events_tell_the_truth,
    "I8": nothing_is_held,
    "I9": failures_say_why_and_no_secret,
    "I10": a_key_makes_one_run_and_a_cancel_decides,
}


def _broken(facts: Facts, *rules: Rule) -> Iterator[str]:
    """The rules of rows that a run does not keep; their names are sentences."""
    for run_id, rows in facts.runs.items():
        for rule in rules:
            if rule in _BY_NODES and _is_replay(rows):
                continue
            try:
                rule(rows)
            except (AssertionError, LookupError, ValueError) as error:
                yield f"run {run_id}: not so: {rule.__name__.replace('_', ' ')} {error}".rstrip()


def _is_replay(rows: RunRows) -> bool:
    return bool(rows.header["replay_of"])


def _at(moment: Any) -> float:
    return float(moment.timestamp())
