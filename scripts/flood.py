"""Ten times more runs than a small system takes, for as long as asked: what was accepted ends, the rest was told when.

    python scripts/flood.py [ROUNDS] [PATIENT]        twenty rounds of a hundred runs, ten patient ones when not told

A controller in this process, a real PostgreSQL and store, and a worker that only says that it is done.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

import asyncpg

from pupload.stores.embedded import EmbeddedStore
from tests.support.controller import a_controller
from tests.support.flood import SETTINGS, Flood, flood
from tests.support.postgres import a_database, a_postgres

_LONGEST_S = 900
_MB = 1024**2


def problems(came: Flood) -> list[str]:
    """What did not hold, as sentences."""
    found = []
    if came.hasty:
        found.append(f"{came.hasty} refusals did not say when to come again")
    if came.memory_after > 1.1 * came.memory_before + 30 * _MB:
        found.append(f"memory went from {came.memory_before // _MB} MB to {came.memory_after // _MB} MB")
    return found


async def main(server: str, rounds: int, patient: int) -> list[str]:
    """What did not hold in a flood of so many rounds."""
    with tempfile.TemporaryDirectory(prefix="pup-flood-") as folder:
        store = await EmbeddedStore.start(Path(folder))
        try:
            async with a_database(server) as dsn, a_controller(dsn, store, Path(folder), **SETTINGS) as controller:
                async with asyncio.timeout(_LONGEST_S):
                    came = await flood(controller, rounds=rounds, patient=patient)
                stored = await _stored(dsn)
        finally:
            await store.close()
    print(f"offered {came.offered}, accepted and ended {len(came.accepted)}, refused {dict(came.told)}")
    print(f"beside them {len(came.patient)} patient runs ended")
    print(f"memory {came.memory_before // _MB} MB before, {came.memory_after // _MB} MB after")
    left = [] if stored == len(came.accepted) + len(came.patient) else [f"{stored} runs are stored"]
    return problems(came) + left


async def _stored(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM runs"))
    finally:
        await connection.close()


if __name__ == "__main__":
    given = [int(each) for each in sys.argv[1:]]
    with a_postgres() as server:
        wrong = asyncio.run(main(server, *(given + [20, 10][len(given) :])))
    sys.exit("\n".join(wrong) or 0)
