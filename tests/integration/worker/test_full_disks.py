"""A work directory without room: told before anything runs, and the infrastructure's to pay."""

import pytest

from pupload.config import WorkerConfig
from pupload.flow.plan import Reason
from pupload.protocol import Outcome
from tests.integration.worker.conftest import serving
from tests.support.fake_controller import FakeController, an_assignment, an_output, shell
from tests.support.small_disk import a_small_disk, only_root_mounts
from tests.support.until import until

pytestmark = [pytest.mark.integration, only_root_mounts]


@pytest.mark.parametrize(
    ("options", "said"), [("size=16m", "free"), ("size=256m,nr_inodes=20", "inodes")], ids=["bytes", "inodes"]
)
async def test_an_attempt_does_not_start_without_room(
    controller: FakeController, config: WorkerConfig, options: str, said: str
) -> None:
    with a_small_disk(config.work_dir, options):
        async with serving(config):
            await controller.offer(node := an_assignment("true"))
            finish = await controller.finish_of(node)
            assert (finish.outcome, finish.reason) == (Outcome.FAILED, Reason.INFRA), finish
            assert said in finish.message


async def test_a_disk_that_fills_while_a_program_writes_is_the_program_s_exit_and_leaves_nothing(
    controller: FakeController, config: WorkerConfig
) -> None:
    """The program sees the full disk itself; what it wrote is gone afterwards, and the next has room."""
    with a_small_disk(config.work_dir, "size=96m"):
        async with serving(config):
            greedy = an_assignment(*shell("head -c 200m /dev/zero > ${b}"), outputs=[an_output("b")])
            await controller.offer(greedy)
            finish = await controller.finish_of(greedy)
            assert finish.reason in {Reason.EXIT, Reason.POLICY}, finish
            await until(lambda: [path for path in config.work_dir.iterdir() if path.is_dir()] == [])
            await controller.offer(modest := an_assignment(*shell("echo ok > ${b}"), outputs=[an_output("b")]))
            assert (await controller.finish_of(modest)).outcome is Outcome.SUCCEEDED
