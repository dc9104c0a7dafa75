"""What `transition` answered, written back: of however many runs, in as many statements as of one."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pupload.db.pool import Connection
from pupload.db.runs import LockedRun, no_such_run
from pupload.db.sql import SQL
from pupload.run.commands import DispatchNode, Record, Step, StopAttempt
from pupload.run.state import Artifact, Failure, Node, RunID, status_of, status_reason


@dataclass(frozen=True, slots=True)
class Written:
    """What is to be written of a locked run: all that was changed since, and before that, what was `said`."""

    locked: LockedRun
    step: Step
    said: Sequence[tuple[Record, datetime]] = ()

    @property
    def records(self) -> list[tuple[Record, datetime]]:
        """Everything that the stream is told, in order."""
        return [*self.said, *((record, self.locked.now) for record in self.step.records)]


async def save(connection: Connection, all_written: Sequence[Written]) -> None:
    """Write what changed: nodes, artifacts, records, and last the runs themselves; each run at most once."""
    await _save_nodes(connection, [(each.locked.id, node) for each in all_written for node in each.step.changed])
    await _insert_artifacts(
        connection, [(each.locked.id, artifact) for each in all_written for artifact in each.step.artifacts]
    )
    await _insert_records(
        connection,
        [
            (each.locked.id, each.locked.row["last_seq"] + place, record, at)
            for each in all_written
            for place, (record, at) in enumerate(each.records, 1)
        ],
    )
    await _stop_attempts(
        connection,
        [
            (each.locked.id, command)
            for each in all_written
            for command in each.step.commands
            if isinstance(command, StopAttempt)
        ],
    )
    await _save_headers(connection, all_written)


def dispatches(step: Step) -> list[DispatchNode]:
    """The attempts that the step wants queued, in order."""
    return [command for command in step.commands if isinstance(command, DispatchNode)]


async def append_records(connection: Connection, run_id: RunID, records: Sequence[tuple[Record, datetime]]) -> None:
    """Append records that are no transitions, such as log lines, and tell the run's followers."""
    last_seq = await connection.fetchval(SQL["lock_sequence"], run_id, len(records))
    if last_seq is None:
        raise no_such_run(run_id)
    await _insert_records(
        connection, [(run_id, last_seq + place, record, at) for place, (record, at) in enumerate(records, 1)]
    )
    await connection.execute(SQL["notify_run"], run_id)


async def _insert_records(connection: Connection, numbered: Sequence[tuple[RunID, int, Record, datetime]]) -> None:
    if numbered:
        await connection.execute(
            SQL["insert_events"],
            [run_id for run_id, _, _, _ in numbered],
            [seq for _, seq, _, _ in numbered],
            [record.type.value for _, _, record, _ in numbered],
            [record.node for _, _, record, _ in numbered],
            [at for _, _, _, at in numbered],
            [json.dumps(record.data) for _, _, record, _ in numbered],
        )


async def _save_nodes(connection: Connection, changed: Sequence[tuple[RunID, Node]]) -> None:
    if changed:
        nodes = [node for _, node in changed]
        await connection.execute(
            SQL["save_nodes"],
            [run_id for run_id, _ in changed],
            [node.id for node in nodes],
            [node.status.value for node in nodes],
            [node.unresolved for node in nodes],
            [node.attempt for node in nodes],
            [node.charged for node in nodes],
            [node.restarts for node in nodes],
            [node.rounds for node in nodes],
            [node.asked for node in nodes],
            [node.error for node in nodes],
            [node.reason.value if node.reason else None for node in nodes],
            [node.exit_code for node in nodes],
            [node.worker for node in nodes],
            [node.started_at for node in nodes],
            [node.finished_at for node in nodes],
        )


async def _insert_artifacts(connection: Connection, made: Sequence[tuple[RunID, Artifact]]) -> None:
    if not made:
        return
    artifacts = [artifact for _, artifact in made]
    await connection.execute(
        SQL["insert_artifacts"],
        [run_id for run_id, _ in made],
        [artifact.edge for artifact in artifacts],
        [artifact.store for artifact in artifacts],
        [artifact.key for artifact in artifacts],
        [artifact.size_bytes for artifact in artifacts],
        [artifact.content_type for artifact in artifacts],
        [artifact.sha256 for artifact in artifacts],
        [artifact.etag for artifact in artifacts],
        [artifact.node for artifact in artifacts],
        [artifact.attempt for artifact in artifacts],
        [artifact.origin for artifact in artifacts],
    )
    if outside := [(run_id, artifact.edge) for run_id, artifact in made if artifact.node is None]:
        await connection.execute(
            SQL["settle_uploads"], [run_id for run_id, _ in outside], [edge for _, edge in outside]
        )


async def _stop_attempts(connection: Connection, stops: Sequence[tuple[RunID, StopAttempt]]) -> None:
    if stops:
        await connection.execute(
            SQL["stop_attempts"],
            [run_id for run_id, _ in stops],
            [stop.node for _, stop in stops],
            [stop.attempt for _, stop in stops],
            [stop.reason.value for _, stop in stops],
        )


async def _save_headers(connection: Connection, all_written: Sequence[Written]) -> None:
    runs = [each.step.run for each in all_written]
    if over := [run.id for run in runs if run.finished_at is not None]:
        await connection.execute(SQL["abandon_uploads"], over)
    await connection.execute(
        SQL["save_runs"],
        [run.id for run in runs],
        [status_of(run).value for run in runs],
        [status_reason(run) for run in runs],
        [json.dumps(dict(run.counts)) for run in runs],
        [run.end.value if run.end else None for run in runs],
        [_failure_document(run.failure) for run in runs],
        [each.locked.row["last_seq"] + len(each.records) for each in all_written],
        [run.started_at for run in runs],
        [run.finished_at for run in runs],
    )


def _failure_document(failure: Failure | None) -> str | None:
    """As `failure_of` reads it."""
    return json.dumps([failure.code, failure.message, failure.node]) if failure else None
