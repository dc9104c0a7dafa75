"""`pup controller` and `pup worker`: one part each, as a process of its own."""

import asyncio
import json
import logging
import os
import sys
from contextlib import ExitStack

from pupload.cli.collecting import collect_seldom
from pupload.cli.folder import held
from pupload.cli.stopping import told_to_stop
from pupload.config import ControllerConfig, WorkerConfig, read_config
from pupload.failpoints import arm_by_environment
from pupload.log import start_logging

_LOG = logging.getLogger(__name__)


def serve_controller() -> None:
    """Returns when told to stop.

    Errors: InvalidConfig with every problem; what the parts raise when they do not start.
    """
    from pupload.cli.backing import is_embedded

    config = read_config(ControllerConfig)
    arm_by_environment()
    start_logging()
    _LOG.info("configuration: %s", json.dumps(config.redacted()))
    with ExitStack() as stack:
        if is_embedded(config):
            stack.enter_context(held(config.data_dir))
        asyncio.run(_controller(config))


async def _controller(config: ControllerConfig) -> None:
    from pupload.cli.backing import backing
    from pupload.controller.app import running_controller

    with told_to_stop() as stop:
        try:
            async with (
                backing(config) as ground,
                running_controller(config, dsn=ground.dsn, stores=ground.stores) as controller,
            ):
                collect_seldom()
                _LOG.info("listening on %s", controller.url)
                if advice := await controller.parts.keys.advice():
                    _LOG.warning("%s", advice)
                await stop.wait()
        except asyncio.CancelledError:
            _LOG.warning("stopped at once")


def serve_worker(*, quiet: bool, settings_on_stdin: bool) -> None:
    """Returns when told to stop and drained.

    Settings that are not known yet come in one line of standard input: by then all is loaded.
    Errors: InvalidConfig with every problem; EngineUnavailable where no engine answers.
    """
    from pupload.worker.app import run_worker

    if settings_on_stdin:
        os.environ |= json.loads(sys.stdin.readline() or "{}")
    config = read_config(WorkerConfig)
    arm_by_environment()
    start_logging(logging.WARNING if quiet else logging.INFO)
    _LOG.info("configuration: %s", json.dumps(config.redacted()))
    asyncio.run(run_worker(config))
