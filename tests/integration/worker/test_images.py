"""Images as a worker's attempts meet them, from a real registry."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import docker
import pytest

from pupload.config import WorkerConfig
from pupload.flow.plan import Reason
from pupload.protocol import Finish, Outcome
from pupload.worker.serving import Worker
from tests.integration.worker.conftest import serving
from tests.support.fake_controller import FakeController, an_assignment
from tests.support.registry import PROGRAM, Door, a_door, a_registry

pytestmark = pytest.mark.integration


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    if shutil.which(PROGRAM) is None:
        pytest.skip(f"{PROGRAM} is not installed")
    with a_registry(tmp_path / "registry") as registry:
        async with a_door(registry) as opened:
            yield opened


async def word_of(controller: FakeController, image: str, run_id: str = "", exact: str = "") -> tuple[str, Finish]:
    """What the image's `/word` holds, as a node prints it."""
    node = an_assignment("cat", "/word", image=image, exact=exact)
    if run_id:
        told = {"run_id": run_id, "attempt": len(controller.finishes) + 1}
        node = node.model_copy(update={"ref": node.ref.model_copy(update=told)})
    await controller.offer(node)
    finish = await controller.finish_of(node)
    return "".join(line.text for line in finish.lines if line.stream == "stdout"), finish


async def test_a_run_keeps_its_image_when_the_tag_moves(
    controller: FakeController, worker: Worker, door: Door, plain_engine: docker.APIClient
) -> None:
    name = door.name("moving:latest")
    first = door.registry.push("moving", "one")
    word, finish = await word_of(controller, name, "run_moving01")
    assert (word, finish.image_digest) == ("one", first)
    assert controller.pinned == {("run_moving01", name): f"{door.name('moving')}@{first}"}
    assert controller.claims[-1].images in ({}, {name: f"{door.name('moving')}@{first}"})
    door.registry.push("moving", "two")
    # As on another worker: the image is not there, and the tag means something else by now.
    await asyncio.to_thread(plain_engine.remove_image, name, force=True)
    word, finish = await word_of(controller, name, "run_moving01", exact=f"{door.name('moving')}@{first}")
    assert (word, finish.image_digest) == ("one", first)


async def test_a_worker_that_finds_something_else_runs_what_the_run_has_settled(
    controller: FakeController, worker: Worker, door: Door
) -> None:
    name = door.name("settled:latest")
    first = door.registry.push("settled", "one")
    door.registry.push("settled", "two")
    controller.pinned["run_settled1", name] = f"{door.name('settled')}@{first}"
    assert (await word_of(controller, name, "run_settled1"))[0] == "one"


async def test_an_image_that_is_removed_before_the_create_is_pulled_again(
    controller: FakeController, worker: Worker, door: Door, plain_engine: docker.APIClient
) -> None:
    name = door.name("removed:latest")
    door.registry.push("removed", "one")
    assert (await word_of(controller, name))[0] == "one"
    await asyncio.to_thread(plain_engine.remove_image, name, force=True)
    word, finish = await word_of(controller, name)
    assert (word, finish.outcome) == ("one", Outcome.SUCCEEDED)


async def test_two_nodes_of_one_absent_image_ask_for_it_once(
    controller: FakeController, worker: Worker, door: Door
) -> None:
    nodes = [an_assignment("true", image=door.name("absent:1")) for _ in range(2)]
    await controller.offer(*nodes)
    finishes = [await controller.finish_of(node) for node in nodes]
    assert [(finish.reason, finish.final) for finish in finishes] == [(Reason.IMAGE, True)] * 2
    assert door.pulls("absent") <= 2


async def test_a_cancel_ends_the_waiting_for_a_pull(controller: FakeController, worker: Worker, door: Door) -> None:
    door.registry.push("slow", "one")
    door.fault = "hang"
    node = an_assignment("true", image=door.name("slow:latest"))
    await controller.offer(node)
    await door.hanging.wait()
    await controller.stop(node.ref)
    finish = await controller.finish_of(node)
    assert finish.reason is Reason.CANCELLED
    assert any("pulling it from" in text for text in controller.text(finish))


async def test_an_image_of_another_worker_s_engine_is_said_to_be_missing_here(
    controller: FakeController, worker: Worker
) -> None:
    finish = (await word_of(controller, "pupload/busybox:latest", exact=f"sha256:{'0' * 64}"))[1]
    assert (finish.reason, finish.final) == (Reason.IMAGE, False)
    assert "is what pupload/busybox:latest meant when this run began to use it" in finish.message


@pytest.mark.parametrize(
    ("settings", "image", "reason"),
    [
        ({"registries": ("ghcr.io",)}, "pupload/busybox:latest", Reason.POLICY),
        ({"registries": ("local",)}, "pupload/busybox:latest", None),
        ({"registries": ("local",)}, "pupload/no-such-image:1", Reason.POLICY),
        ({"require_digest": True}, "pupload/busybox:latest", Reason.POLICY),
    ],
)
async def test_the_worker_is_the_last_wall(
    controller: FakeController,
    config: WorkerConfig,
    settings: dict[str, object],
    image: str,
    reason: Reason | None,
) -> None:
    async with serving(config.model_copy(update=settings)):
        node = an_assignment("true", image=image)
        await controller.offer(node)
        assert (await controller.finish_of(node)).reason is reason
