"""What a run begins with that was there before it: in the transaction that makes the run, it becomes the run's own."""

from collections.abc import Sequence

from pupload.db.creation import NewRun
from pupload.db.pool import Connection
from pupload.db.sql import SQL
from pupload.errors import Conflict, Gone
from pupload.run.state import Artifact


async def take_over(connection: Connection, new: NewRun, present: Sequence[Artifact]) -> None:
    """Returns when files and given inputs are sure to stay as long as the run names them, and its attachments are kept.

    Errors: Gone for a file that is being removed; Conflict for inputs that were given up.
    """
    files = {artifact.origin for artifact in present if artifact.origin.startswith("file_")}
    if files:
        await _use(connection, files)
    if new.intakes:
        settled = await connection.fetch(SQL["settle_intakes"], new.id)
        if len(settled) < new.intakes:
            raise Conflict("the inputs took too long and were given up; send the request again", code="INPUTS_GIVEN_UP")
    if new.attachments:
        names, sealed = list(new.attachments), list(new.attachments.values())
        await connection.execute(SQL["insert_attachments"], new.id, names, sealed)


async def _use(connection: Connection, files: set[str]) -> None:
    used = {row["id"] for row in await connection.fetch(SQL["use_files"], sorted(files))}
    if gone := files - used:
        raise Gone(f"file {min(gone)!r} was removed meanwhile; send it again", code="FILE_GONE")
