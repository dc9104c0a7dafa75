"""Files between the store and the container, in both ways, when all goes well and when it does not."""

import asyncio
import hashlib
import io
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pupload.config import WorkerConfig
from pupload.containers.cgroup import Departures
from pupload.flow.plan import Reason
from pupload.protocol import Assignment, Finish, Outcome
from pupload.worker import app
from pupload.worker.serving import Worker
from pupload.worker.transfer import Transfers
from tests.integration.worker.conftest import serving
from tests.support.fake_controller import MB, FakeController, an_assignment, an_output, shell

pytestmark = pytest.mark.integration

CONTENT = bytes(range(256)) * 12_000


@pytest.fixture(params=["auto", "archive"])
async def files(request: pytest.FixtureRequest, config: WorkerConfig) -> AsyncIterator[str]:
    """A worker that hands files over this way."""
    async with serving(config.model_copy(update={"files": request.param})):
        yield request.param


def copy(controller: FakeController) -> Assignment:
    return an_assignment("cp", "${a}", "${b}", inputs=[controller.input("a", CONTENT)], outputs=[an_output("b")])


async def outcome_of(controller: FakeController, node: Assignment) -> Finish:
    await controller.offer(node)
    return await controller.finish_of(node)


async def test_bytes_arrive_as_they_were(controller: FakeController, files: str) -> None:
    finish = await outcome_of(controller, copy(controller))
    assert finish.outcome is Outcome.SUCCEEDED, finish
    assert controller.store.objects[finish.outputs[0].key] == CONTENT
    assert finish.outputs[0].sha256 == finish.inputs[0].sha256


async def test_an_input_cannot_be_written_and_an_odd_output_is_refused(controller: FakeController, files: str) -> None:
    script = "echo x > ${a}; rm ${a}; cat ${a} > /dev/null || exit 9; ln -s /etc/passwd ${b}"
    node = an_assignment(*shell(script), inputs=[controller.input("a", CONTENT)], outputs=[an_output("b")])
    finish = await outcome_of(controller, node)
    assert finish.reason is Reason.POLICY, finish
    assert controller.store.objects.keys() == {"in/a"}


async def test_a_file_beyond_its_limit_is_refused_either_way(controller: FakeController, files: str) -> None:
    node = an_assignment(*shell("head -c 2m /dev/zero > ${b}"), outputs=[an_output("b", max_size_bytes=MB)])
    assert (await outcome_of(controller, node)).reason is Reason.POLICY


async def test_a_missing_output_is_told_either_way(controller: FakeController, files: str) -> None:
    finish = await outcome_of(controller, an_assignment("true", outputs=[an_output("b")]))
    assert "did not write /pup/out/b" in finish.message


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("fault", [500, 503, "cut", "flip", "short", "drip", "reset"])
async def test_a_passing_fault_of_the_store_costs_no_attempt(controller: FakeController, fault: int | str) -> None:
    node = copy(controller)
    controller.store.faults.append(fault)
    finish = await outcome_of(controller, node)
    assert finish.outcome is Outcome.SUCCEEDED, finish
    assert controller.store.objects[finish.outputs[0].key] == CONTENT


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("fault", [500, "cut", "reset", "unheard"])
async def test_an_upload_that_the_store_lost_or_did_not_answer_is_made_again(
    controller: FakeController, fault: int | str
) -> None:
    controller.store.faults.append(fault)
    finish = await outcome_of(
        controller, an_assignment(*shell("head -c 300000 /dev/zero > ${b}"), outputs=[an_output("b")])
    )
    assert finish.outcome is Outcome.SUCCEEDED, finish
    assert controller.store.objects == {finish.outputs[0].key: bytes(300_000)}
    assert [asked.split()[0] for asked in controller.store.asked] == ["PUT", "PUT"]


async def test_a_store_that_stays_broken_is_named(
    controller: FakeController, config: WorkerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "Transfers", lambda **told: Transfers(retry_for_s=0.5, **told))
    controller.store.faults.extend([507] * 1000)
    async with serving(config):
        finish = await outcome_of(controller, copy(controller))
    assert (finish.reason, finish.final) == (Reason.TRANSFER, False)
    assert "input a did not arrive: the store answered 507" in finish.message


@pytest.mark.usefixtures("worker")
async def test_an_expired_url_is_asked_for_again(controller: FakeController) -> None:
    node = copy(controller)
    controller.store.expire_all()
    assert (await outcome_of(controller, node)).outcome is Outcome.SUCCEEDED


@pytest.mark.usefixtures("worker")
async def test_an_object_that_is_gone_fails_the_transfer_without_its_url(controller: FakeController) -> None:
    node = copy(controller)
    del controller.store.objects["in/a"]
    finish = await outcome_of(controller, node)
    assert finish.reason is Reason.TRANSFER
    assert "input a did not arrive: the store answered 404" in finish.message
    assert "X-Amz" not in finish.message


@pytest.mark.usefixtures("worker")
async def test_an_object_overwritten_since_is_final(controller: FakeController) -> None:
    node = copy(controller)
    controller.store.objects["in/a"] = CONTENT[::-1]
    finish = await outcome_of(controller, node)
    assert (finish.reason, finish.final) == (Reason.TRANSFER, True)


@pytest.mark.usefixtures("worker")
async def test_many_inputs_and_outputs_move_side_by_side(controller: FakeController) -> None:
    names = [f"f{n}" for n in range(12)]
    node = an_assignment(
        *shell("cd /pup/in; for f in *; do cp $f /pup/out/o-${f%.*}; done"),
        inputs=[controller.input(name, name.encode()) for name in names],
        outputs=[an_output(f"o-{name}") for name in names],
    )
    finish = await outcome_of(controller, node)
    assert finish.outcome is Outcome.SUCCEEDED, finish
    assert [controller.store.objects[found.key] for found in finish.outputs] == [name.encode() for name in names]


@pytest.mark.usefixtures("worker")
async def test_a_flood_of_output_is_bounded_and_kept_as_an_object(controller: FakeController) -> None:
    script = "yes 0123456789abcdef | head -n 200000; printf 'a\\000b\\033[31m'"
    node = an_assignment(*shell(script), live_log_limit_bytes=100_000, log_limit_bytes=1_000_000)
    finish = await outcome_of(controller, node)
    assert finish.outcome is Outcome.SUCCEEDED, finish
    shown = sum(len(line) for line in controller.text(finish))
    assert shown < 120_000
    kept = controller.store.objects[finish.log_key]
    assert 1_000_000 < len(kept) < 8_000_000
    assert b"the log has reached" in kept.splitlines()[-1]


@pytest.mark.usefixtures("worker")
async def test_a_flood_without_a_newline_comes_in_pieces(controller: FakeController) -> None:
    finish = await outcome_of(
        controller, an_assignment(*shell("head -c 100000 /dev/zero | tr '\\0' x; printf 'a\\000b'"))
    )
    lines = controller.text(finish)
    assert max(map(len, lines)) == 16 * 1024
    assert "".join(lines).endswith("xa\\x00b")


async def test_an_empty_input_is_an_empty_file(controller: FakeController, files: str) -> None:
    node = an_assignment("cp", "${a}", "${b}", inputs=[controller.input("a", b"")], outputs=[an_output("b")])
    finish = await outcome_of(controller, node)
    assert finish.outcome is Outcome.SUCCEEDED, finish
    assert controller.store.objects[finish.outputs[0].key] == b""


@pytest.mark.usefixtures("worker")
async def test_an_optional_input_without_an_object_is_left_out(controller: FakeController) -> None:
    absent = controller.input("a", b"x").model_copy(update={"content": None, "required": False})
    node = an_assignment("sh", "-c", 'echo "[$0]$#"; env', "${a}", inputs=[absent])
    finish = await outcome_of(controller, node)
    assert "[sh]0" in controller.text(finish)
    assert not any(line.startswith("INPUT_A") for line in controller.text(finish))


def reader_of(controller: FakeController, content: bytes) -> Assignment:
    """Copies what another node has written, whose object is `content`."""
    return an_assignment("cp", "${b}", "${c}", inputs=[controller.input("b", content)], outputs=[an_output("c")])


def gets(controller: FakeController) -> list[str]:
    return [asked for asked in controller.store.asked if asked == "GET in/b"]


@pytest.mark.parametrize("read", [True, False])
async def test_what_another_node_reads_is_handed_over_on_the_spot(
    controller: FakeController, files: str, read: bool
) -> None:
    writer = copy(controller)
    writer.outputs[0] = an_output("b", read=read)
    await outcome_of(controller, writer)
    finish = await outcome_of(controller, reader_of(controller, CONTENT))
    assert controller.store.objects[finish.outputs[0].key] == CONTENT
    assert len(gets(controller)) == (0 if read else 1)


async def test_bytes_that_changed_after_they_were_stored_are_fetched(
    controller: FakeController, worker: Worker
) -> None:
    writer = copy(controller)
    writer.outputs[0] = an_output("b", read=True)
    finish = await outcome_of(controller, writer)
    with worker._shop.transfers.handover.opened(finish.outputs[0].sha256) as fd:
        await asyncio.to_thread(Path(f"/proc/self/fd/{fd}").write_bytes, b"something else")
    finish = await outcome_of(controller, reader_of(controller, CONTENT))
    assert controller.store.objects[finish.outputs[0].key] == CONTENT
    assert len(gets(controller)) == 1


def puts(controller: FakeController, node: Assignment) -> int:
    """How often an output of the node was put."""
    return sum(asked.startswith(f"PUT {node.ref.run_id}/") for asked in controller.store.asked)


async def as_soon_as_something_is_there(config: WorkerConfig) -> None:
    while not any(path.stat().st_size for path in config.work_dir.glob("*/out/b")):  # noqa: ASYNC110 - a program tells of it by no event
        await asyncio.sleep(0.01)


@pytest.mark.usefixtures("worker")
async def test_an_output_is_stored_once(controller: FakeController) -> None:
    node = copy(controller)
    await outcome_of(controller, node)
    assert puts(controller, node) == 1


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("script", "stored"),
    [
        ("echo early > ${b}; sleep 2", [b"early\n"]),
        ("echo early > ${b}; sleep 2; echo late > ${b}", [b"early\n", b"late\n"]),
    ],
    ids=["left as it was", "changed since"],
)
async def test_an_output_that_was_stored_ahead_is_stored_again_only_if_it_has_changed(
    controller: FakeController, config: WorkerConfig, monkeypatch: pytest.MonkeyPatch, script: str, stored: list[bytes]
) -> None:
    monkeypatch.setattr(Departures, "until_empty", lambda *_: as_soon_as_something_is_there(config))
    node = an_assignment(*shell(script), outputs=[an_output("b")])
    finish = await outcome_of(controller, node)
    assert puts(controller, node) == len(stored)
    assert controller.store.objects[finish.outputs[0].key] == stored[-1]
    assert finish.outputs[0].sha256 == hashlib.sha256(stored[-1]).hexdigest()


@pytest.mark.usefixtures("worker")
async def test_an_output_that_was_missing_when_it_was_to_be_stored_ahead_is_stored(
    controller: FakeController, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Departures, "until_empty", lambda *_: asyncio.sleep(0))
    node = an_assignment(*shell("sleep 1; echo late > ${b}"), outputs=[an_output("b")])
    finish = await outcome_of(controller, node)
    assert controller.store.objects[finish.outputs[0].key] == b"late\n"


@pytest.mark.usefixtures("worker")
async def test_what_a_program_that_failed_has_left_counts_for_nothing(controller: FakeController) -> None:
    node = an_assignment(*shell("echo some > ${b}; exit 3"), outputs=[an_output("b")])
    finish = await outcome_of(controller, node)
    assert (finish.reason, finish.outputs) == (Reason.EXIT, [])


@pytest.mark.parametrize("said", ["text/plain", "image/png", ""])
async def test_an_input_has_the_name_of_what_it_is(controller: FakeController, files: str, said: str) -> None:
    node = an_assignment(*shell("ls /pup/in; echo ${a} $INPUT_A"), inputs=[controller.input("a", b"words", said=said)])
    finish = await outcome_of(controller, node)
    assert finish.outcome is Outcome.SUCCEEDED, finish
    assert controller.text(finish) == ["a.txt", "/pup/in/a.txt /pup/in/a.txt"]


async def test_an_input_that_does_not_come_leaves_nothing(controller: FakeController, files: str) -> None:
    node = an_assignment(*shell("true"), inputs=[controller.input("a", b"words")])
    del controller.store.objects["in/a"]
    assert (await outcome_of(controller, node)).reason is Reason.TRANSFER


def a_document() -> bytes:
    """Which only its end tells from any other ZIP."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("picture", bytes(3 * MB))
        file.writestr("word/document.xml", "<document/>")
    return packed.getvalue()


@pytest.mark.parametrize(
    ("content", "name"),
    [(b"", "a"), (b"words " * MB, "a.txt"), (a_document(), "a.docx")],
    ids=["empty", "text", "docx"],
)
async def test_an_upload_that_nobody_has_read_has_the_name_of_what_it_is(
    controller: FakeController, files: str, content: bytes, name: str
) -> None:
    inputs = [controller.input("a", content, checked=False)]
    finish = await outcome_of(controller, an_assignment(*shell("ls /pup/in; echo ${a}"), inputs=inputs))
    assert finish.outcome is Outcome.SUCCEEDED, finish
    assert controller.text(finish) == [name, f"/pup/in/{name}"]
