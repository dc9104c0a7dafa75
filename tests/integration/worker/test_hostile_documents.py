"""What an image declares, and what a controller says, gives a program no more than its place."""

import os
from pathlib import Path
from typing import Any

import pytest

from pupload.config import WorkerConfig
from pupload.flow.plan import Reason
from pupload.protocol import Assignment, AttachmentSpec, Outcome
from tests.integration.worker.conftest import serving
from tests.support.docker_images import an_image_with_volumes
from tests.support.fake_controller import FakeController, an_assignment, an_output, shell

pytestmark = pytest.mark.integration


async def test_a_volume_of_an_image_is_no_way_to_the_engine_s_disk(
    controller: FakeController, config: WorkerConfig
) -> None:
    places = ("/data", "//more/", "/tmp", "/pup/out")
    with an_image_with_volumes(f"pupload/test-volumes-{os.getpid()}", *places) as image:
        looking = an_assignment(*shell("for each in /data /more /tmp; do df -P $each | tail -n 1; done"), image=image)
        async with serving(config):
            await controller.offer(looking)
            finish = await controller.finish_of(looking)
        assert finish.outcome is Outcome.SUCCEEDED, finish.message
    seen = [line.text.split() for line in [*controller.lines, *finish.lines] if line.stream == "stdout"]
    assert [(words[0], words[1], words[-1]) for words in seen] == [
        ("tmpfs", "65536", place) for place in ("/data", "/more", "/tmp")
    ]


async def test_an_image_that_wants_a_volume_among_the_files_is_refused(
    controller: FakeController, config: WorkerConfig
) -> None:
    with an_image_with_volumes(f"pupload/test-volumes-{os.getpid()}", "/pup/in/..") as image:
        wanting = an_assignment(*shell("true"), image=image)
        async with serving(config):
            await controller.offer(wanting)
            finish = await controller.finish_of(wanting)
    assert (finish.reason, finish.final) == (Reason.POLICY, True)
    assert "'/pup'" in finish.message


async def test_no_name_that_a_controller_says_leads_out_of_the_attempt_s_folder(
    controller: FakeController, config: WorkerConfig, tmp_path: Path
) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_text("still here")
    file = AttachmentSpec(name="../../precious/new", url="https://a.example/x", content_type="", limit_bytes=1)

    def named(**more: Any) -> Assignment:
        return an_assignment(*shell("true"), **more)

    climbing = named()
    strange = [
        climbing.model_copy(update={"ref": climbing.ref.model_copy(update={"node_id": "x/../../precious"})}),
        named(outputs=[an_output().model_copy(update={"port": "../../precious/file"})]),
        named(outputs=[an_output().model_copy(update={"extension": "/../../../precious/file"})]),
        named(inputs=[controller.input("in", b"x").model_copy(update={"port": "../../precious/new"})]),
        named().model_copy(update={"attachments": [file]}),
    ]
    async with serving(config):
        await controller.offer(*strange)
        ends = [await controller.finish_of(each) for each in strange]
    assert {(end.reason, end.final) for end in ends} == {(Reason.POLICY, True)}
    assert [path.name for path in (tmp_path / "precious").iterdir()] == ["file"]
