"""Programs that take all they can get, all at once, beside one that does its work."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from pupload.config import WorkerConfig
from pupload.flow.plan import Reason
from pupload.protocol import Assignment, Finish, Outcome
from tests.integration.worker.conftest import serving
from tests.support.fake_controller import MB, FakeController, an_assignment, an_output, shell

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

FULL = "I/O error"
End = tuple[Reason | None, str]
"""The reason, None for success, and some words of the message."""

TOO_LONG = (Reason.TIMEOUT, "longer than its timeout")

ATTACKS: dict[str, tuple[str, End]] = {
    "forks": ("f() { f | f & }; f; exec sleep 60", TOO_LONG),
    "zombies": ("i=0; while [ $i -lt 400 ]; do (true &); i=$((i+1)); done; true", (None, "")),
    "all cores": ("for i in 1 2 3 4; do (while true; do true; done) & done; wait", TOO_LONG),
    "memory": ("tail /dev/zero", (Reason.OOM, "out of memory")),
    "/tmp": ("head -c 65m /dev/zero > /tmp/x", (Reason.EXIT, FULL)),
    "shared memory": ("head -c 9m /dev/zero > /dev/shm/x", (Reason.EXIT, FULL)),
    "the disk": ("head -c 20m /dev/zero > /pup/out/rest; sleep 60", (Reason.POLICY, "its tier t-test has 16mb")),
    "lines": ("yes", TOO_LONG),
    "nothing but NUL": ("cat /dev/zero", TOO_LONG),
    "no line": ("cat /dev/zero | tr '\\0' x", TOO_LONG),
    "long lines": ("while true; do head -c 16000 /dev/zero | tr '\\0' x; echo; done >&2", TOO_LONG),
    "no output at all": ("exec >&- 2>&-; exit 0", (None, "")),
    "deaf to TERM": ("trap '' TERM; (trap '' TERM; sleep 60) & while true; do sleep 1; done", TOO_LONG),
    "137 of its own": ("exit 137", (Reason.INFRA, "ended from outside")),
    "descriptors": ('i=10; while true; do eval "exec $i</dev/null" || exit 3; i=$((i+1)); done', (Reason.EXIT, "")),
}


def attack(script: str, end: End) -> Assignment:
    timeout_s = 3.0 if end is TOO_LONG else 120.0
    return an_assignment(
        *shell(script), timeout_s=timeout_s, memory_bytes=128 * MB, outputs=[an_output(required=False)]
    )


def is_so(finish: Finish, expected: End) -> bool:
    reason, says = expected
    if reason is None:
        return finish.outcome is Outcome.SUCCEEDED
    return finish.reason is reason and says in finish.message


@contextlib.asynccontextmanager
async def growth() -> AsyncIterator[list[int]]:
    """How much more memory this process, which is the worker, holds at the most, in the list's one entry."""
    process, most = psutil.Process(), [0]
    before = process.memory_info().rss

    async def look() -> None:
        while True:
            most[0] = max(most[0], process.memory_info().rss - before)
            await asyncio.sleep(0.05)

    looking = asyncio.create_task(look())
    yield most
    looking.cancel()
    await asyncio.wait({looking})


@pytest.mark.parametrize("names", [tuple(ATTACKS)[at : at + 4] for at in range(0, len(ATTACKS), 4)], ids="+".join)
async def test_who_takes_all_it_can_get_is_ended_and_its_neighbour_is_not(
    names: tuple[str, ...], controller: FakeController, config: WorkerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pupload.worker.ending.LOOK_S", 0.5)
    neighbour = an_assignment(
        *shell("echo here; until [ -e /pup/session/go ]; do sleep 0.2; done; cat $INPUT_IN > $OUTPUT_OUT"),
        inputs=[controller.input("in", b"work\n")], outputs=[an_output()], folders=[controller.folder("session")],
        timeout_s=200.0,
    )  # fmt: skip
    nodes = {name: attack(script, end) for name, (script, end) in ATTACKS.items() if name in names}
    async with serving(config), growth() as most:
        await controller.offer(neighbour)
        await controller.until(lambda: bool(controller.lines))
        await controller.offer(*nodes.values())
        ends = {name: await controller.finish_of(node, within_s=150) for name, node in nodes.items()}
        assert neighbour.ref not in [finish.ref for finish in controller.finishes]
        await asyncio.to_thread(_let_go, config.work_dir)
        done = await controller.finish_of(neighbour)
    wrong = {
        name: f"{end.outcome} {end.reason} {end.message}"
        for name, end in ends.items()
        if not is_so(end, ATTACKS[name][1])
    }
    assert wrong == {}
    assert controller.store.objects[done.outputs[0].key] == b"work\n"
    assert most[0] < 200 * MB
    logs = [len(body) for key, body in controller.store.objects.items() if key.endswith("/log")]
    assert max(logs, default=0) < 16 * MB


def _let_go(work_dir: Path) -> None:
    (folder,) = work_dir.glob("*/folders/session")
    (folder / "go").touch()
