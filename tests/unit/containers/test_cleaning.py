"""Room on a fake engine's disk: only what was pulled here goes, the oldest first, and never what somebody uses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pupload.containers.cleaning import Cleaning, Marks
from pupload.containers.docker import Engine, Refused
from pupload.containers.images import Image, Images, Supply
from pupload.containers.shelf import FILE, Shelf

pytestmark = pytest.mark.unit


class DiskEngine(Engine):
    """Holds images by id with their names; each takes a tenth of the disk. `used` are those of containers."""

    def __init__(self, **tags: list[str]) -> None:
        self.tags = {f"sha256:{each}": names for each, names in tags.items()}
        self.used: set[str] = set()

    async def call(self, what: str, ask: Callable[[Any], Any], deadline_s: float | None = 30.0) -> Any:
        return ask(self)

    def full(self) -> float:
        return 10.0 * len(self.tags)

    def inspect_image(self, name: str) -> dict[str, Any]:
        found = self._found(name)
        return {"Id": found, "RepoTags": list(self.tags[found]), "RepoDigests": []}

    def remove_image(self, name: str) -> None:
        found = self._found(name)
        if found in self.used:
            raise Refused(409, "a container uses it")
        if name in self.tags[found] and len(self.tags[found]) > 1:
            self.tags[found].remove(name)
        else:
            del self.tags[found]

    def _found(self, name: str) -> str:
        for each, names in self.tags.items():
            if name in {each, *names}:
                return each
        raise Refused(404, "no such image")


@pytest.fixture
def engine() -> DiskEngine:
    return DiskEngine(a=["r/a:1"], b=["r/b:latest"], c=["r/c:1"], theirs=["r/x:1"])


@pytest.fixture
async def images(engine: DiskEngine, tmp_path: Path) -> Images:
    """a, b and c were pulled here, in this order."""
    shelf = Shelf(tmp_path)
    for name, image in (("r/a:1", "sha256:a"), ("r/b", "sha256:b"), ("r/c:1", "sha256:c")):
        await shelf.end(name, image)
    return Images(engine, Supply(pull_s=1), shelf)


def cleaning(engine: DiskEngine, images: Images, high: float, low: float) -> Cleaning:
    return Cleaning(engine, images, Marks(high, low), engine.full)


async def test_nothing_goes_below_the_high_mark(engine: DiskEngine, images: Images) -> None:
    assert await cleaning(engine, images, 40, 10).look() == 0


async def test_nothing_goes_without_marks(engine: DiskEngine, images: Images) -> None:
    assert await Cleaning(engine, images, None, lambda: 100.0).look() == 0


async def test_the_oldest_go_until_the_low_mark_is_reached(engine: DiskEngine, images: Images) -> None:
    images.hold("somebody", Image("sha256:a", "", ""))
    images.let_go("somebody")
    assert await cleaning(engine, images, 30, 20).look() == 2
    assert set(engine.tags) == {"sha256:a", "sha256:theirs"}


async def test_what_was_not_pulled_here_stays_however_full_the_disk_is(engine: DiskEngine, images: Images) -> None:
    assert await cleaning(engine, images, 1, 0).look() == 3
    assert set(engine.tags) == {"sha256:theirs"}


async def test_what_an_attempt_or_a_container_uses_stays(engine: DiskEngine, images: Images) -> None:
    images.hold("attempt", Image("sha256:a", "", ""))
    engine.used.add("sha256:b")
    assert await cleaning(engine, images, 1, 0).look() == 1
    assert set(engine.tags) == {"sha256:a", "sha256:b", "sha256:theirs"}
    images.let_go("attempt")
    engine.used.clear()
    assert await cleaning(engine, images, 1, 0).look() == 2


async def test_an_image_that_somebody_has_named_is_theirs_from_then_on(engine: DiskEngine, images: Images) -> None:
    engine.tags["sha256:a"].append("mine:latest")
    assert await cleaning(engine, images, 1, 0).look() == 2
    engine.tags["sha256:a"].remove("mine:latest")
    assert await cleaning(engine, images, 1, 0).look() == 0
    assert "sha256:a" in engine.tags


async def test_a_tag_that_was_pulled_anew_leaves_its_old_image_on_record(engine: DiskEngine, images: Images) -> None:
    engine.tags["sha256:a"].clear()
    engine.tags["sha256:a2"] = ["r/a:1"]
    await images.shelf.end("r/a:1", "sha256:a2")
    assert await cleaning(engine, images, 1, 0).look() == 4
    assert set(engine.tags) == {"sha256:theirs"}


async def test_a_pull_that_the_worker_s_death_cut_off_is_the_worker_s(engine: DiskEngine, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    await shelf.begin("r/a:1")
    await shelf.begin("r/gone:1")
    images = Images(engine, Supply(pull_s=1), Shelf(tmp_path))
    await Cleaning(engine, images, None, engine.full).look()
    recorded = Shelf(tmp_path)
    assert [(kept.id, kept.names) for kept in recorded.oldest_first] == [("sha256:a", {"r/a:1"})]
    assert recorded.begun == set()


async def test_the_record_outlives_the_worker(images: Images, tmp_path: Path) -> None:
    images.hold("attempt", Image("sha256:a", "", ""))
    await images.shelf.keep()
    assert [kept.id for kept in Shelf(tmp_path).oldest_first] == ["sha256:b", "sha256:c", "sha256:a"]


async def test_a_record_that_is_not_readable_makes_nothing_the_worker_s(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"Pulled": {"sha256:a"')
    assert Shelf(tmp_path).oldest_first == []
