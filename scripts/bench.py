"""Our own times for a chain of ten and a fan-out of twenty, beside what Docker alone costs in the same run.

    python scripts/bench.py [ROUNDS]        five rounds when not told

Files of 1 MB go through the store. Each round takes every way of every shape once, one after the other, so that a
slower hour of the machine slows all of them; ratios are of one round, medians of all rounds.
"""

import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import docker
from bench_floor import CHAIN, FAN, IMAGE, Copy, by_api, by_cli, chain, fan, seconds
from footprint import Footprint
from probe import ready

from tests.support.minio_stand_in import MinioStandIn
from tests.support.s3_servers import an_rclone

PORT = 18234
URL = f"http://127.0.0.1:{PORT}"
CONTENT = os.urandom(1 << 20)
UPLOADS = 20
RESTARTS = 5
RUN_S = 120

SHAPES: dict[str, Callable[[Copy, Path], None]] = {"chain of ten": chain, "fan-out of twenty": fan}


# --- the flows -----------------------------------------------------------------------------------------------------


def _definition(name: str, inputs: list[str], tier: str = "c-nano") -> dict[str, object]:
    return {
        "Publisher": "bench", "Name": name, "Image": IMAGE, "Tier": tier,
        "Inputs": [{"Name": port, "Required": True, "Type": ["*/*"]} for port in inputs],
        "Outputs": [{"Name": "out", "Required": True, "Type": ["*/*"]}],
        "Command": {"Name": "copy", "Exec": f"cp ${{{inputs[0]}}} ${{out}}"},
    }  # fmt: skip


def _node(name: str, uses: str, inputs: dict[str, str], output: str) -> dict[str, object]:
    bound = [{"Name": port, "Edge": edge} for port, edge in inputs.items()]
    return {"ID": name, "Uses": f"bench/{uses}", "Inputs": bound, "Outputs": [{"Name": "out", "Edge": output}]}


def _flow(name: str, nodes: list[dict[str, object]], *definitions: dict[str, object]) -> dict[str, object]:
    return {"Flow": {"Name": name, "Nodes": nodes}, "NodeDefs": list(definitions)}


def chain_flow(length: int, tier: str = "c-nano") -> dict[str, object]:
    nodes = [_node(f"n{i}", "copy", {"in": f"f{i}"}, f"f{i + 1}") for i in range(length)]
    return _flow(f"bench-chain-{length}", nodes, _definition("copy", ["in"], tier))


def fan_flow() -> dict[str, object]:
    parts = {f"in{k}": f"part{k}" for k in range(FAN)}
    nodes = [
        _node("first", "copy", {"in": "f0"}, "shared"),
        *(_node(f"n{k}", "copy", {"in": "shared"}, f"part{k}") for k in range(FAN)),
        _node("last", "join", parts, "joined"),
    ]
    return _flow("bench-fan", nodes, _definition("copy", ["in"]), _definition("join", list(parts)))


OURS = {"chain of ten": chain_flow(CHAIN), "fan-out of twenty": fan_flow()}


# --- our own server --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Served:
    """A `pup dev` that is ready. Units: seconds from its start until then."""

    pid: int
    ready_after: float


@contextmanager
def server(data: Path, **environment: str) -> Iterator[Served]:
    """A `pup dev` on `data`, ready for use, with this in its environment besides."""
    began = time.perf_counter()
    pup = Path(sys.executable).parent / "pup"
    with (data.parent / "server.log").open("ab") as log:
        running = subprocess.Popen(
            [pup, "dev", "--port", str(PORT), "--data", data],
            stdout=log, stderr=log, env={**os.environ, **environment},
        )  # fmt: skip
    try:
        if not ready(URL, 60, running.pid):
            raise RuntimeError((data.parent / "server.log").read_text()[-4000:])
        yield Served(running.pid, time.perf_counter() - began)
    finally:
        running.terminate()
        running.wait(timeout=60)


@dataclass(frozen=True, slots=True)
class Ran:
    """One run as its client saw it. Units: seconds; `uploaded_at` as `time.time()` tells it."""

    id: str
    took: float
    uploaded_at: float


async def run(client: aiohttp.ClientSession, flow: dict[str, object]) -> Ran:
    """Posts `flow`, uploads its input, and waits for its end."""
    began = time.perf_counter()
    run_id, put_url = await begin(client, flow)
    async with client.put(put_url, data=CONTENT) as answer:
        await answer.read()
        answer.raise_for_status()
    uploaded_at = time.time()
    await completed(client, run_id)
    return Ran(id=run_id, took=time.perf_counter() - began, uploaded_at=uploaded_at)


async def begin(client: aiohttp.ClientSession, flow: dict[str, object]) -> tuple[str, str]:
    """A run of `flow`, and where its input is uploaded to."""
    async with client.post("/api/v1/flow/test", json=flow) as answer:
        begun: dict[str, Any] = await answer.json()
    return begun["ID"], begun["WaitingURLs"][0]["PutURL"]


async def completed(client: aiohttp.ClientSession, run_id: str) -> None:
    """Returns when the run is complete.

    Errors: RuntimeError for one that ends otherwise.
    """
    async with asyncio.timeout(RUN_S):
        status = await _end(client, run_id)
    if status != "COMPLETE":
        raise RuntimeError(f"run {run_id} ended as {status}")


async def _end(client: aiohttp.ClientSession, run_id: str) -> str:
    """The status with which the run ends, told by its events: asking again and again would take time from the run."""
    async with client.get(f"/api/v1/runs/{run_id}/events", params={"types": "run_completed"}) as stream:
        await stream.read()
    async with client.get(f"/api/v1/flow/status/{run_id}") as answer:
        return str((await answer.json())["Status"])


async def start_latency(client: aiohttp.ClientSession) -> float:
    """Seconds from the answer to an upload until its node was started."""
    ran = await run(client, chain_flow(1))
    async with client.get(f"/api/v1/runs/{ran.id}/events", params={"types": "node_started"}) as stream:
        async for line in stream.content:
            if line.startswith(b"data:") and (event := json.loads(line[5:]))["Type"] == "node_started":
                return datetime.fromisoformat(event["Time"]).timestamp() - ran.uploaded_at
    raise RuntimeError(f"run {ran.id} tells of no started node")


async def start_latencies(client: aiohttp.ClientSession) -> list[float]:
    return [await start_latency(client) for _ in range(UPLOADS)]


# --- the measurement -------------------------------------------------------------------------------------------------

Times = dict[tuple[str, str], list[float]]
"""(shape, way) → seconds of each round."""


async def measure(rounds: int) -> tuple[Times, list[float]]:
    """The times of every shape by every way, and the upload-to-start latencies."""
    times: Times = {(shape, way): [] for shape in SHAPES for way in ("docker CLI", "engine API", "pupload")}
    connections = aiohttp.TCPConnector(limit=4)
    async with aiohttp.ClientSession(URL, connector=connections, raise_for_status=True) as client:
        await run(client, chain_flow(1))
        for _ in range(rounds):
            for shape, work in SHAPES.items():
                times[shape, "docker CLI"].append(await asyncio.to_thread(seconds, work, by_cli, CONTENT))
                with by_api() as copy:
                    times[shape, "engine API"].append(await asyncio.to_thread(seconds, work, copy, CONTENT))
                times[shape, "pupload"].append((await run(client, OURS[shape])).took)
        return times, await start_latencies(client)


async def with_minio(folder: Path) -> list[float]:
    """The upload-to-start latencies where MinIO's bucket events tell of uploads, as the tests' stand-in speaks them."""
    with an_rclone() as behind:
        address = behind.new_bucket("minio")
        async with MinioStandIn(behind.endpoint).serving() as stand_in:
            store = {
                "name": "default", "type": "minio", "endpoint": stand_in.endpoint, "bucket": address.bucket,
                "access_key": address.access_key, "secret_key": address.secret_key, "secure": False,
            }  # fmt: skip
            return await asyncio.to_thread(_latencies_with, folder, json.dumps([store]))


def _latencies_with(folder: Path, stores: str) -> list[float]:
    with server(folder, PUPLOAD_STORES=stores):
        return asyncio.run(_warm_latencies())


async def _warm_latencies() -> list[float]:
    async with aiohttp.ClientSession(URL, raise_for_status=True) as client:
        await run(client, chain_flow(1))
        return await start_latencies(client)


def restarts(data: Path) -> list[float]:
    """Seconds until `pup dev` is ready on data that it has seen before."""
    taken = []
    for _ in range(RESTARTS):
        with server(data) as served:
            taken.append(served.ready_after)
    return taken


# --- the report ------------------------------------------------------------------------------------------------------


def machine() -> str:
    with closing(docker.from_env()) as engine:
        docker_version = engine.version()["Version"]
    cli = subprocess.run(["docker", "--version"], check=True, capture_output=True, text=True).stdout.strip()
    loads = " ".join(f"{load:.2f}" for load in os.getloadavg())
    python = platform.python_version()
    return f"{os.cpu_count()} cores, load {loads}; engine {docker_version}, {cli}; Python {python}"


def table(times: Times) -> str:
    lines = [f"{'shape':<20}{'way':<12}{'median s':>10}{'min s':>9}{'max s':>9}{'ratio to CLI':>14}"]
    for (shape, way), taken in times.items():
        ratio = statistics.median(a / b for a, b in zip(taken, times[shape, "docker CLI"], strict=True))
        lines.append(
            f"{shape:<20}{way:<12}{statistics.median(taken):>10.3f}{min(taken):>9.3f}{max(taken):>9.3f}{ratio:>14.2f}"
        )
    return "\n".join(lines)


def spread(what: str, taken: list[float]) -> str:
    in_ms = [second * 1000 for second in taken]
    median, low, high = statistics.median(in_ms), min(in_ms), max(in_ms)
    return f"{what}: median {median:.0f} ms, {low:.0f} to {high:.0f} ms, {len(taken)} times"


def main(rounds: int) -> None:
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(prefix="pupload-bench-") as folder:
        data = Path(folder) / "data"
        with server(data) as first:
            times, latencies = asyncio.run(measure(rounds))
            after = Footprint.of(first.pid)
        print(f"\n{table(times)}\n({rounds} rounds, 1 MB files)\n")
        print(spread("upload to node start, embedded store", latencies))
        print(spread("upload to node start, MinIO's events", asyncio.run(with_minio(Path(folder) / "minio"))))
        print(f"memory after these runs: {after}")
        print(spread("pup dev ready, first start", [first.ready_after]))
        print(spread("pup dev ready, later starts", restarts(data)), flush=True)
    print(f"load at the end: {os.getloadavg()[0]:.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
