"""`pup dev`: everything on this machine, put together.

Database and store first, side by side, then the controller on them, then a worker as a process of its own that
speaks to the controller as any other worker would. Each ends with us, however we end: the worker and the store's
server die with their parent, and a database that was left running is taken over by the next start.
"""

import asyncio
import logging
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pupload.cli.backing import backing
from pupload.cli.child import WorkerChild, worker_name
from pupload.cli.collecting import collect_seldom
from pupload.cli.exits import Occupied
from pupload.cli.folder import held
from pupload.cli.stopping import told_to_stop
from pupload.config import ControllerConfig, read_config
from pupload.errors import PuploadError
from pupload.failpoints import arm_by_environment
from pupload.log import start_logging

_ENGINE_S = 3.0
_ENGINE_LOOK_S = 2.0


def run_dev(port: int, data: Path, *, verbose: bool) -> None:
    """Returns when told to stop.

    Errors: Occupied when folder or port have another owner; what the parts raise when they do not start.
    """
    start_logging(logging.INFO if verbose else logging.WARNING)
    arm_by_environment()
    config = read_config(ControllerConfig, port=port, data_dir=data)
    with held(data):
        _require_free(config)
        asyncio.run(_run(config, verbose=verbose))


def _require_free(config: ControllerConfig) -> None:
    """Before anything is started for nothing."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.host, config.port))
        except OSError as error:
            raise Occupied(
                f"port {config.port} is taken ({error.strerror}): end what listens, or choose another with --port"
            ) from error


async def _run(config: ControllerConfig, *, verbose: bool) -> None:
    with told_to_stop() as stop:
        try:
            async with _everything(config, verbose=verbose) as lines:
                print("\n".join(lines), flush=True)  # noqa: T201 - this is what the command has to say
                await stop.wait()
                print("stopping", flush=True)  # noqa: T201
        except asyncio.CancelledError:
            print("stopped at once", file=sys.stderr)  # noqa: T201


@asynccontextmanager
async def _everything(config: ControllerConfig, *, verbose: bool) -> AsyncIterator[list[str]]:
    """All parts running. Shape: the lines that say so."""
    worker = WorkerChild(config.data_dir, verbose=verbose)
    engine = asyncio.create_task(_engine())
    starting = asyncio.create_task(_start_on_engine(worker, engine))
    loading = asyncio.create_task(asyncio.to_thread(_load_controller))
    try:
        async with backing(config) as ground:
            await loading
            from pupload.controller.app import running_controller

            async with running_controller(config, dsn=ground.dsn, stores=ground.stores) as controller:
                worker.serve(controller.url, await controller.add_worker(worker_name(config.data_dir)))
                try:
                    advice = await controller.parts.keys.advice()
                    collect_seldom()
                    yield _ready_lines(controller.url, config.data_dir, await engine, advice)
                finally:
                    await _end(worker, starting)
    finally:
        await _end(worker, starting)


async def _end(worker: WorkerChild, starting: "asyncio.Task[None]") -> None:
    """The worker is gone afterwards, and is not started any more; a second call changes nothing."""
    starting.cancel()
    await asyncio.wait({starting})
    await worker.stop()


def _load_controller() -> None:
    """Half a second of imports, while the database starts."""
    import pupload.controller.app  # noqa: F401


async def _start_on_engine(worker: WorkerChild, engine: "asyncio.Task[str]") -> None:
    """Start the worker, now or as soon as there is an engine for it."""
    if not await asyncio.shield(engine):
        while not (version := await _engine()):  # noqa: ASYNC110 - an engine that starts gives no sign
            await asyncio.sleep(_ENGINE_LOOK_S)
        print(f"engine Docker {version} answers now", flush=True)  # noqa: T201
    worker.start()


async def _engine() -> str:
    """What the Docker engine says it is; "" where none answers."""
    from pupload.containers.docker import Engine

    try:
        async with asyncio.timeout(_ENGINE_S):
            engine = await Engine.connect()
            await engine.close()
    except (PuploadError, TimeoutError):
        return ""
    return engine.info.version


def _ready_lines(url: str, data: Path, engine: str, advice: str) -> list[str]:
    docker = f"Docker {engine}" if engine else "none answers: start Docker (runs wait until then)"
    return [
        f"pup dev is ready at {url}",
        f"  data    {data.resolve()}",
        f"  engine  {docker}",
        *([f"  keys    {advice}"] if advice else []),
        f"  try     pup test FLOW -i EDGE=FILE{_remote(url)}",
        "  stop    Ctrl-C",
    ]


def _remote(url: str) -> str:
    return "" if url == "http://127.0.0.1:1234" else f" --remote {url}"
