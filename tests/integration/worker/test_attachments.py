"""Attachments on the real engine: fetched straight into the container, by a mount and by an archive."""

from collections.abc import AsyncIterator, Iterator

import pytest

from pupload.config import WorkerConfig
from pupload.flow.plan import Reason
from pupload.protocol import AttachmentSpec, Outcome
from pupload.worker.serving import Worker
from tests.integration.worker.conftest import serving
from tests.support.fake_controller import FakeController, an_assignment, shell
from tests.support.web_server import Reply, WebServer, a_web_server, endless

pytestmark = pytest.mark.integration

LOOK = 'cd "$PUP_ATTACHMENTS" && pwd && ls && cat * && ! touch x 2>/dev/null && ! rm -f a.txt 2>/dev/null'


@pytest.fixture
def strangers() -> Iterator[WebServer]:
    with a_web_server() as server:
        yield server


@pytest.fixture
async def worker(config: WorkerConfig, strangers: WebServer) -> AsyncIterator[Worker]:
    async with serving(config.model_copy(update={"url_allow": (f"127.0.0.1:{strangers.port}",)})) as at_work:
        yield at_work


def attached(
    url: str, name: str = "a.txt", content_type: str = "text/plain", limit_bytes: int = 1000
) -> AttachmentSpec:
    return AttachmentSpec(name=name, url=url, content_type=content_type, limit_bytes=limit_bytes)


@pytest.mark.parametrize("files", ["mount", "archive"])
async def test_a_program_reads_its_attachments_and_cannot_change_them(
    controller: FakeController, config: WorkerConfig, strangers: WebServer, files: str
) -> None:
    first = strangers.on("/a", Reply(body=b"first\n"))
    second = strangers.on("/b", Reply(body=b"second\n"))
    node = an_assignment(*shell(LOOK), attachments=[attached(first), attached(second, "b.txt")])
    allowed = {"files": files, "url_allow": (f"127.0.0.1:{strangers.port}",)}
    async with serving(config.model_copy(update=allowed)):
        await controller.offer(node)
        finish = await controller.finish_of(node)
    assert finish.outcome is Outcome.SUCCEEDED, finish
    assert controller.text(finish) == ["/pup/attachments", "a.txt", "b.txt", "first", "second"]
    assert controller.store.objects == {}


@pytest.mark.usefixtures("worker")
async def test_an_attachment_that_does_not_come_fails_the_attempt_and_says_why(
    controller: FakeController, strangers: WebServer
) -> None:
    text = strangers.on("/text", Reply(body=b"plain text"))
    cases = [
        (attached(strangers.url + "/none?token=secret"), Reason.TRANSFER, False),
        (attached(strangers.on("/endless", endless(b"x" * 100))), Reason.TRANSFER, True),
        (attached("http://127.0.0.1:1/?token=secret"), Reason.POLICY, True),
        (attached(text, "a.png", "image/png"), Reason.TYPE, True),
    ]
    for spec, reason, final in cases:
        node = an_assignment("true", attachments=[spec])
        await controller.offer(node)
        finish = await controller.finish_of(node)
        assert (finish.reason, finish.final) == (reason, final), finish
        assert f"attachment {spec.name}" in finish.message
        assert "secret" not in finish.message
