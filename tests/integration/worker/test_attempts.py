"""Attempts on the real engine, each to its end."""

import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pupload.config import WorkerConfig
from pupload.flow.plan import Reason
from pupload.protocol import Outcome
from pupload.worker import preparing
from pupload.worker.workdir import WorkDir, make_work_dir
from tests.support.fake_controller import MB, FakeController, an_assignment, an_output, shell
from tests.support.until import until

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("worker")]


async def test_a_program_that_copies_its_input_succeeds(controller: FakeController) -> None:
    content = bytes(range(256)) * 4096
    node = an_assignment("cp", "${a}", "${b}", inputs=[controller.input("a", content)], outputs=[an_output("b")])
    await controller.offer(node)
    finish = await controller.finish_of(node)
    assert finish.outcome is Outcome.SUCCEEDED, finish
    assert controller.store.objects[finish.outputs[0].key] == content


async def test_two_attempts_run_at_once(controller: FakeController) -> None:
    first, second = an_assignment(*shell("sleep 0.5")), an_assignment(*shell("sleep 0.5"))
    await controller.offer(first, second)
    finishes = [await controller.finish_of(first), await controller.finish_of(second)]
    assert [finish.outcome for finish in finishes] == [Outcome.SUCCEEDED, Outcome.SUCCEEDED]
    assert any(len(beat.attempts) == 2 for beat in controller.beats)


async def test_what_is_free_is_claimed_whole_when_work_comes_while_an_end_is_reported(
    controller: FakeController,
) -> None:
    controller.ponders_s = 0.2
    nodes = [an_assignment(*shell("true")) for _ in range(5)]
    await controller.offer(nodes[0])
    for ended, following in pairwise(nodes):
        await controller.finish_of(ended)
        await controller.offer(following)
    await controller.finish_of(nodes[-1])
    whole = controller.claims[0].free.cpu
    assert {claim.free.cpu for claim in controller.claims if claim.wait_s} <= {whole, whole - 1}


async def test_what_becomes_free_is_offered_with_all_that_is(controller: FakeController) -> None:
    await controller.offer(node := an_assignment(*shell("true")))
    await controller.finish_of(node)
    await controller.until(lambda: len(controller.claims) >= 4)
    first, beside, more, again = controller.claims[:4]
    whole = first.free.cpu
    assert (beside.free.cpu, beside.recalls) == (whole - 1, False)
    assert (more.free.cpu, more.recalls, more.wait_s) == (1, True, 0)
    assert (again.free.cpu, again.recalls) == (whole, False)


async def test_the_log_comes_line_by_line_and_progress_apart(controller: FakeController) -> None:
    script = "echo one; echo '::progress 1/4'; echo two >&2; sleep 0.4; echo '::progress 50%'; printf three; sleep 0.4"
    node = an_assignment(*shell(script))
    await controller.offer(node)
    await controller.until(lambda: len(controller.lines) >= 2)
    assert not controller.finishes
    finish = await controller.finish_of(node)
    assert sorted(controller.text(finish)) == ["one", "three", "two"]
    assert controller.progress == [25.0, 50.0]


async def test_a_failing_program_is_told_by_its_exit_code_and_last_error_line(controller: FakeController) -> None:
    node = an_assignment(*shell("echo fine; echo the disk is blue >&2; exit 3"))
    await controller.offer(node)
    finish = await controller.finish_of(node)
    assert (finish.outcome, finish.reason, finish.exit_code) == (Outcome.FAILED, Reason.EXIT, 3)
    assert finish.message == "exited with 3: the disk is blue"
    assert not finish.final


@pytest.mark.parametrize("command", [("tail", "/dev/zero"), shell("head -c 60m /dev/zero > /tmp/x; tail /dev/zero")])
async def test_a_program_that_eats_its_memory_is_told_its_tier(
    controller: FakeController, command: tuple[str, ...]
) -> None:
    node = an_assignment(*command, memory_bytes=64 * MB)
    await controller.offer(node)
    finish = await controller.finish_of(node)
    assert (finish.reason, finish.exit_code) == (Reason.OOM, 137)
    assert "64mb by its tier t-test" in finish.message


async def test_a_child_killed_for_memory_is_a_warning_when_the_program_succeeds(controller: FakeController) -> None:
    node = an_assignment(*shell("tail /dev/zero; exit 0"), memory_bytes=64 * MB)
    await controller.offer(node)
    finish = await controller.finish_of(node)
    assert finish.outcome is Outcome.SUCCEEDED
    assert any("killed for memory" in line for line in controller.text(finish))


@pytest.mark.parametrize("script", ["sleep 60", "trap '' TERM; while true; do sleep 1; done"])
async def test_a_program_that_runs_too_long_is_ended(controller: FakeController, script: str) -> None:
    node = an_assignment(*shell(script), timeout_s=0.5)
    await controller.offer(node)
    finish = await controller.finish_of(node)
    assert finish.reason is Reason.TIMEOUT
    assert finish.message == "the node ran longer than its timeout of 0.5 s"


async def test_a_stop_order_in_a_beat_ends_the_program(controller: FakeController) -> None:
    node = an_assignment(*shell("echo up; sleep 60"))
    await controller.offer(node)
    await controller.until(lambda: bool(controller.lines))
    await controller.stop(node.ref)
    finish = await controller.finish_of(node, within_s=10)
    assert (finish.outcome, finish.reason) == (Outcome.FAILED, Reason.CANCELLED)


async def test_a_kill_that_is_not_ours_is_the_infrastructure_s(controller: FakeController) -> None:
    node = an_assignment(*shell("kill -9 $$"))
    await controller.offer(node)
    finish = await controller.finish_of(node)
    assert (finish.reason, finish.exit_code) == (Reason.INFRA, 137)


@pytest.mark.parametrize("command", ["no-such-program", "/bin"])
async def test_a_command_that_is_not_in_the_image_is_final(controller: FakeController, command: str) -> None:
    node = an_assignment(command)
    await controller.offer(node)
    finish = await controller.finish_of(node)
    assert finish.final
    assert finish.reason is Reason.EXIT
    assert f"cannot be run in image pupload/busybox:latest: exec {command} failed" in finish.message


async def test_a_registry_that_does_not_answer_is_no_fault_of_the_node(controller: FakeController) -> None:
    node = an_assignment("true", image="127.0.0.1:9/no/such:1")
    await controller.offer(node)
    finish = await controller.finish_of(node)
    assert finish.reason is Reason.INFRA
    assert "image 127.0.0.1:9/no/such:1 is not on this engine and cannot be pulled" in finish.message
    assert not finish.final


async def test_an_image_without_a_command_of_the_def_runs_its_own(controller: FakeController) -> None:
    node = an_assignment()
    await controller.offer(node)
    assert (await controller.finish_of(node)).outcome is Outcome.SUCCEEDED


async def test_a_lost_lease_ends_everything_and_reports_nothing(controller: FakeController) -> None:
    node = an_assignment(*shell("echo up; sleep 60"))
    await controller.offer(node)
    await controller.until(lambda: bool(controller.lines))
    await controller.lose(node.ref)
    await controller.until(lambda: not controller.beats[-1].attempts)
    assert controller.finishes == []


async def test_an_attempt_lost_while_its_directory_is_made_leaves_none(
    controller: FakeController, config: WorkerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, made = threading.Event(), threading.Event()

    def made_late(parent: Path, name: str, owner: tuple[int, int]) -> WorkDir:
        begun.set()
        time.sleep(2)
        place = make_work_dir(parent, name, owner)
        made.set()
        return place

    monkeypatch.setattr(preparing, "make_work_dir", made_late)
    node = an_assignment(*shell("sleep 60"))
    await controller.offer(node)
    await controller.until(begun.is_set)
    await controller.lose(node.ref)
    await controller.until(lambda: made.is_set() and not controller.beats[-1].attempts)
    await until(lambda: [path for path in config.work_dir.iterdir() if path.is_dir()] == [])


async def test_a_program_sees_what_the_contract_says(controller: FakeController) -> None:
    script = 'env; ls -l /pup/in; ls -ld /pup/out; touch /pup/in/x; touch /x; echo "$0"'
    node = an_assignment(
        "sh", "-c", script, "${level}", "${unset}",
        inputs=[controller.input("photo", b"plain words\n")],
        outputs=[an_output("result", extension=".png", required=False)],
        flags={"level": "a b; $HOME"}, flag_names=["level", "unset"], env={"OWN": "1"},
    )  # fmt: skip
    await controller.offer(node)
    finish = await controller.finish_of(node)
    text = controller.text(finish)
    assert {
        "PUP_RUN_ID=" + node.ref.run_id, "PUP_NODE_ID=node-1", "PUP_ATTEMPT=1", "PUP_FLOW_NAME=flow", "OWN=1",
        "INPUT_PHOTO=/pup/in/photo.txt", "OUTPUT_RESULT=/pup/out/result.png", "FLAG_LEVEL=a b; $HOME",
    } <= set(text)  # fmt: skip
    assert "a b; $HOME" in text
    assert sum("Read-only file system" in line for line in text) == 2
    assert finish.absent == ["result"]
    assert finish.inputs[0].content_type == "text/plain"


@pytest.mark.parametrize("user", ["0", "root", "0:5", "5:0", "1000"])
async def test_a_user_that_the_operator_does_not_allow_is_refused(controller: FakeController, user: str) -> None:
    node = an_assignment("true", user=user)
    await controller.offer(node)
    finish = await controller.finish_of(node)
    assert (finish.reason, finish.final) == (Reason.POLICY, True)
    assert f"user '{user}'" in finish.message


@pytest.mark.parametrize("asked", [{"network": "egress"}, {"access": "urls", "network": "egress"}])
async def test_the_network_is_refused_where_the_operator_does_not_allow_it(
    controller: FakeController, asked: dict[str, Any]
) -> None:
    node = an_assignment("true", **asked)
    await controller.offer(node)
    finish = await controller.finish_of(node)
    assert (finish.reason, finish.final) == (Reason.POLICY, True)


async def test_a_value_that_would_be_an_option_is_refused(controller: FakeController) -> None:
    node = an_assignment("ls", "${name}", flags={"name": "-la"}, flag_names=["name"])
    await controller.offer(node)
    finish = await controller.finish_of(node)
    assert (finish.reason, finish.final) == (Reason.POLICY, True)
    assert "would be an option" in finish.message


async def test_the_next_work_comes_with_the_answer_to_the_last(controller: FakeController) -> None:
    nodes = [an_assignment("true") for _ in range(4)]
    await controller.offer(*nodes)
    for node in nodes:
        assert (await controller.finish_of(node)).outcome is Outcome.SUCCEEDED
    assert all(finish.next is not None for finish in controller.finishes)


async def test_what_does_not_fit_is_given_back(controller: FakeController) -> None:
    node = an_assignment("true", memory_bytes=2**50)
    controller.force(node)
    await controller.offer(an_assignment("true"))
    assert (await controller.finish_of(node)).outcome is Outcome.RELEASED
