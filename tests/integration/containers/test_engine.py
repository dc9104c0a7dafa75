"""The adapter on a real engine, and its traps."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import docker
import pytest

from pupload.containers import docker as adapter
from pupload.containers import janitor, probe
from pupload.containers.cgroup import Departures
from pupload.containers.docker import Engine, NameTaken, Refused
from pupload.containers.spec import ContainerSpec
from pupload.containers.streams import Watch
from pupload.errors import EngineUnavailable
from tests.support.claims import claim
from tests.support.docker_images import ensure_busybox
from tests.support.until import until

pytestmark = pytest.mark.integration

T = TypeVar("T")

WORKER = f"engine-test-{os.getpid()}"
OURS = {"pupload.worker": WORKER, "pupload.instance": "one"}
NAME = f"pup-{WORKER}"


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    claim(WORKER)
    ensure_busybox()
    engine = await Engine.connect()
    yield engine
    for left in await engine.list_labelled({"pupload.worker": WORKER}):
        await engine.remove(left.id)
    await engine.close()


def a_spec(*argv: str, name: str = NAME, **labels: str) -> ContainerSpec:
    return ContainerSpec(
        name=name, image="pupload/busybox:latest", uid=65532, gid=65532, memory_bytes=2**26, cpu=1,
        labels={**OURS, **labels}, argv=argv,
    )  # fmt: skip


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_a_container_whose_create_was_answered_unheard_is_adopted(engine: Engine) -> None:
    first = await engine.create(a_spec("true"))
    assert await engine.create(a_spec("true")) == first


async def test_a_name_held_by_a_foreign_container_is_not_taken(engine: Engine) -> None:
    await engine.create(a_spec("true", **{"pupload.instance": "another"}))
    with pytest.raises(NameTaken, match=f"{NAME} is held by a container that is not ours"):
        await engine.create(a_spec("true"))


async def test_an_image_that_is_not_there_is_refused_with_404(engine: Engine) -> None:
    spec = ContainerSpec(NAME, "no/such:1", 1, 1, 2**26, 1, OURS)
    with pytest.raises(Refused) as caught:
        await engine.create(spec)
    assert caught.value.status == 404


async def test_removing_what_is_gone_or_going_is_fine(engine: Engine) -> None:
    container = await engine.create(a_spec("sleep", "60"))
    await engine.start(container)
    await asyncio.gather(*(engine.remove(container) for _ in range(3)))
    await engine.remove(container)
    assert await engine.inspect(container) is None


async def test_a_broken_wait_is_not_an_exit(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    container = await engine.create(a_spec("sleep", "1"))
    await engine.start(container)
    watches = []

    async def watch(container: str) -> Watch:
        watches.append(await begin(container))
        return watches[-1]

    begin = engine.watch
    monkeypatch.setattr(engine, "watch", watch)
    over = asyncio.create_task(engine.until_exit(container))
    await until(lambda: len(watches) == 1)
    watches[0].close()
    await until(lambda: len(watches) == 2)
    assert not over.done()
    state = await over
    assert state is not None
    assert (state.status, state.exit_code) == ("exited", 0)


async def test_an_exit_that_is_over_is_seen(engine: Engine) -> None:
    container = await engine.create(a_spec("true"))
    await engine.start(container)
    first, second = await engine.until_exit(container), await engine.until_exit(container)
    assert first is not None
    assert first.ended
    assert first == second


async def test_an_engine_that_says_nothing_for_long_has_missed_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "UNREACHABLE_S", 0.5)
    container = await engine.create(a_spec("sh", "-c", "sleep 2; exit 255"))
    await engine.start(container)
    state = await engine.until_exit(container)
    assert state is not None
    assert (state.exit_code, state.missed) == (255, False)


async def test_a_container_that_is_removed_has_no_exit(engine: Engine) -> None:
    container = await engine.create(a_spec("sleep", "60"))
    await engine.start(container)
    over = asyncio.create_task(engine.until_exit(container))
    await asyncio.sleep(0.1)
    await engine.remove(container)
    assert await over is None


async def test_a_container_that_is_gone_has_no_exit(engine: Engine) -> None:
    assert await engine.until_exit("no-such-container") is None


async def test_the_kernel_tells_when_nothing_runs_any_more(engine: Engine) -> None:
    departures = Departures()
    container = await engine.create(a_spec("sleep", "60"))
    await engine.start(container)
    gone = asyncio.create_task(departures.until_empty(container, ""))
    await asyncio.sleep(0.2)
    assert not gone.done()
    await engine.kill(container)
    async with asyncio.timeout(10):
        await gone


async def test_an_engine_that_is_not_there_says_so() -> None:
    with pytest.raises(EngineUnavailable, match="did not answer to connect"):
        await Engine.connect("tcp://127.0.0.1:9")


async def test_killing_what_does_not_run_is_fine(engine: Engine) -> None:
    container = await engine.create(a_spec("true"))
    await engine.kill(container)
    await engine.kill("no-such-container")


async def test_the_janitor_takes_what_nobody_holds_and_nothing_else(engine: Engine, tmp_path: Path) -> None:
    home = {janitor.HOME: janitor.home_of(tmp_path)}
    held = await engine.create(a_spec("true", name=f"{NAME}-held", **home))
    await engine.create(a_spec("true", name=f"{NAME}-stray", **home))
    # Of a worker that goes by the same name over another directory.
    foreign = await engine.create(a_spec("true", name=f"{NAME}-foreign", **{janitor.HOME: "elsewhere"}))
    for name in (f"{NAME}-held", f"{NAME}-stray"):
        (tmp_path / name / "out").mkdir(parents=True)
    try:
        assert await janitor.sweep(engine, WORKER, tmp_path, {f"{NAME}-held"}) == 2
        assert [each.id for each in await engine.list_labelled(home)] == [held]
        assert names_in(tmp_path) == [f"{NAME}-held"]
        assert await engine.inspect(foreign) is not None
    finally:
        await engine.remove(foreign)


async def test_the_engine_sees_a_directory_of_this_machine(engine: Engine, tmp_path: Path) -> None:
    assert await probe.sees(engine, tmp_path, OURS)
    assert names_in(tmp_path) == []


async def test_what_the_engine_cannot_see_is_known(engine: Engine, tmp_path: Path) -> None:
    assert not await probe.sees(_Elsewhere(engine), tmp_path, OURS)
    assert names_in(tmp_path) == []


class _Elsewhere(Engine):
    """An engine on a machine that lacks our directories."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def call(self, what: str, ask: Callable[[docker.APIClient], T], deadline_s: float | None = 30.0) -> T:
        if what == "create the probe":
            raise Refused(400, "bind source path does not exist")
        return await self._engine.call(what, ask, deadline_s)
