"""What the rows say of all runs once a soak is over."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import asyncpg

from tests.support.history import History
from tests.support.soak.report import Ended

_RUNS = """
SELECT id, flow_name, status, coalesce(failure->>0, '') AS code,
       coalesce(failure->>1, '') AS message, parent_run, idempotency_key,
       extract(epoch FROM created_at)::float8 AS began, extract(epoch FROM finished_at)::float8 AS ended
FROM runs
"""
_ATTEMPTS = "SELECT state, coalesce(reason, '') AS reason, count(*) AS times FROM attempts GROUP BY 1, 2"
_CHARGED = """
SELECT a.run_id, r.flow_name, a.node_id, a.attempt, a.reason, a.message FROM attempts a JOIN runs r ON r.id = a.run_id
WHERE a.state = 'failed' AND a.reason NOT IN ('infra', 'lost', 'cancelled')
ORDER BY a.claimed_at
"""
_RAISED = re.compile(r"^((?:\w+\.)*\w*(?:Error|Exception|Unavailable|Defect|Interrupt|Struck|Conflict)\b.*)$")

_STRUCK = "pupload.failpoints.Struck"
_FAILED = re.compile(r"routes\.answering (request .+ failed)\n((?:  .*\n?)*)")


@dataclass(frozen=True, slots=True)
class Charged:
    """A failed attempt that the user's budget paid for."""

    run: str
    flow: str
    node: str
    attempt: int
    reason: str
    message: str

    def __str__(self) -> str:
        return f"attempt {self.attempt} of {self.node}, run {self.run} of {self.flow}, {self.reason}: {self.message}"


@dataclass(frozen=True, slots=True)
class Rows:
    """`charged` and `failed` are of flows that do not fail by themselves; `unheard` runs are named by no answer."""

    runs: list[Ended]
    attempts: dict[tuple[str, str], int]
    unheard: list[str]
    charged: list[Charged]
    failed: list[str]


async def look(dsn: str, history: History, failing: Collection[str]) -> Rows:
    """What there is now; `failing` are the flows whose nodes fail by themselves."""
    connection = await asyncpg.connect(dsn)
    try:
        runs, attempts = await connection.fetch(_RUNS), await connection.fetch(_ATTEMPTS)
        charged = await connection.fetch(_CHARGED)
    finally:
        await connection.close()
    return Rows(
        runs=[
            Ended(row["status"], row["code"], row["began"], row["ended"]) for row in runs if row["ended"] is not None
        ],
        attempts={(row["state"], row["reason"]): row["times"] for row in attempts},
        unheard=list(_unheard(runs, history)),
        charged=[Charged(*row.values()) for row in charged if row["flow_name"] not in failing],
        failed=[
            f"run {row['id']} of {row['flow_name']} came to ERROR {row['code']}: {row['message']}"
            for row in runs
            if row["status"] == "ERROR" and row["flow_name"] not in failing
        ],
    )


def _unheard(runs: list[asyncpg.Record], history: History) -> Iterator[str]:
    known = history.acknowledged
    for row in runs:
        if row["parent_run"] is None and row["id"] not in known:
            yield f"I10: run {row['id']} of key {row['idempotency_key']} stands beside the one that was answered"


def raised(logs: Iterable[str]) -> Counter[str]:
    """How often each exception stands at the end of a traceback, wherever that is indented to.

    >>> raised(["  Traceback (most recent call last):\\n    File\\n  ValueError: no\\n  ValueError: not one"])
    Counter({'ValueError: no': 1})
    """
    found = Counter[str]()
    for log in logs:
        inside = False
        for line in map(str.strip, log.splitlines()):
            inside = inside or line.startswith("Traceback ")
            if inside and (last := _RAISED.match(line)):
                found[last[1][:160]] += 1
                inside = False
    return found


def defects(logs: Iterable[str]) -> list[str]:
    """Requests that failed by a fault of ours, with what was raised; one at a failpoint is none.

    >>> defects(["… routes.answering request 7 GET /x failed\\n  Traceback …\\n  ValueError: no\\n2026-…"])
    ['request 7 GET /x failed: ValueError: no']
    """
    failed = [found for log in logs for found in _FAILED.findall(log)]
    return [
        request + ": " + trace.strip().rpartition("\n")[2].strip() for request, trace in failed if _STRUCK not in trace
    ]
