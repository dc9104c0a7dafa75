"""Objects of one run that another run names.

An object is there as long as a run names it, by an artifact of its own, and is not condemned. Who names it next holds
one of those runs, by a lock on its row, until its own artifact is written; who removes a run condemns it first, which
waits for such a lock, and only then looks who else names its objects. So either the newcomer is seen, or it is told
that the object is gone; and of two that let go of an object at once, the later one sees that it is the last.
"""

from collections.abc import Sequence

from pupload.db.pool import Connection
from pupload.db.sql import SQL
from pupload.errors import Gone
from pupload.run.state import Artifact


async def hold_origins(connection: Connection, artifacts: Sequence[Artifact]) -> None:
    """Returns when every object that belongs to another run is sure to stay until this transaction has ended.

    Objects under a well's own key belong to nobody: no run takes them along.
    Errors: Gone for an object that no run names any more.
    """
    borrowed = [each for each in artifacts if is_run(each.origin) and each.key.startswith(f"{each.origin}/")]
    if not borrowed:
        return
    keys = list({artifact.key for artifact in borrowed})
    rows = await connection.fetch(SQL["lock_namers"], list({artifact.origin for artifact in borrowed}), keys)
    named = await connection.fetch(SQL["keys_named_by"], [row["id"] for row in rows], keys)
    if lost := set(keys) - {row["key"] for row in named}:
        edge = next(artifact.edge for artifact in borrowed if artifact.key in lost)
        raise Gone(f"the object of edge {edge!r} was removed with its run; run its node again", code="OBJECT_GONE")


def is_run(origin: str) -> bool:
    """True for the origin of an object that a run made, or that was uploaded to one.

    >>> is_run("run_01"), is_run("file_01"), is_run("")
    (True, False, False)
    """
    return origin.startswith("run_")
