"""Workers that run nothing: each attempt they are given has succeeded at once, so that only the control plane works.

    python scripts/load_fleet.py URL TOKEN SEATS SECONDS RATE OUT

`SEATS` attempts are under way at any time; each finish asks for the next. They end as soon as they have begun, or at
that RATE, a second of all together. What was seen goes to the file OUT as JSON.
Lean on purpose: it shares the machine with what it measures.
"""

import asyncio
import json
import re
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

GIB = 1024**3
BEAT_S = 5.0
SEAT = {"Cpu": 1.0, "MemoryBytes": GIB, "DiskBytes": 10 * GIB, "Gpus": []}
INSTANCE = "load"
HASH = "0" * 64
_LENGTH = re.compile(rb"(?i)content-length: (\d+)")


def capacity(seats: int) -> dict[str, object]:
    """Room for that many of the smallest tier."""
    return {"Cpu": float(seats), "MemoryBytes": seats * GIB, "DiskBytes": seats * 10 * GIB, "Gpus": []}


class Wire:
    """A connection, and as much of HTTP as the controller answers with: a library takes longer over an answer than the
    controller takes to give it."""

    def __init__(self, host: str, port: int, token: str) -> None:
        self._place = host, port
        self._head = f"HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {token}\r\n"
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, verb: str, body: dict[str, object]) -> dict[str, Any]:
        """What is answered. Errors: RuntimeError."""
        reader, writer = self._streams = self._streams or await asyncio.open_connection(*self._place)
        content = json.dumps(body).encode()
        more = f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        writer.write(f"POST /api/v1/worker/{verb} {self._head}{more}".encode() + content)
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        said = await reader.readexactly(int(length[1])) if length else b""
        if not head.startswith(b"HTTP/1.1 2"):
            raise RuntimeError(f"{verb}: {head[9:12]!r} {said[:300]!r}")
        return dict(json.loads(said)) if said else {}


class Fleet:
    """All seats, as one worker."""

    def __init__(self, wires: list[Wire], seats: int, rate: float) -> None:
        self._wires, self._seats, self._every_s = wires, seats, seats / rate if rate else 0.0
        self.held: dict[str, dict[str, Any]] = {}
        self.finished_at: list[float] = []
        self.finishes_s: list[float] = []
        """Of each, with the claim of the next attempt."""

    async def hello(self) -> None:
        """Introduce the worker."""
        told = {"Name": "load", "Instance": INSTANCE, "Version": "0"}
        await self._wires[-1].post("hello", {**told, "Capacity": capacity(self._seats)})

    async def beat(self) -> None:
        """Keep the leases, for ever."""
        while True:
            refs = list(self.held.values())
            told = {"Instance": INSTANCE, "Attempts": refs, "Free": capacity(0), "Draining": False, "WaitS": 0.0}
            await self._wires[-1].post("beat", told)
            await asyncio.sleep(BEAT_S)

    async def sit(self, seat: int) -> None:
        """One seat: claim, finish with the next claim, for ever."""
        wire, given = self._wires[seat], list[dict[str, Any]]()
        due = time.monotonic() + self._every_s * seat / self._seats
        while True:
            if not given:
                claim = {"Instance": INSTANCE, "Free": SEAT, "Most": 1, "WaitS": 5.0}
                given = (await wire.post("claim", claim))["Assignments"]
                continue
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due, time.monotonic() - 1) + self._every_s
            given = await self._finish(wire, given.pop())

    async def _finish(self, wire: Wire, assignment: dict[str, Any]) -> list[dict[str, Any]]:
        ref = assignment["Ref"]
        self.held[ref["Lease"]] = ref
        outputs = [
            {
                "Edge": output["Edge"], "Key": "k", "SizeBytes": 1, "SHA256": HASH, "ContentType": "text/plain",
                "Etag": "e",
            }
            for output in assignment["Outputs"]
        ]  # fmt: skip
        inputs = [
            {"Edge": each["Edge"], "SizeBytes": 1, "SHA256": HASH, "ContentType": "text/plain"}
            for each in assignment["Inputs"]
        ]
        told = {
            "Ref": ref, "Outcome": "succeeded", "ExitCode": 0, "Outputs": outputs, "Inputs": inputs,
            "Next": {"Instance": INSTANCE, "Free": SEAT, "Most": 1, "WaitS": 0.0},
        }  # fmt: skip
        asked = time.monotonic()
        answer = await wire.post("finish", told)
        self.finishes_s.append(time.monotonic() - asked)
        self.finished_at.append(time.time())
        self.held.pop(ref["Lease"], None)
        return list(answer["Assignments"])


async def work(url: str, token: str, seats: int, seconds: float, rate: float) -> dict[str, list[float]]:
    """What was seen in that time."""
    place = urlsplit(url)
    fleet = Fleet([Wire(str(place.hostname), place.port or 80, token) for _ in range(seats + 1)], seats, rate)
    await fleet.hello()
    working = [asyncio.create_task(fleet.beat()), *(asyncio.create_task(fleet.sit(seat)) for seat in range(seats))]
    done, _ = await asyncio.wait(working, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for each in working:
        each.cancel()
    await asyncio.gather(*working, return_exceptions=True)
    for each in done:
        each.result()
    return {"finished_at": fleet.finished_at, "finishes_s": fleet.finishes_s, "cpu_s": [time.process_time()]}


if __name__ == "__main__":
    seen = asyncio.run(work(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5])))
    Path(sys.argv[6]).write_text(json.dumps(seen))
