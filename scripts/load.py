"""What the control plane bears, and how that grows: real controller, PostgreSQL and HTTP; workers that run nothing.

    python scripts/load.py [SECONDS] [--json FILE] [--plot FILE.svg]

All of it shares one machine: the controller, its database, the workers (scripts/load_fleet.py) and whoever measures.
Units: seconds, unless a name says otherwise.
"""

import asyncio
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import psutil  # type: ignore[import-untyped]
from load_fleet import INSTANCE, SEAT, Wire, capacity
from probe import ready

PORT = 18236
URL = f"http://127.0.0.1:{PORT}"
SEATS = 64
NODES = 20
IN_FLIGHT = (10, 100, 1000)
QUEUED = (0, 1_000, 5_000, 20_000)
LISTENERS = (10, 100, 500)
RATES = (100, 250, 500)
STATUS_EVERY_S = 0.05
CLAIMS = 200
IDLE = (10, 100, 1000)
ATTEMPTS = 20
HELLO: dict[str, object] = {"Name": "load", "Instance": INSTANCE, "Version": "0", "Capacity": capacity(1)}
UNLIMITED = {
    "PUPLOAD_REQUESTS_PER_S": "0",
    "PUPLOAD_REQUESTS_AT_ONCE": "0",
    "PUPLOAD_ACTIVE_RUNS": "0",
    "PUPLOAD_ACTIVE_NODES": "0",
    "PUPLOAD_MAX_CONNECTIONS": "10000",
}


@dataclass(frozen=True, slots=True)
class Pace:
    """How quickly it answers at a pace that was asked for, and whether it kept that."""

    reached_per_s: float
    status_p99_s: float
    events_p99_s: float
    """From an event's time to its listener."""
    finish_p95_s: float
    """From an attempt's end to the next attempt."""


@dataclass(slots=True)
class Figures:
    """What was measured, each by the load that it was measured under."""

    completions_per_s: dict[int, float] = field(default_factory=dict)
    """By runs in flight."""
    cpu_ms: dict[int, dict[str, float]] = field(default_factory=dict)
    """Of one completion, by runs in flight and process."""
    by_rate: dict[int, Pace] = field(default_factory=dict)
    """By completions a second, before the most listeners."""
    by_listeners: dict[int, Pace] = field(default_factory=dict)
    """By listeners, at the middle rate."""
    claim_p50_s: dict[int, float] = field(default_factory=dict)
    claim_p95_s: dict[int, float] = field(default_factory=dict)
    """By attempts queued."""
    idle_p50_s: dict[int, float] = field(default_factory=dict)
    """From a request to the attempt at its worker, by workers that wait for work."""
    idle_cpu_ms: dict[int, float] = field(default_factory=dict)
    """The controller's, of one such attempt."""


# --- flows -----------------------------------------------------------------------------------------------------------


def _definition(name: str, inputs: Sequence[str]) -> dict[str, object]:
    return {
        "Publisher": "load", "Name": name, "Image": "none", "Tier": "c-nano",
        "Inputs": [{"Name": port, "Required": True, "Type": ["*/*"]} for port in inputs],
        "Outputs": [{"Name": "out", "Required": True, "Type": ["*/*"]}],
        "Command": {"Name": "run", "Exec": "true ${out}"},
    }  # fmt: skip


def chain(length: int) -> dict[str, object]:
    """One node after another; the first one needs nothing."""
    return _flow("load-chain", [_node(n, [f"e{n - 1}"] if n else []) for n in range(length)])


def wide(width: int) -> dict[str, object]:
    """Nodes that need nothing."""
    return _flow("load-wide", [_node(n, []) for n in range(width)])


def _node(number: int, inputs: list[str]) -> dict[str, object]:
    return {
        "ID": f"n{number}", "Uses": "load/pass" if inputs else "load/make",
        "Inputs": [{"Name": "in", "Edge": edge} for edge in inputs],
        "Outputs": [{"Name": "out", "Edge": f"e{number}"}],
    }  # fmt: skip


def _flow(name: str, nodes: list[dict[str, object]]) -> dict[str, object]:
    used = {str(node["Uses"]) for node in nodes}
    kinds = {"load/make": _definition("make", []), "load/pass": _definition("pass", ["in"])}
    return {"Flow": {"Name": name, "Nodes": nodes}, "NodeDefs": [kinds[each] for each in sorted(used)]}


# --- the system ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Running:
    """A controller over its own folder, and the token of the one worker that it knows."""

    process: subprocess.Popen[bytes]
    folder: Path
    token: str

    def cpu(self) -> dict[str, float]:
        """Seconds that controller and database have used so far."""
        database = [each for each in psutil.process_iter(["name"]) if each.info["name"] == "postgres"]
        return {
            "controller": _seconds(psutil.Process(self.process.pid)),
            "postgres": sum(_seconds(each) for each in database if self._is_ours(each)),
        }

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return bool(Path(process.cwd()).is_relative_to(self.folder))
        except psutil.Error:
            return False


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


@contextmanager
def controller() -> Iterator[Running]:
    """A controller with nothing in it."""
    pup = Path(sys.executable).parent / "pup"
    with tempfile.TemporaryDirectory(prefix="pup-load-") as folder:
        data = Path(folder) / "data"
        more = {"PUPLOAD_PORT": str(PORT), "PUPLOAD_DATA_DIR": str(data), **UNLIMITED}
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen([pup, "controller"], env={**os.environ, **more}, stdout=log, stderr=log)
        try:
            if not ready(URL, 60, process.pid):
                raise RuntimeError((Path(folder) / "log").read_text()[-4000:])
            added = subprocess.run(
                [pup, "worker-token", "add", "load", "--data", data], check=True, capture_output=True, text=True
            )
            yield Running(process, Path(folder), added.stdout.split()[-1])
        finally:
            process.terminate()
            process.wait(timeout=60)


@contextmanager
def fleet(running: Running, seconds: float, rate: float = 0) -> Iterator[Path]:
    """Workers at work, at that many completions a second, or as many as they can; the file has what they saw once the
    block has ended."""
    out = running.folder / "fleet.json"
    script = Path(__file__).with_name("load_fleet.py")
    working = subprocess.Popen([sys.executable, script, URL, running.token, str(SEATS), str(seconds), str(rate), out])
    try:
        yield out
        if working.wait(timeout=seconds + 60):
            raise RuntimeError("the workers failed")
    finally:
        working.kill()
        working.wait()


async def begin(client: aiohttp.ClientSession, flow: dict[str, object], count: int) -> list[str]:
    """The ids of that many runs of the flow."""
    gate = asyncio.Semaphore(8)

    async def one() -> str:
        async with gate, client.post("/api/v1/flow/test", json=flow) as answer:
            answer.raise_for_status()
            return str((await answer.json())["ID"])

    return list(await asyncio.gather(*(one() for _ in range(count))))


# --- what is measured ------------------------------------------------------------------------------------------------


async def throughput(figures: Figures, runs: int, seconds: float) -> None:
    """Completions a second with so many runs in flight, as many as it takes."""
    with controller() as running:
        async with aiohttp.ClientSession(URL) as client:
            # Enough of them that none is missed before the time is over.
            await begin(client, chain(NODES if runs >= 1000 else 20 * NODES), runs)
        with fleet(running, seconds) as out:
            await asyncio.sleep(seconds * 0.2)
            before, began = running.cpu(), time.time()
            await asyncio.sleep(seconds * 0.6)
            after, ended = running.cpu(), time.time()
        seen = json.loads(out.read_text())
    finished = [at for at in seen["finished_at"] if began <= at <= ended]
    figures.completions_per_s[runs] = len(finished) / (ended - began)
    figures.cpu_ms[runs] = {name: (after[name] - before[name]) / max(1, len(finished)) * 1000 for name in after}
    figures.cpu_ms[runs]["workers"] = seen["cpu_s"][0] / max(1, len(seen["finished_at"])) * 1000


async def paced(rate: int, listeners: int, seconds: float) -> Pace:
    """How quickly it answers at that many completions a second, with so many listeners to events, each to its own run.

    A thousand runs are in flight, with forty attempts each.
    """
    with controller() as running:
        async with aiohttp.ClientSession(URL, connector=aiohttp.TCPConnector(limit=0)) as client:
            ids = await begin(client, wide(40), 1000)
            late: list[float] = []
            heard_first = asyncio.Barrier(listeners + 1)
            listening = [asyncio.create_task(_listen(client, run, late, heard_first)) for run in ids[:listeners]]
            await heard_first.wait()
            with fleet(running, seconds, rate) as out:
                await asyncio.sleep(seconds * 0.2)
                late.clear()
                began = time.time()
                waited = await _statuses(client, ids, seconds * 0.6)
                ended, heard = time.time(), list(late)
            for each in listening:
                each.cancel()
            await asyncio.gather(*listening, return_exceptions=True)
        seen = json.loads(out.read_text())
    finished = [at for at in seen["finished_at"] if began <= at <= ended]
    return Pace(
        reached_per_s=len(finished) / (ended - began),
        status_p99_s=percentile(waited, 99),
        events_p99_s=percentile(heard, 99),
        finish_p95_s=percentile(seen["finishes_s"], 95),
    )


async def _statuses(client: aiohttp.ClientSession, ids: list[str], seconds: float) -> list[float]:
    waited, until = list[float](), time.monotonic() + seconds
    while time.monotonic() < until:
        asked = time.monotonic()
        async with client.get(f"/api/v1/flow/status/{ids[len(waited) % len(ids)]}") as answer:
            await answer.read()
        waited.append(time.monotonic() - asked)
        await asyncio.sleep(STATUS_EVERY_S)
    return waited


async def _listen(client: aiohttp.ClientSession, run: str, late: list[float], first: asyncio.Barrier) -> None:
    async with client.get(f"/api/v1/runs/{run}/events", timeout=aiohttp.ClientTimeout(total=None)) as stream:
        await stream.content.readline()
        await first.wait()
        async for line in stream.content:
            if line.startswith(b"data:") and b'"node_completed"' in line:
                told = datetime.fromisoformat(json.loads(line[5:])["Time"])
                late.append((datetime.now(UTC) - told).total_seconds())


async def claims(figures: Figures, queued: int) -> None:
    """How long a claim takes, by itself, with so many attempts waiting beside the one it gets."""
    with controller() as running:
        headers = {"Authorization": f"Bearer {running.token}"}
        async with aiohttp.ClientSession(URL) as client, aiohttp.ClientSession(URL, headers=headers) as worker:
            width = 100
            await begin(client, wide(width), queued // width)
            await begin(client, wide(1), 1)
            await _post(worker, "hello", HELLO)
            waited = [await _claim(worker) for _ in range(CLAIMS)]
    figures.claim_p50_s[queued], figures.claim_p95_s[queued] = statistics.median(waited), percentile(waited, 95)


async def _claim(worker: aiohttp.ClientSession) -> float:
    """Seconds of one claim; what came is given back, so that as many wait as before."""
    asked = time.monotonic()
    given = await _post(worker, "claim", {"Instance": INSTANCE, "Free": SEAT, "Most": 1, "WaitS": 5.0})
    took = time.monotonic() - asked
    for assignment in given["Assignments"]:
        await _post(worker, "finish", {"Ref": assignment["Ref"], "Outcome": "released", "Message": "measured"})
    return took


async def idle(figures: Figures, workers: int) -> None:
    """How soon one of so many workers that wait for work has an attempt, and what waking the others costs."""
    with controller() as running:
        async with aiohttp.ClientSession(URL) as client:
            await Wire("127.0.0.1", PORT, running.token).post("hello", HELLO)
            given: asyncio.Queue[float] = asyncio.Queue()
            waiting = [asyncio.create_task(_wait_for_work(running.token, given)) for _ in range(workers)]
            # Whoever looked before this one ended waits by now.
            await begin(client, wide(1), 1)
            await given.get()
            before, took = running.cpu()["controller"], []
            for _ in range(ATTEMPTS):
                asked = time.monotonic()
                await begin(client, wide(1), 1)
                took.append(await given.get() - asked)
            figures.idle_cpu_ms[workers] = (running.cpu()["controller"] - before) / ATTEMPTS * 1000
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
    figures.idle_p50_s[workers] = statistics.median(took)


async def _wait_for_work(token: str, given: asyncio.Queue[float]) -> None:
    wire, claim = Wire("127.0.0.1", PORT, token), {"Instance": INSTANCE, "Free": SEAT, "Most": 1, "WaitS": 30.0}
    ended = {"Outcome": "failed", "Reason": "exit", "Message": "measured", "Final": True}
    while True:
        for assignment in (await wire.post("claim", claim))["Assignments"]:
            given.put_nowait(time.monotonic())
            await wire.post("finish", {"Ref": assignment["Ref"], **ended})


async def _post(worker: aiohttp.ClientSession, verb: str, body: dict[str, Any]) -> dict[str, Any]:
    async with worker.post(f"/api/v1/worker/{verb}", json=body) as answer:
        answer.raise_for_status()
        return dict(await answer.json()) if answer.status == 200 else {}


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that so many percent of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


# --- how it is told --------------------------------------------------------------------------------------------------


def table(figures: Figures) -> str:
    """The figures as rows."""
    rows = [f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, {SEATS} seats"]
    for runs, rate in figures.completions_per_s.items():
        cost = ", ".join(f"{name} {ms:.1f} ms" for name, ms in figures.cpu_ms[runs].items())
        rows.append(f"{runs:6} runs in flight   {rate:7.1f} completions/s   cpu each: {cost}")
    for queued, p95 in figures.claim_p95_s.items():
        p50 = figures.claim_p50_s[queued]
        rows.append(f"{queued:6} queued           claim p50 {p50 * 1000:.1f} ms, p95 {p95 * 1000:.1f} ms")
    for workers, p50 in figures.idle_p50_s.items():
        rows.append(
            f"{workers:6} idle workers     attempt at one p50 {p50 * 1000:.0f} ms, "
            f"controller's cpu {figures.idle_cpu_ms[workers]:.0f} ms"
        )
    rows += [f"{rate:6} completions/s    {_told(pace)}" for rate, pace in figures.by_rate.items()]
    rows += [f"{listeners:6} listeners        {_told(pace)}" for listeners, pace in figures.by_listeners.items()]
    return "\n".join(rows)


def _told(pace: Pace) -> str:
    return (
        f"{pace.reached_per_s:6.1f} reached   status p99 {pace.status_p99_s * 1000:.0f} ms   "
        f"events p99 {pace.events_p99_s * 1000:.0f} ms   finish and next p95 {pace.finish_p95_s * 1000:.0f} ms"
    )


def plot(figures: Figures, path: Path) -> None:
    """How each figure grows with its load, as one picture."""
    import matplotlib.pyplot as plt

    panels: list[tuple[str, str, dict[int, float]]] = [
        ("completions a second", "runs in flight", figures.completions_per_s),
        ("claim, p95 ms", "attempts queued", _ms(figures.claim_p95_s)),
        ("attempt at one, p50 ms", "idle workers", _ms(figures.idle_p50_s)),
        ("status, p99 ms", "completions a second", _ms({r: pace.status_p99_s for r, pace in figures.by_rate.items()})),
        ("events, p99 ms", "completions a second", _ms({r: pace.events_p99_s for r, pace in figures.by_rate.items()})),
        ("events, p99 ms", "listeners", _ms({n: pace.events_p99_s for n, pace in figures.by_listeners.items()})),
    ]
    plt.rcParams["svg.fonttype"] = "none"
    picture, axes = plt.subplots(2, 3, figsize=(11, 6))
    for axis, (title, load, values) in zip(axes.flat, panels, strict=True):
        axis.plot(list(values), list(values.values()), marker="o")
        axis.set(title=title, xlabel=load, ylim=(0, 1.1 * max(values.values())))
    picture.tight_layout()
    picture.savefig(path)


def _ms(values: dict[int, float]) -> dict[int, float]:
    return {load: seconds * 1000 for load, seconds in values.items()}


async def measure(seconds: float) -> Figures:
    """Everything, one after the other."""
    figures = Figures()
    for queued in QUEUED:
        await claims(figures, queued)
    for runs in IN_FLIGHT:
        await throughput(figures, runs, seconds)
    for workers in IDLE:
        await idle(figures, workers)
    for rate in RATES:
        figures.by_rate[rate] = await paced(rate, max(LISTENERS), seconds)
    for listeners in LISTENERS:
        figures.by_listeners[listeners] = await paced(RATES[1], listeners, seconds)
    return figures


def main(arguments: list[str]) -> None:
    """See the module."""
    options = dict(itertools.pairwise(arguments))
    seconds = float(arguments[0]) if arguments and not arguments[0].startswith("-") else 20.0
    figures = asyncio.run(measure(seconds))
    sys.stdout.write(table(figures) + "\n")
    if "--json" in options:
        Path(options["--json"]).write_text(json.dumps(asdict(figures), indent=2))
    if "--plot" in options:
        plot(figures, Path(options["--plot"]))


if __name__ == "__main__":
    main(sys.argv[1:])
