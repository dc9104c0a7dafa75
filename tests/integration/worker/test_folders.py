"""Folders that are lent to a container and taken back, with and without mounts."""

import io
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pupload.config import WorkerConfig
from pupload.containers.trees import Room, packed
from pupload.flow.plan import Reason
from pupload.protocol import Finish, KeptFolder, Outcome
from pupload.worker.serving import Worker
from tests.integration.worker.conftest import serving
from tests.support.fake_controller import FakeController, an_assignment, an_output, shell

pytestmark = pytest.mark.integration


@pytest.fixture(params=["mount", "archive"])
async def worker(config: WorkerConfig, request: pytest.FixtureRequest) -> AsyncIterator[Worker]:
    async with serving(config.model_copy(update={"files": request.param})) as at_work:
        yield at_work


async def finish_of(controller: FakeController, script: str, *folders: KeptFolder) -> Finish:
    node = an_assignment(*shell(script), folders=list(folders), outputs=[an_output("out", required=False)])
    await controller.offer(node)
    return await controller.finish_of(node)


def names_in(tar: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as file:
        return {
            entry.name: (file.extractfile(entry) or io.BytesIO()).read() if entry.isreg() else b"" for entry in file
        }


@pytest.mark.usefixtures("worker")
async def test_what_a_program_leaves_is_what_the_next_one_finds(controller: FakeController) -> None:
    script = "cd /pup/session; echo x >> count; mkdir -p a/b; echo y > a/b/c"
    first = await finish_of(controller, script, controller.folder("session"))
    assert first.outcome is Outcome.SUCCEEDED, first
    (kept,) = first.folders
    stored = controller.store.objects[kept.key]
    assert (kept.name, kept.size_bytes) == ("session", len(stored))
    assert names_in(stored) == {"a": b"", "a/b": b"", "a/b/c": b"y\n", "count": b"x\n"}

    again = await finish_of(controller, f"{script}; cat count", controller.folder("session", stored))
    assert names_in(controller.store.objects[again.folders[0].key])["count"] == b"x\nx\n"


@pytest.mark.usefixtures("worker")
async def test_a_folder_that_is_only_read_is_not_stored_again(controller: FakeController, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "word").write_text("hello\n")
    tar = b"".join(packed(tmp_path / "kept", Room(1000, 10)))
    read = await finish_of(controller, "cat /pup/session/word", controller.folder("session", tar))
    assert (read.outcome, read.folders) == (Outcome.SUCCEEDED, [])
    assert controller.text(read) == ["hello"]
    empty = await finish_of(controller, "ls /pup/session", controller.folder("session"))
    assert (empty.outcome, empty.folders) == (Outcome.SUCCEEDED, [])
    assert "session" not in "".join(name for name in controller.store.asked if name.startswith("PUT"))


@pytest.mark.usefixtures("worker")
async def test_a_folder_with_a_link_in_it_fails_the_attempt(controller: FakeController) -> None:
    finish = await finish_of(controller, "ln -s /etc/passwd /pup/session/users", controller.folder("session"))
    assert (finish.outcome, finish.reason, finish.final) == (Outcome.FAILED, Reason.POLICY, True)
    assert "folder /pup/session cannot be kept: 'users' is" in finish.message
    assert finish.folders == []


@pytest.mark.usefixtures("worker")
async def test_a_folder_beyond_its_limits_fails_the_attempt(controller: FakeController) -> None:
    large = await finish_of(controller, "head -c 2m /dev/zero > /pup/session/a", controller.folder("session"))
    assert (large.reason, large.final) == (Reason.POLICY, True)
    assert "(at most 1mb in 100 files and folders)" in large.message


@pytest.mark.usefixtures("worker")
async def test_a_program_that_fails_leaves_nothing_behind(controller: FakeController) -> None:
    finish = await finish_of(controller, "echo x > /pup/session/a; exit 3", controller.folder("session"))
    assert (finish.outcome, finish.folders, controller.store.objects) == (Outcome.FAILED, [], {})


async def test_a_program_that_fills_a_kept_folder_is_ended(
    controller: FakeController, config: WorkerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pupload.worker.ending.LOOK_S", 0.1)
    async with serving(config):
        script = "head -c 10m /dev/zero > /pup/session/a; head -c 10m /dev/zero > /pup/out/b; sleep 60"
        finish = await finish_of(controller, script, controller.folder("session"))
    assert (finish.reason, finish.final) == (Reason.POLICY, True)
    assert "to /pup/out and /pup/session; its tier t-test has 16mb" in finish.message
