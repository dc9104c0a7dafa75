"""Images from a real registry, which behaves well or does not."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pupload.containers.cleaning import Cleaning, Marks
from pupload.containers.docker import Engine
from pupload.containers.images import Images, NoImage, Supply, exact_name
from pupload.containers.names import Registries
from pupload.containers.pulling import Fault
from pupload.containers.shelf import Shelf
from tests.support.registry import PASSWORD, USER, Door, a_door, a_registry

pytestmark = pytest.mark.integration


@pytest.fixture
async def images(engine: Engine) -> AsyncIterator[Images]:
    opened = Images(engine, Supply(pull_s=20))
    yield opened
    await opened.close()


async def is_here(engine: Engine, name: str) -> bool:
    return bool(await engine.call("look", lambda client: client.images(name)))


async def refused(images: Images, name: str) -> NoImage:
    with pytest.raises(NoImage) as caught:
        await images.require(name)
    return caught.value


async def test_a_tag_is_pulled_and_named_by_its_digest(door: Door, images: Images) -> None:
    digest = door.registry.push("tagged", "one")
    said: list[str] = []
    image = await images.require(door.name("tagged:latest"), said.append)
    assert (image.digest, image.exact) == (digest, f"{door.name('tagged')}@{digest}")
    assert said == [f"image {door.name('tagged:latest')} is not on this engine; pulling it from {door.host}"]


async def test_a_name_without_a_tag_is_the_latest_alone(door: Door, engine: Engine, images: Images) -> None:
    door.registry.push("many", "one")
    door.registry.push("many", "two", tag="other")
    await images.require(door.name("many"))
    assert await is_here(engine, door.name("many:latest"))
    assert not await is_here(engine, door.name("many:other"))


async def test_a_digest_stays_what_it_was_when_its_tag_moves(door: Door, images: Images) -> None:
    first = door.registry.push("moved", "one")
    exact = f"{door.name('moved')}@{first}"
    second = door.registry.push("moved", "two")
    assert (await images.require(exact)).digest == first
    assert (await images.require(door.name("moved:latest"))).digest == second


async def test_an_image_that_was_deleted_is_the_name_s_fault(door: Door, images: Images) -> None:
    digest = door.registry.push("deleted", "one")
    door.registry.delete("deleted", digest)
    for name in (door.name("deleted:latest"), f"{door.name('deleted')}@{digest}", door.name("never:1")):
        error = await refused(images, name)
        assert (error.fault, error.final) == (Fault.NAME, True), error


async def test_an_absent_image_is_not_asked_for_again_and_again(door: Door, images: Images) -> None:
    await asyncio.gather(*(refused(images, door.name("nowhere:1")) for _ in range(5)))
    asked = door.pulls("nowhere")
    await refused(images, door.name("nowhere:1"))
    assert asked == door.pulls("nowhere") > 0


async def test_a_registry_that_wants_a_login_gets_the_right_one(engine: Engine, tmp_path: Path) -> None:
    with a_registry(tmp_path, login=True) as registry:
        registry.push("private", "one")
        async with a_door(registry) as door:
            images = Images(engine, Supply(pull_s=20))
            error = await refused(images, door.name("private:latest"))
            assert error.fault is Fault.NAME
            assert "no basic auth credentials" in str(error) or "unauthorized" in str(error)
            wrong = Supply(pull_s=20, logins={door.host: {"username": USER, "password": "wrong"}})
            assert (await refused(Images(engine, wrong), door.name("private:latest"))).fault is Fault.NAME
            right = Supply(pull_s=20, logins={door.host: {"username": USER, "password": PASSWORD}})
            await Images(engine, right).require(door.name("private:latest"))


async def test_the_docker_configuration_s_logins_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: Door
) -> None:
    login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {door.host: {"auth": login}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with a_registry(tmp_path / "private", login=True) as registry:
        registry.push("private", "one")
        door.registry = registry
        engine = await Engine.connect()
        try:
            await Images(engine, Supply(pull_s=20)).require(door.name("private:latest"))
        finally:
            await engine.close()


@pytest.mark.parametrize("fault", ["hang", "cut"])
async def test_a_layer_that_does_not_come_whole_ends_at_the_deadline(door: Door, engine: Engine, fault: str) -> None:
    door.registry.push("halved", "one")
    door.fault = fault
    error = await refused(Images(engine, Supply(pull_s=1)), door.name("halved:latest"))
    assert (error.fault, error.final) == (Fault.IMAGE, False)
    assert "the pull did not end in 1 s" in str(error)
    assert not await is_here(engine, door.name("halved:latest"))


async def test_one_who_waits_no_more_does_not_end_the_pull_of_the_others(door: Door, images: Images) -> None:
    door.registry.push("shared", "one")
    door.fault = "hang"
    said: list[str] = []
    first, second = (asyncio.create_task(images.require(door.name("shared:latest"), said.append)) for _ in range(2))
    await door.hanging.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert not second.done()
    assert len(said) == 2
    await images.close()
    with pytest.raises(asyncio.CancelledError):
        await second


async def test_a_registry_that_is_killed_in_mid_pull_and_comes_back_gives_the_image(door: Door, images: Images) -> None:
    digest = door.registry.push("killed", "one")
    door.fault = "hang"
    pull = asyncio.create_task(images.require(door.name("killed:latest")))
    await door.hanging.wait()
    door.registry.stop()
    door.fault = None
    door.hang_up()
    door.registry.start()
    assert (await pull).digest == digest


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_a_registry_that_is_ill_is_away(door: Door, images: Images, status: int) -> None:
    door.fault = status
    error = await refused(images, door.name("any:1"))
    assert (error.fault, error.final) == (Fault.AWAY, False), error


async def test_images_from_elsewhere_are_used_when_here_and_not_pulled(door: Door, engine: Engine) -> None:
    door.registry.push("elsewhere", "one")
    name = door.name("elsewhere:latest")
    careful = Images(engine, Supply(pull_s=20, registries=Registries(["ghcr.io", "local"])))
    error = await refused(careful, name)
    assert (error.fault, error.final, door.pulls("elsewhere")) == (Fault.RULE, True, 0)
    await Images(engine, Supply(pull_s=20)).require(name)
    await careful.require(name)


async def test_the_registry_tells_what_a_tag_means_without_a_pull(door: Door, engine: Engine) -> None:
    digest = door.registry.push("asked", "one")
    assert await exact_name(engine, door.name("asked:latest"), 20) == f"{door.name('asked')}@{digest}"
    assert not await is_here(engine, door.name("asked:latest"))


async def test_what_was_pulled_is_on_record_and_what_was_here_is_not(
    door: Door, engine: Engine, tmp_path: Path
) -> None:
    door.registry.push("brought", "one")
    door.registry.push("mine", "two")
    await Images(engine, Supply(pull_s=20)).require(door.name("brought:latest"))
    images = Images(engine, Supply(pull_s=20), Shelf(tmp_path))
    await images.require(door.name("brought:latest"))
    mine = await images.require(door.name("mine:latest"))
    recorded = Shelf(tmp_path)
    assert [(kept.id, kept.names) for kept in recorded.oldest_first] == [(mine.id, {door.name("mine:latest")})]
    assert recorded.begun == set()


async def test_a_pull_is_on_record_before_it_has_ended(door: Door, engine: Engine, tmp_path: Path) -> None:
    door.registry.push("begun", "one")
    door.fault = "hang"
    images = Images(engine, Supply(pull_s=20), Shelf(tmp_path))
    pull = asyncio.create_task(images.require(door.name("begun:latest")))
    await door.hanging.wait()
    assert Shelf(tmp_path).begun == {door.name("begun:latest")}
    await images.close()
    await asyncio.wait({pull})


async def test_only_what_was_pulled_here_and_is_not_in_use_is_removed(
    door: Door, engine: Engine, tmp_path: Path
) -> None:
    names = [door.name(f"{each}:latest") for each in ("theirs", "held", "old")]
    for name, word in zip(("theirs", "held", "old"), ("1", "2", "3"), strict=True):
        door.registry.push(name, word)
    await Images(engine, Supply(pull_s=20)).require(names[0])
    images = Images(engine, Supply(pull_s=20), Shelf(tmp_path))
    images.hold("attempt", await images.require(names[1]))
    for name in (names[0], names[2]):
        await images.require(name)
    assert await Cleaning(engine, images, Marks(2, 1), lambda: 99.0).look() == 1
    assert [await is_here(engine, name) for name in names] == [True, True, False]
    await images.require(names[2])
    assert await is_here(engine, names[2])
