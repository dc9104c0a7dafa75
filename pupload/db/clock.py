"""This machine's clock against the database's.

Leases and deadlines are the database's alone. But a store judges by its clock what we sign by ours, and so does whoever
takes our webhooks; where all are kept right, the database's tells whether ours is.
"""

from datetime import UTC, datetime, timedelta

from pupload.db.pool import Connection
from pupload.db.sql import SQL

_MOST_APART = timedelta(minutes=1)


async def clock_fault(connection: Connection, timeout_s: float | None = None) -> str:
    """What is wrong with this machine's clock; "" when it is near enough to the database's.

    Errors: TimeoutError.
    """
    apart = datetime.now(UTC) - await connection.fetchval(SQL["clock"], timeout=timeout_s)
    if abs(apart) <= _MOST_APART:
        return ""
    way = "ahead of" if apart > timedelta() else "behind"
    return (
        f"this machine's clock is {abs(apart).total_seconds():.0f} s {way} the database's: stores may refuse what is "
        "signed here, and receivers its webhooks; set the clocks"
    )
