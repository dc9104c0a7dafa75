"""How much one account may have in the database, counted in the transaction that adds to it.

Exact where it matters: from half of a large limit on, and always for a small one, whoever adds to an account waits for
who does so already. Below that nobody waits for anybody; what is then not yet seen is far less than what is free.
"""

from dataclasses import dataclass

from pupload.db.pool import Connection
from pupload.db.sql import SQL
from pupload.errors import InvalidRequest, TooMany

_LARGE = 200
"""A limit of so many times what is added is large: there are never as many transactions at once."""
_LONGEST_S = 60.0


@dataclass(frozen=True, slots=True)
class Room:
    """What an account may have of runs that are not over, and of their nodes. 0 is no limit."""

    runs: int = 0
    nodes: int = 0

    def __bool__(self) -> bool:
        return bool(self.runs or self.nodes)

    def at_ease(self, nodes: int) -> "Room":
        """How far nobody needs to wait for anybody who adds a run of so many nodes. Less than 0 is not at all."""
        return Room(_ease(self.runs, 1), _ease(self.nodes, nodes))

    def require(self, nodes: int) -> None:
        """Return when a run of so many nodes can ever fit.

        Errors: InvalidRequest.
        """
        if 0 < self.nodes < nodes:
            raise InvalidRequest(
                f"the runs of this account have at most {self.nodes} nodes together, this one {nodes}",
                code="TOO_MANY_NODES",
            )


NO_LIMIT = Room()


def _ease(limit: int, adding: int) -> int:
    """
    >>> _ease(0, 1), _ease(5, 1), _ease(1000, 1), _ease(1000, 100)
    (0, -1, 500, -1)
    """
    if not limit:
        return 0
    return limit // 2 if limit >= _LARGE * adding else -1


async def hold_account(connection: Connection, account: str) -> None:
    """Wait for whoever adds to the account, and let others wait until this transaction ends."""
    await connection.execute(SQL["hold_account"], account)


async def no_room(connection: Connection, account: str, room: Room, nodes: int) -> TooMany:
    """The error of an account without room for a run of so many nodes.

    When to come again follows from how many of its runs ended in the last minute.
    """
    row = await connection.fetchrow(SQL["account_load"], account)
    assert row is not None
    retry_after_s = min(max(1.0, _LONGEST_S / row["ended"]), _LONGEST_S) if row["ended"] else _LONGEST_S
    if 0 < room.nodes < row["nodes"] + nodes:
        text = f"the runs of this account that are not over have {row['nodes']} nodes, and may have {room.nodes}"
        return TooMany(f"{text}; wait for some to end", code="TOO_MANY_NODES", retry_after_s=retry_after_s)
    text = f"{row['runs']} runs of this account are not over, and it may have {room.runs}; wait for some to end"
    return TooMany(text, code="TOO_MANY_RUNS", retry_after_s=retry_after_s)
