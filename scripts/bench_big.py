"""A large file through a node, beside what curl moves to and from the same store in the same run.

    python scripts/bench_big.py [ROUNDS] [MEGABYTES]        three rounds of 1024 MB when not told

curl downloads an object to a file, `cp` copies that, and curl uploads the copy: what a node does that copies its input
to its output, with the same store, and without a container, a check of any byte, or a word to anybody.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
from bench import URL, begin, chain_flow, completed, machine, run, server
from footprint import Watching, worker_of

from pupload.stores.base import StoreAddress
from pupload.stores.embedded import BUCKET
from pupload.stores.keeping import kept
from pupload.stores.rclone import HOST
from pupload.stores.s3 import S3Store

_PIECE = os.urandom(1 << 20)
_GOOD_FOR_S = 3600
_FROM, _TO = "bench/from", "bench/to"
_TIER = "c-medium"
"""With memory for the file: what a program writes beyond that is read from the disk again to be stored."""


def curl(*arguments: str | Path) -> None:
    subprocess.run(["curl", "--silent", "--show-error", "--fail", "-H", "Expect:", *arguments], check=True)


def upload(url: str, file: Path) -> None:
    curl("--upload-file", file, url, "--output", "/dev/null")


def embedded(data: Path) -> S3Store:
    """A client of the store that the server on `data` has."""
    keeping = kept(data / "store" / "server.json")
    assert keeping is not None
    endpoint = f"{HOST}:{keeping.port}"
    return S3Store(StoreAddress("bench", "s3", endpoint, BUCKET, keeping.access_key, keeping.secret_key, secure=False))


def curls_way(store: S3Store, folder: Path) -> float:
    """Seconds for download, copy and upload by curl and cp."""
    upload(store.sign_put(_FROM, _GOOD_FOR_S, public=False).url, folder / "file")
    get = store.sign_get(_FROM, _GOOD_FOR_S, public=False)
    put = store.sign_put(_TO, _GOOD_FOR_S, public=False).url
    began = time.perf_counter()
    curl("--output", folder / "got", get)
    subprocess.run(["cp", folder / "got", folder / "copied"], check=True)
    upload(put, folder / "copied")
    taken = time.perf_counter() - began
    (folder / "got").unlink()
    (folder / "copied").unlink()
    return taken


async def our_way(client: aiohttp.ClientSession, folder: Path) -> float:
    """Seconds from the end of the upload until the run is complete."""
    run_id, put_url = await begin(client, chain_flow(1, _TIER))
    await asyncio.to_thread(upload, put_url, folder / "file")
    began = time.perf_counter()
    await completed(client, run_id)
    taken = time.perf_counter() - began
    await client.delete(f"/api/v1/runs/{run_id}")
    return taken


def make(file: Path, megabytes: int) -> None:
    with file.open("wb") as content:
        for _ in range(megabytes):
            content.write(_PIECE)


async def warm() -> None:
    """A run of a small file: what is loaded for the first of all is no part of the figures."""
    async with aiohttp.ClientSession(URL, raise_for_status=True) as client:
        await run(client, chain_flow(1))


async def measure(folder: Path, data: Path, rounds: int) -> list[tuple[float, float]]:
    """(curl's seconds, ours) of each round.

    Both begin when the file was just uploaded, and write it three times, to memory that the other has given back: on a
    virtual machine such as nobody has used yet costs more than either way takes. The first round, which meets that, is
    not counted.
    """
    store = embedded(data)
    taken = []
    try:
        async with aiohttp.ClientSession(URL, raise_for_status=True) as client:
            for _ in range(rounds + 1):
                by_curl = await asyncio.to_thread(curls_way, store, folder)
                await store.delete([_FROM, _TO])
                os.sync()
                taken.append((by_curl, await our_way(client, folder)))
                os.sync()
    finally:
        await store.close()
    return taken[1:]


def main(rounds: int, megabytes: int) -> None:
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(prefix="pupload-bench-") as name:
        folder = Path(name)
        make(folder / "file", megabytes)
        data = folder / "data"
        with server(data) as served:
            asyncio.run(warm())
            with Watching(worker_of(served.pid)) as memory:
                taken = asyncio.run(measure(folder, data, rounds))
    curls, ours = [statistics.median(way) for way in zip(*taken, strict=True)]
    ratio = statistics.median(by_curl / by_us for by_curl, by_us in taken)
    print(f"{megabytes} MB through a node, {rounds} rounds: curl {curls:.2f} s, pupload {ours:.2f} s")
    print(f"moved at {100 * ratio:.0f} % of curl's rate ({', '.join(f'{a / b:.2f}' for a, b in taken)})")
    print(f"worker's memory: {memory.least} MB idle, {memory.most} MB at most, {memory.most - memory.least} MB more")


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    main(*(given + [3, 1024][len(given) :]))
