"""Whatever a program makes of its output, both ways of files: what is taken, what is refused and why."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pupload.config import WorkerConfig
from pupload.flow.plan import Reason
from pupload.protocol import Assignment, Finish, Outcome
from pupload.worker.serving import Worker
from tests.integration.worker.conftest import serving
from tests.support.docker_images import WITH_PERL, ensure_perl
from tests.support.fake_controller import MB, FakeController, an_assignment, an_output, shell

pytestmark = pytest.mark.integration

_SOCKET = "use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0); bind(S, pack_sockaddr_un('/pup/out/out'))"
_NOTED = "system('echo x > /pup/out/out'); my @a = ('/pup/out/out', 'user.note', 'y', 1, 0); syscall(188, @a)"
_TERABYTE = "dd if=/dev/zero bs=1 count=1 seek=1099511627775 of="


End = tuple[Reason, str] | bytes
"""What is to come of it: a reason and some words, or what the object holds."""


@dataclass(frozen=True)
class Shape:
    """What a program makes of its folder for outputs, and its end; `archived` where files come through the engine."""

    script: str
    end: End
    archived: End | None = None
    perl: bool = False
    types: tuple[str, ...] = ("*/*",)

    def assignment(self, controller: FakeController) -> Assignment:
        output = an_output("out", max_size_bytes=MB, types=list(self.types))
        letter = controller.input("letter", b"dear\n")
        if self.perl:
            return an_assignment("perl", "-e", self.script, image=WITH_PERL, inputs=[letter], outputs=[output])
        return an_assignment(*shell(f"cd /pup/out; {self.script}"), inputs=[letter], outputs=[output])


TAKEN = b"x\n"
LINK = (Reason.POLICY, "a symbolic link")
FOLDER = (Reason.POLICY, "a directory")
UNMADE = (Reason.EXIT, "did not write /pup/out/out")

SHAPES = {
    "absolute link": Shape("ln -s /etc/shadow out", LINK, FOLDER),
    "relative link": Shape("ln -s ../in/letter.txt out", LINK, FOLDER),
    "dangling link": Shape("ln -s nowhere out", LINK, FOLDER),
    "link to itself": Shape("ln -s out out", LINK, FOLDER),
    "link upwards": Shape("ln -s ../../../../.. out", LINK, FOLDER),
    "link in the path": Shape("cd /; rmdir /pup/out; ln -s /etc /pup/out; true", UNMADE),
    "hard link to an input": Shape("ln /pup/in/letter.txt out; true", UNMADE),
    # The engine gives the content of what is the program's own anyhow.
    "hard link": Shape("echo x > a; ln a out", (Reason.POLICY, "several hard links"), TAKEN),
    "named pipe": Shape("mkfifo out", (Reason.POLICY, "a named pipe"), FOLDER),
    "socket": Shape(_SOCKET, (Reason.POLICY, "a socket or a device"), UNMADE, perl=True),
    "character device": Shape("mknod out c 1 3; true", UNMADE),
    "block device": Shape("mknod out b 8 0; true", UNMADE),
    "folder": Shape("mkdir out", FOLDER),
    "sparse terabyte": Shape(f"{_TERABYTE}out", (Reason.POLICY, "1tb large"), FOLDER),
    "sparse terabyte beside": Shape(f"{_TERABYTE}rest; echo x > out", TAKEN),
    "beyond the limit": Shape("head -c 2m /dev/zero > out", (Reason.POLICY, "2mb large"), FOLDER),
    "empty": Shape("true > out", b""),
    "unreadable": Shape("echo x > out; chmod 0 out", TAKEN),
    "strange names beside": Shape(r"""touch "$(printf 'a\nb')" "$(printf '\377')"; echo x > out""", TAKEN),
    "a name nearly": Shape(r"""echo x > "$(printf 'out\nx')"; true""", UNMADE),
    "thousands beside": Shape("seq 2000 | xargs touch; echo x > out", TAKEN),
    "deep folders beside": Shape(
        "system('echo x > /pup/out/out'); chdir '/pup/out'; for (1..1500) { mkdir 'd'; chdir 'd' }", TAKEN, perl=True
    ),
    "root by its mode": Shape("echo x > out; chmod 7755 out", TAKEN),
    "with attributes": Shape(_NOTED, TAKEN, perl=True),
    "wrong type": Shape("echo words > out", (Reason.TYPE, "text/plain"), types=("image/*",)),
}


@pytest.fixture(params=["mount", "archive"])
async def worker(config: WorkerConfig, request: pytest.FixtureRequest) -> AsyncIterator[Worker]:
    async with serving(config.model_copy(update={"files": request.param})) as at_work:
        yield at_work


def _is_so(controller: FakeController, expected: End, finish: Finish) -> bool:
    ours = {key: body for key, body in controller.store.objects.items() if key.startswith(finish.ref.run_id)}
    outputs = [body for key, body in ours.items() if not key.endswith("/log")]
    if isinstance(expected, bytes):
        return (finish.outcome, outputs) == (Outcome.SUCCEEDED, [expected])
    reason, says = expected
    return (finish.reason, finish.final, outputs) == (reason, True, []) and says in finish.message


async def test_each_shape_of_an_output_has_its_end(
    controller: FakeController, worker: Worker, config: WorkerConfig, request: pytest.FixtureRequest
) -> None:
    assert worker
    ensure_perl()
    way = request.node.callspec.params["worker"]
    nodes = {name: shape.assignment(controller) for name, shape in SHAPES.items()}
    await controller.offer(*nodes.values())
    ends = {name: await controller.finish_of(node, within_s=60) for name, node in nodes.items()}
    wrong = {}
    for name, shape in SHAPES.items():
        expected = shape.archived if way == "archive" and shape.archived is not None else shape.end
        if not _is_so(controller, expected, ends[name]):
            wrong[name] = f"{ends[name].outcome} {ends[name].reason} {ends[name].message}"
    assert wrong == {}
    assert not any(b"root:" in body for body in controller.store.objects.values())
    await controller.until(lambda: _attempts_in(config.work_dir) == [])


def _attempts_in(work_dir: Path) -> list[str]:
    return [path.name for path in work_dir.iterdir() if path.is_dir()]


async def test_what_is_swapped_between_check_and_upload_is_not_uploaded(
    controller: FakeController, config: WorkerConfig
) -> None:
    async with serving(config):
        # The first try to store it fails; in the pause before the next a link to the host's own takes its place.
        controller.store.faults.append(503)
        node = an_assignment(*shell("echo x > /pup/out/out; sleep 0.1"), outputs=[an_output("out")])
        await controller.offer(node)
        await controller.until(lambda: any(asked.startswith("PUT") for asked in controller.store.asked))
        (output,) = await asyncio.to_thread(lambda: list(config.work_dir.glob("*/out/out")))
        output.unlink()
        output.symlink_to("/etc/passwd")
        finish = await controller.finish_of(node)
    assert controller.store.objects[finish.outputs[0].key] == b"x\n"
