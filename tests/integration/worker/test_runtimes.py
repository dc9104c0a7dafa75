"""Nodes of a tier run by the runtime that the operator gave it: here gVisor's, on an engine of the test's own."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pupload.config import WorkerConfig
from pupload.protocol import Outcome
from tests.integration.worker.conftest import serving
from tests.support.fake_controller import FakeController, an_assignment, an_output, shell
from tests.support.private_engine import PrivateEngine, a_private_engine

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

RUNSC = shutil.which("runsc") or ""
KERNEL = Path("/proc/version").read_text().strip()
ARGUMENTS = ["--ignore-cgroups", "--network=none"]
"""As it takes to run beside anything, also where cgroups are old: what is tried is who runs a node."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateEngine]:
    if not RUNSC:
        pytest.skip("runsc is not installed")
    settings = tmp_path_factory.mktemp("engine") / "daemon.json"
    settings.write_text(json.dumps({"runtimes": {"runsc": {"path": RUNSC, "runtimeArgs": ARGUMENTS}}}))
    with a_private_engine("--config-file", str(settings)) as engine:
        tried = ["run", "--rm", "--network", "none", "--runtime", "runsc", "pupload/busybox", "true"]
        if (answer := engine.asked(*tried)).returncode != 0:
            pytest.skip(f"runsc does not run on this kernel: {answer.stderr.strip()[-200:]}")
        yield engine


async def test_a_tier_with_a_runtime_has_a_kernel_of_its_own(
    controller: FakeController, config: WorkerConfig, engine: PrivateEngine
) -> None:
    settings = config.model_copy(update={"docker_host": engine.address, "runtimes": {"t-*": "runsc"}})
    script = (
        "cat /proc/version; cat $INPUT_LETTER > $OUTPUT_OUT;"
        " for it in /x /pup/in/x; do touch $it 2>/dev/null && echo wrote $it; done; id -u"
    )
    node = an_assignment(
        *shell(script), inputs=[controller.input("letter", b"dear\n")], outputs=[an_output("out")]
    )  # fmt: skip
    async with serving(settings):
        await controller.offer(node)
        finish = await controller.finish_of(node, within_s=90)
    said = controller.text(finish)
    assert controller.store.objects[finish.outputs[0].key] == b"dear\n", said
    assert said[-1] == "65532"
    assert not [line for line in said if line.startswith("wrote")]
    assert KERNEL not in said


async def test_a_tier_without_one_runs_as_ever(
    controller: FakeController, config: WorkerConfig, engine: PrivateEngine
) -> None:
    settings = config.model_copy(update={"docker_host": engine.address, "runtimes": {"gn-*": "runsc"}})
    node = an_assignment(*shell("cat /proc/version"))
    async with serving(settings):
        await controller.offer(node)
        finish = await controller.finish_of(node)
    assert finish.outcome is Outcome.SUCCEEDED
    assert controller.text(finish) == [KERNEL]
