"""Log lines and progress of attempts, as workers tell of them: each is an event of its run, recorded once."""

from datetime import datetime

from pupload.controller.fencing import key_of, lost_lease
from pupload.db.pool import Connection, Database
from pupload.db.runs import lock_run
from pupload.db.sql import SQL
from pupload.db.writing import append_records
from pupload.errors import LostLease, NotFound
from pupload.failpoints import reach
from pupload.flow.plan import NodeID
from pupload.protocol import AttemptRef, Finish, Line, Lines, level_of
from pupload.run.commands import Record, RecordType
from pupload.run.state import RunID


class _OutOfStep(Exception):
    """The lease is gone, or other lines were recorded before than these say."""


async def record_lines(database: Database, lines: Lines) -> None:
    """Record log lines and progress of an attempt that holds its lease.

    Errors: LostLease.
    """
    try:
        try:
            await database.transact(lambda connection: _record(connection, lines))
        except _OutOfStep:
            await database.transact(lambda connection: _record_rest(connection, lines))
        await reach("log.recorded")
    except NotFound as error:
        raise LostLease("the run of this attempt is gone") from error


async def _record(connection: Connection, lines: Lines) -> None:
    records = [_log_record(lines.ref, line) for line in lines.lines]
    if lines.progress is not None:
        now: datetime = await connection.fetchval("SELECT now()")
        records.append((_progress_record(lines.ref, lines.progress), now))
    if records:
        await append_records(connection, RunID(lines.ref.run_id), records)
    # Asked under the lock that the records took: before it, the attempt could still end, and the run with it, and
    # these records would stand behind its last event. The node comes after its run, as in every transaction.
    if await connection.fetchval(SQL["count_lines"], *key_of(lines.ref), lines.first, len(lines.lines)) is None:
        raise _OutOfStep
    if lines.progress is not None:
        await connection.execute(SQL["set_progress"], lines.ref.run_id, lines.ref.node_id, lines.progress)


async def _record_rest(connection: Connection, lines: Lines) -> None:
    """Record what of the lines is not recorded yet.

    Errors: LostLease.
    """
    await lock_run(connection, RunID(lines.ref.run_id))
    known = await _known_lines(connection, lines.ref)
    rest = lines.lines[_told(known, lines.first) :]
    await _record(connection, lines.model_copy(update={"lines": rest, "first": known}))


async def unrecorded(connection: Connection, finish: Finish) -> list[tuple[Record, datetime]]:
    """What the finish's lines make that are not recorded yet; asked only where a post of some was not answered.

    Errors: LostLease; NotFound.
    """
    rest = finish.lines
    if finish.first_line is not None and rest:
        await lock_run(connection, RunID(finish.ref.run_id))
        rest = rest[_told(await _known_lines(connection, finish.ref), finish.first_line) :]
    return [_log_record(finish.ref, line) for line in rest]


def _told(known: int, first: int | None) -> int:
    return 0 if first is None else max(0, known - first)


async def _known_lines(connection: Connection, ref: AttemptRef) -> int:
    known: int | None = await connection.fetchval(SQL["known_lines"], *key_of(ref))
    if known is None:
        raise lost_lease()
    return known


def _log_record(ref: AttemptRef, line: Line) -> tuple[Record, datetime]:
    """A log line as an event of the run."""
    data = {
        "Attempt": ref.attempt,
        "Message": line.text,
        "Level": level_of(line.stream),
        "Stream": line.stream,
        "Fields": {},
    }
    return Record(RecordType.NODE_LOG, NodeID(ref.node_id), data), line.at


def _progress_record(ref: AttemptRef, percent: float) -> Record:
    return Record(RecordType.NODE_PROGRESS, NodeID(ref.node_id), {"Attempt": ref.attempt, "Progress": percent})
