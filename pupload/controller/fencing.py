"""The fence: whether a worker that speaks of an attempt still holds it.

Every call is asked for the attempt's current lease, here or by the statement that writes: without it nothing is signed
and nothing is written.
"""

from collections.abc import Sequence

from pupload.db.pool import Connection
from pupload.db.sql import SQL
from pupload.errors import LostLease
from pupload.protocol import AttemptRef


async def check_lease(connection: Connection, ref: AttemptRef) -> None:
    """Returns when the attempt is still its worker's.

    Errors: LostLease.
    """
    if not await held_leases(connection, [ref]):
        raise lost_lease()


async def held_leases(connection: Connection, refs: Sequence[AttemptRef]) -> set[str]:
    """Those of the attempts' leases that are held."""
    return {row["lease"] for row in await connection.fetch(SQL["held_leases"], *columns_of(refs))}


def lost_lease() -> LostLease:
    """The error for whoever speaks for an attempt without its lease."""
    return LostLease("this attempt is not yours any more; drop what was made for it")


def key_of(ref: AttemptRef) -> tuple[str, str, int, str]:
    """What the fence asks for: run, node, attempt, lease."""
    return ref.run_id, ref.node_id, ref.attempt, ref.lease


def columns_of(refs: Sequence[AttemptRef]) -> tuple[list[str], list[str], list[int], list[str]]:
    """The keys of many, as columns."""
    return (
        [ref.run_id for ref in refs],
        [ref.node_id for ref in refs],
        [ref.attempt for ref in refs],
        [ref.lease for ref in refs],
    )
