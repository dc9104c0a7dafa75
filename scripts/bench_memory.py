"""How much memory a server takes at first, and after many runs.

python scripts/bench_memory.py [RUNS]        1,000 runs of one node when not told, eight at a time
"""

import asyncio
import sys
import tempfile
from pathlib import Path

import aiohttp
from bench import URL, chain_flow, machine, run, server
from footprint import Footprint

_AT_ONCE = 8
_SETTLED_S = 5
"""After the first run: a worker that has just begun is not idle."""


async def grow(pid: int, runs: int) -> None:
    """Tells the footprint before all runs, after a fifth of them, and after all."""
    gate, flow = asyncio.Semaphore(_AT_ONCE), chain_flow(1)
    async with aiohttp.ClientSession(URL, raise_for_status=True) as client:

        async def one() -> None:
            async with gate:
                await run(client, flow)

        await one()
        await asyncio.sleep(_SETTLED_S)
        print(f"idle: {Footprint.of(pid)}", flush=True)
        for count, so_far in ((runs // 5, runs // 5), (runs - runs // 5, runs)):
            await asyncio.gather(*(one() for _ in range(count)))
            print(f"after {so_far} runs: {Footprint.of(pid)}", flush=True)


def main(runs: int) -> None:
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(prefix="pupload-bench-") as folder, server(Path(folder) / "data") as served:
        asyncio.run(grow(served.pid, runs))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
