"""What a program may leave as its output, and what it may not."""

import pytest

from pupload.flow.plan import Reason
from pupload.protocol import Finish, Outcome
from tests.support.fake_controller import MB, FakeController, an_assignment, an_output, shell

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("worker")]


async def outcome_of(controller: FakeController, script: str, **output: object) -> Finish:
    node = an_assignment(*shell(f"cd /pup/out; {script}"), outputs=[an_output("out", **output)])
    await controller.offer(node)
    return await controller.finish_of(node)


@pytest.mark.parametrize(
    ("script", "what"),
    [
        ("ln -s /etc/shadow out", "a symbolic link"),
        ("mkfifo out", "a named pipe"),
        ("mkdir out", "a directory"),
        ("echo x > a; ln a out", "several hard links"),
        ("dd if=/dev/zero of=out bs=1 count=1 seek=1099511627775", "a sparse file that claims 1tb"),
    ],
)
async def test_what_is_no_plain_file_is_refused(controller: FakeController, script: str, what: str) -> None:
    finish = await outcome_of(controller, script, max_size_bytes=4 * 1024**4)
    assert (finish.reason, finish.final) == (Reason.POLICY, True)
    assert what in finish.message
    assert controller.store.objects == {}


async def test_a_file_beyond_the_limit_is_refused(controller: FakeController) -> None:
    finish = await outcome_of(controller, "head -c 2m /dev/zero > out", max_size_bytes=MB)
    assert (finish.reason, finish.final) == (Reason.POLICY, True)
    assert "2mb large, beyond the limit of 1mb" in finish.message


async def test_a_missing_output_names_what_was_expected_and_what_is_there(controller: FakeController) -> None:
    finish = await outcome_of(controller, "echo x > out.txt", extension=".png")
    assert (finish.reason, finish.final, finish.exit_code) == (Reason.EXIT, True, 0)
    assert "did not write /pup/out/out.png" in finish.message
    assert finish.message.endswith("it wrote 'out.txt'")


async def test_a_missing_optional_output_is_absent(controller: FakeController) -> None:
    finish = await outcome_of(controller, "true", required=False)
    assert (finish.outcome, finish.absent, finish.outputs) == (Outcome.SUCCEEDED, ["out"], [])


async def test_an_output_of_another_type_is_final_and_names_both(controller: FakeController) -> None:
    finish = await outcome_of(controller, "echo words > out.png", extension=".png", types=["image/png", "image/gif"])
    assert (finish.reason, finish.final) == (Reason.TYPE, True)
    assert finish.message == "output out is text/plain; allowed: image/png, image/gif"


async def test_an_empty_output_is_an_object(controller: FakeController) -> None:
    finish = await outcome_of(controller, "true > out")
    assert finish.outcome is Outcome.SUCCEEDED, finish
    assert controller.store.objects[finish.outputs[0].key] == b""


async def test_an_input_of_a_wrong_type_is_final_before_anything_starts(controller: FakeController) -> None:
    picture = controller.input("photo", b"words\n", types=["image/*"])
    node = an_assignment("true", inputs=[picture])
    await controller.offer(node)
    finish = await controller.finish_of(node)
    assert (finish.reason, finish.final) == (Reason.TYPE, True)
    assert finish.message == "input photo is text/plain; allowed: image/*"
    assert "start" not in finish.timings


async def test_a_program_that_fills_the_disk_is_ended(
    controller: FakeController, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pupload.worker.ending.LOOK_S", 0.1)
    finish = await outcome_of(controller, "head -c 20m /dev/zero > rest; sleep 60")
    assert (finish.reason, finish.final) == (Reason.POLICY, True)
    assert "to /pup/out; its tier t-test has 16mb" in finish.message
