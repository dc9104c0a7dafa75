"""Far more runs than a small system takes, by one who never waits; and somebody beside them who does."""

import asyncio
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from pupload.controller.keys import add_key
from tests.support.controller import ControllerUnderTest, HandWorker

RUN = {
    "Flow": {"Name": "flood", "Nodes": [{"ID": "only", "Uses": "test/nothing"}]},
    "NodeDefs": [{"Publisher": "test", "Name": "nothing", "Image": "test/nothing"}],
}
ENDED = frozenset({"COMPLETE", "ERROR", "STOPPED"})
SETTINGS = {
    "active_runs": 50,
    "account_limits": {"greedy": {"active_runs": 10}},
    # The worker does not beat: on a machine with much else to do it is slow, and not lost.
    "fence_s": 500.0,
    "lease_s": 600.0,
}
_AT_ONCE = 20
_POLL_S = 0.05
_BREATH_S = 0.2
"""All of it shares one process: without a breath, nobody else would get to do anything."""


@dataclass(slots=True)
class Flood:
    """What came of it. `told` counts the refusals by code; `hasty` those without a whole number of seconds to wait."""

    accepted: list[str] = field(default_factory=list)
    patient: list[str] = field(default_factory=list)
    told: Counter[str] = field(default_factory=Counter)
    hasty: int = 0
    memory_before: int = 0
    memory_after: int = 0

    @property
    def offered(self) -> int:
        """How many runs the greedy one asked for."""
        return len(self.accepted) + self.told.total()


async def key_of(controller: ControllerUnderTest, account: str) -> Mapping[str, str]:
    """The headers of calls for this account."""
    async with controller.running.parts.service.database.connection() as connection:
        key, _ = await add_key(connection, account, account=account)
    return {"Authorization": f"Bearer {key}"}


async def flood(controller: ControllerUnderTest, *, rounds: int, patient: int) -> Flood:
    """What came of so many rounds of a hundred runs, for an account that may have ten, beside `patient` in a row."""
    came = Flood()
    worker = await controller.worker()
    async with asyncio.TaskGroup() as group:
        working = group.create_task(_work(worker))
        await _both(controller, came, rounds, patient)
        working.cancel()
    return came


async def _both(controller: ControllerUnderTest, came: Flood, rounds: int, patient: int) -> None:
    greedy, calm = await key_of(controller, "greedy"), await key_of(controller, "calm")
    await _flood(controller, came, greedy, 100)
    came.memory_before = resident_bytes()
    beside = asyncio.create_task(_in_a_row(controller, came, calm, patient))
    while not beside.done() or came.offered < rounds * 100:
        await _flood(controller, came, greedy, 100)
        await asyncio.sleep(_BREATH_S)
    await beside
    await _all_ended(controller, came.accepted, greedy)
    came.memory_after = resident_bytes()


async def _flood(controller: ControllerUnderTest, came: Flood, greedy: Mapping[str, str], times: int) -> None:
    left = iter(range(times))

    async def pour() -> None:
        for _ in left:
            async with controller.http.post(f"{controller.url}/api/v1/runs", json=RUN, headers=greedy) as response:
                told = await response.json()
                if response.status == 202:
                    came.accepted.append(told["ID"])
                    continue
                assert response.status == 429, (response.status, told)
                came.told[told["Error"]["Code"]] += 1
                came.hasty += not 1 <= int(response.headers.get("Retry-After", "0")) <= 60

    await asyncio.gather(*(pour() for _ in range(_AT_ONCE)))


async def _in_a_row(controller: ControllerUnderTest, came: Flood, calm: Mapping[str, str], times: int) -> None:
    for _ in range(times):
        async with controller.http.post(f"{controller.url}/api/v1/runs", json=RUN, headers=calm) as response:
            assert response.status == 202, await response.text()
            came.patient.append((await response.json())["ID"])
        await _all_ended(controller, came.patient[-1:], calm)


async def _all_ended(controller: ControllerUnderTest, runs: list[str], headers: Mapping[str, str]) -> None:
    for run_id in runs:
        url = f"{controller.url}/api/v1/runs/{run_id}"
        while await _status(controller.http, url, headers) not in ENDED:  # noqa: ASYNC110 - it is another's doing
            await asyncio.sleep(_POLL_S)


async def _status(http: aiohttp.ClientSession, url: str, headers: Mapping[str, str]) -> str:
    async with http.get(url, headers=headers) as response:
        assert response.status == 200, await response.text()
        return str((await response.json())["Status"])


async def _work(worker: HandWorker) -> None:
    """Do what there is to do, for ever."""
    while True:
        claimed = await worker.claim(wait_s=5.0, most=10)
        await asyncio.gather(*(worker.finish(assignment.ref, exit_code=0) for assignment in claimed))


def resident_bytes() -> int:
    """The memory that this process has, without what it could give back at once."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
