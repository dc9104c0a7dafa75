"""Images on a fake engine: one flight for all who wait, a memory of what failed, a word for each refusal."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pupload.containers.docker import Engine, Refused
from pupload.containers.images import Images, NoImage, Supply, exact_name
from pupload.containers.pace import BURST
from pupload.containers.pulling import Fault, fault_of

pytestmark = pytest.mark.unit


class FakeEngine(Engine):
    """Has no image until a pull, whose rows are as ordered."""

    def __init__(self, *rows: dict[str, Any], there: bool = False) -> None:
        self.rows = rows
        self.there = there
        self.pulls = 0
        self.looks = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def call(self, what: str, ask: Callable[[Any], Any], deadline_s: float | None = 30.0) -> Any:
        await asyncio.sleep(0)
        return ask(self)

    async def call_aside(self, what: str, ask: Callable[[Any], Any]) -> Any:
        self.pulls += 1
        await self.gate.wait()
        said = [row["error"] for row in self.rows if "error" in row]
        self.there = not said
        return "".join(said)

    def inspect_image(self, name: str) -> dict[str, Any]:
        self.looks += 1
        if not self.there:
            raise Refused(404, "no such image")
        return {"Id": "sha256:1", "RepoDigests": ["r/i@sha256:2"]}


async def test_an_image_that_is_there_is_not_pulled_and_soon_not_even_looked_for() -> None:
    images = Images(engine := FakeEngine(there=True), Supply(pull_s=1))
    found = [await images.require("i"), await images.require("i")]
    assert (found[0].id, found[0].digest, found[0]) == ("sha256:1", "sha256:2", found[1])
    assert (found[0].exact, await images.require("r/i@sha256:2")) == ("r/i@sha256:2", found[0])
    assert (engine.looks, engine.pulls) == (1, 0)


async def test_many_who_want_one_image_share_one_pull() -> None:
    engine = FakeEngine({"status": "done"})
    engine.gate.clear()
    images = Images(engine, Supply(pull_s=1))
    waiting = [asyncio.create_task(images.require("i")) for _ in range(5)]
    await asyncio.sleep(0.01)
    waiting[0].cancel()
    engine.gate.set()
    assert len({(await each).id for each in waiting[1:]}) == 1
    assert engine.pulls == 1


@pytest.mark.parametrize(
    ("said", "final"),
    [
        ("manifest for i:latest not found: manifest unknown", True),
        ("pull access denied for i, repository does not exist", True),
        ("dial tcp: lookup registry-1.docker.io: no such host", False),
        ("Get https://r/v2/: net/http: TLS handshake timeout", False),
    ],
)
async def test_a_registry_s_refusal_is_final_and_its_absence_is_not(said: str, final: bool) -> None:
    images = Images(FakeEngine({"error": said}), Supply(pull_s=1))
    with pytest.raises(NoImage, match="image i is not on this engine and cannot be pulled") as caught:
        await images.require("i")
    assert caught.value.final is final
    assert said in str(caught.value)


async def test_a_failed_pull_is_remembered_for_a_while() -> None:
    images = Images(engine := FakeEngine({"error": "not found"}), Supply(pull_s=1))
    for _ in range(3):
        with pytest.raises(NoImage):
            await images.require("i")
    assert engine.pulls == 1
    engine.there = True
    assert (await images.require("i")).id == "sha256:1"


class KnowingEngine(FakeEngine):
    """Has an image with these digests, or none and a registry that has it."""

    def __init__(self, *digests: str, there: bool = True) -> None:
        super().__init__(there=there)
        self.digests = digests

    def inspect_image(self, name: str) -> dict[str, Any]:
        return super().inspect_image(name) | {"RepoDigests": list(self.digests)}

    def inspect_distribution(self, name: str) -> dict[str, Any]:
        return {"Descriptor": {"digest": f"sha256:of-{name}"}}


@pytest.mark.parametrize(
    ("name", "digests", "means"),
    [
        ("i:1", [], "sha256:1"),
        ("i:1", ["other@sha256:2", "i@sha256:3"], "i@sha256:3"),
        ("host:5000/i", ["host:5000/i@sha256:4"], "host:5000/i@sha256:4"),
        ("mine:1", ["other@sha256:2"], "other@sha256:2"),
    ],
)
async def test_an_image_on_the_engine_is_named_by_its_digest_else_by_its_id(
    name: str, digests: list[str], means: str
) -> None:
    assert await exact_name(KnowingEngine(*digests), name, 1) == means


async def test_an_image_that_is_not_here_is_named_by_what_the_registry_has() -> None:
    engine = KnowingEngine(there=False)
    assert await exact_name(engine, "host:5000/i:1", 1) == "host:5000/i@sha256:of-host:5000/i:1"


async def test_an_id_that_is_gone_is_not_asked_of_a_registry() -> None:
    engine = FakeEngine({"status": "done"})
    with pytest.raises(NoImage) as caught:
        await Images(engine, Supply(pull_s=1)).require("sha256:" + "0" * 64)
    assert (caught.value.final, engine.pulls) == (True, 0)


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("no basic auth credentials", Fault.NAME),
        ("no matching manifest for linux/arm64 in the manifest list entries", Fault.NAME),
        ("dial tcp: lookup r.example: no such host", Fault.IMAGE),
        ("filesystem layer verification failed for digest sha256:1", Fault.IMAGE),
        ("dial tcp 10.0.0.1:443: connect: connection refused", Fault.AWAY),
        ("received unexpected HTTP status: 503 Service Unavailable", Fault.AWAY),
        ("toomanyrequests: You have reached your pull rate limit", Fault.AWAY),
        ("write /var/lib/docker/tmp/x: no space left on device", Fault.AWAY),
        ("unexpected EOF", Fault.AWAY),
    ],
)
def test_each_word_of_an_engine_says_whose_fault_it_is(said: str, fault: Fault) -> None:
    assert fault_of(said) is fault


async def test_the_memory_of_a_failure_grows_with_each(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("pupload.containers.images.time.monotonic", lambda: now)
    images = Images(engine := FakeEngine({"error": "manifest unknown"}), Supply(pull_s=1, pulls_per_minute=6000))
    pulls = []
    for later_s in (0, 16, 16, 16, 200):
        now += later_s
        with pytest.raises(NoImage):
            await images.require("i")
        pulls.append(engine.pulls)
    assert pulls == [1, 2, 2, 3, 4]


async def test_a_flood_of_names_waits_its_turn_or_is_turned_away() -> None:
    images = Images(engine := FakeEngine({"error": "not found"}), Supply(pull_s=1, pulls_per_minute=1))
    failed = await asyncio.gather(*(images.require(f"r.example/i:{n}") for n in range(30)), return_exceptions=True)
    away = [each for each in failed if isinstance(each, NoImage) and each.fault is Fault.AWAY]
    assert (engine.pulls, len(away)) == (BURST + 1, 30 - BURST - 1)
    assert "too many pulls from r.example are waiting" in str(away[0])


async def test_what_tags_mean_is_told_while_it_is_fresh() -> None:
    images = Images(FakeEngine(there=True), Supply(pull_s=1))
    image = await images.require("i:1")
    await images.require("r/i@sha256:2")
    assert images.means() == {"i:1": "r/i@sha256:2"}
    images.forget(image.id)
    assert images.means() == {}
