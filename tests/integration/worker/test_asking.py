"""Programs that ask the client, on the real engine, with and without mounts."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pupload.config import WorkerConfig
from pupload.flow.plan import Reason
from pupload.protocol import Finish, KeptFolder, Outcome, ToolSheet
from pupload.worker.serving import Worker
from tests.integration.worker.conftest import serving
from tests.support.fake_controller import FakeController, an_assignment, an_output, shell

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("worker")]

CALLS = '[{"id": "1", "name": "look"}]'
ASK = f"echo '{CALLS}' > $PUP_TOOL_CALLS; exit 85"


@pytest.fixture(params=["mount", "archive"])
async def worker(config: WorkerConfig, request: pytest.FixtureRequest) -> AsyncIterator[Worker]:
    async with serving(config.model_copy(update={"files": request.param})) as at_work:
        yield at_work


async def finish_of(
    controller: FakeController, script: str, state: bytes | None = None, results: str | None = None, **more: Any
) -> Finish:
    folder: KeptFolder = controller.folder("state", state).model_copy(update={"until_done": True})
    sheet = ToolSheet(tools='{"Tools": []}', results=results, exit_code=85)
    outputs = [an_output("out", required=False)]
    node = an_assignment(*shell(script), folders=[folder], outputs=outputs).model_copy(update={"tools": sheet, **more})
    await controller.offer(node)
    return await controller.finish_of(node)


async def test_a_program_asks_and_goes_on_where_it_was(controller: FakeController) -> None:
    asked = await finish_of(controller, f"cat $PUP_TOOLS; echo kept > $PUP_STATE/note; {ASK}")
    assert (asked.outcome, asked.exit_code, json.loads(asked.tool_calls)) == (Outcome.ASKED, 85, json.loads(CALLS))
    assert controller.text(asked) == ['{"Tools": []}']
    (state,) = asked.folders
    going_on = "cat $PUP_TOOL_RESULTS $PUP_STATE/note; cat $PUP_TOOL_CALLS; echo more >> $PUP_STATE/note"
    done = await finish_of(controller, going_on, controller.store.objects[state.key], '["rain"]\n')
    assert (done.outcome, done.tool_calls) == (Outcome.SUCCEEDED, "")
    assert controller.text(done) == ['["rain"]', "kept"]
    # An attempt that is through leaves its state behind.
    assert done.folders == []


async def test_what_is_on_offer_is_read_only_and_nothing_else_becomes_writable(controller: FakeController) -> None:
    script = "for it in $PUP_TOOLS /pup/in/x /pup/new; do (echo x > $it) 2>/dev/null && echo wrote $it; done; true"
    finish = await finish_of(controller, script)
    assert finish.outcome is Outcome.SUCCEEDED
    assert controller.text(finish) == []


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("head -c 300000 /dev/zero > $PUP_TOOL_CALLS; exit 85", "/pup/tool_calls.json is"),
        (r"printf '\377' > $PUP_TOOL_CALLS; exit 85", "is not UTF-8"),
        (f"ln -s /etc/passwd $PUP_STATE/users; {ASK}", "cannot be kept"),
    ],
)
async def test_what_cannot_be_taken_fails_the_attempt_for_good(
    controller: FakeController, script: str, says: str
) -> None:
    finish = await finish_of(controller, script)
    assert (finish.outcome, finish.reason, finish.final) == (Outcome.FAILED, Reason.POLICY, True)
    assert says in finish.message


async def test_another_exit_code_is_no_question(controller: FakeController) -> None:
    finish = await finish_of(controller, f"echo '{CALLS}' > $PUP_TOOL_CALLS; exit 84")
    assert (finish.outcome, finish.reason, finish.exit_code) == (Outcome.FAILED, Reason.EXIT, 84)


async def test_the_beginnings_of_texts_come_with_the_finish(controller: FakeController) -> None:
    node = an_assignment(
        *shell("cat $INPUT_IN > $OUTPUT_OUT"),
        inputs=[controller.input("in", b"hello, world\n")],
        outputs=[an_output("out")],
    ).model_copy(update={"snapshot_bytes": 5})
    await controller.offer(node)
    finish = await controller.finish_of(node)
    assert [(each.side, each.text, each.size_bytes, each.truncated) for each in finish.snapshots] == [
        ("input", "hello", 13, True),
        ("output", "hello", 13, True),
    ]
