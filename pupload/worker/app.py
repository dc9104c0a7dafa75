"""The worker as a whole: everything it is made of is put together and taken apart here."""

import asyncio
import contextlib
import fcntl
import logging
import os
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

from pupload.config import WorkerConfig
from pupload.containers import janitor, probe
from pupload.containers.cgroup import Departures
from pupload.containers.cleaning import Cleaning, Marks, in_use_of
from pupload.containers.docker import Engine
from pupload.containers.egress import EgressNetwork
from pupload.containers.images import Images
from pupload.containers.shelf import Shelf
from pupload.errors import InvalidConfig
from pupload.web.addresses import read_allowed
from pupload.web.guarded import Patience, Web
from pupload.worker.capacity import survey
from pupload.worker.control import Control
from pupload.worker.egress import offer_egress
from pupload.worker.image import supply_of
from pupload.worker.serving import Worker
from pupload.worker.shop import Shop
from pupload.worker.transfer import Transfers
from pupload.worker.workdir import work_dir_of

log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def open_worker(config: WorkerConfig) -> AsyncIterator[Worker]:
    """A worker ready to serve; all it opened is closed at the end.

    Errors: InvalidConfig, EngineUnavailable.
    """
    config = config.model_copy(update={"work_dir": work_dir_of(config)})
    instance = secrets.token_hex(8)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(_alone_in(config))
        engine = await Engine.connect(config.docker_host, containers=_most_containers(config))
        stack.push_async_callback(engine.close)
        ledger = survey(config, engine.info)
        images = Images(engine, supply_of(config), Shelf(config.work_dir))
        stack.push_async_callback(images.close)
        control = Control(config.controller_url, config.worker_token.get_secret_value())
        stack.push_async_callback(control.close)
        allowed = read_allowed(config.url_allow)
        transfers = Transfers(allowed=allowed)
        stack.push_async_callback(transfers.close)
        shop = Shop(
            config=config,
            instance=instance,
            engine=engine,
            images=images,
            cleaning=_cleaning(config, engine, images),
            control=control,
            transfers=transfers,
            starts=asyncio.Semaphore(config.starts or 2 * engine.info.cores),
            mounts=await _mounts(config, engine, instance),
            owner=_owner(config),
            web=Web(allowed, Patience(total_s=config.transfer_timeout_s)),
            egress=await offer_egress(config, engine, _marks(config, instance)),
            departures=Departures(),
        )
        if isinstance(shop.egress, EgressNetwork):
            stack.push_async_callback(shop.egress.close)
        yield Worker(shop, ledger)


def _most_containers(config: WorkerConfig) -> int:
    cores = config.cpu or os.cpu_count() or 1
    return max(4, int(cores * config.cpu_overcommit))


def _cleaning(config: WorkerConfig, engine: Engine, images: Images) -> Cleaning:
    """Errors: InvalidConfig for marks on a disk that cannot be seen from here."""
    folder, high = engine.info.folder, config.image_high
    if high is None:
        return Cleaning(engine, images, None, lambda: 0.0)
    if not folder or not Path(folder).is_dir():
        where = folder or "on another machine"
        raise InvalidConfig(f"image_high: the engine's folder ({where}) cannot be seen here; mount it, or unset this")
    low = 0.9 * high if config.image_low is None else config.image_low
    return Cleaning(engine, images, Marks(high, low), partial(in_use_of, folder))


def _owner(config: WorkerConfig) -> tuple[int, int]:
    """Only root can give files to another user; a worker that is not root runs containers as itself."""
    if os.geteuid() == 0:
        return config.user, config.user
    return os.geteuid(), os.getegid()


def _marks(config: WorkerConfig, instance: str) -> dict[str, str]:
    """The labels of what this worker makes outside of attempts."""
    home = janitor.home_of(config.work_dir)
    return {janitor.WORKER: config.worker_name, janitor.HOME: home, janitor.INSTANCE: instance}


async def _mounts(config: WorkerConfig, engine: Engine, instance: str) -> bool:
    if config.files == "auto":
        mounts = await probe.sees(engine, config.work_dir, _marks(config, instance))
    else:
        mounts = config.files == "mount"
    how = "a mounted directory" if mounts else "archives streamed through the engine, which does not see it"
    log.info("files reach containers by %s: %s", how, config.work_dir)
    return mounts


@contextlib.contextmanager
def _alone_in(config: WorkerConfig) -> Iterator[None]:
    """Holds the work directory's lock: two workers in one would remove each other's files.

    Errors: InvalidConfig.
    """
    with (config.work_dir / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InvalidConfig(f"work_dir: another worker uses {config.work_dir}; give each its own") from error
        yield


async def run_worker(config: WorkerConfig) -> None:
    """Serve until SIGTERM or SIGINT: attempts may end within `drain_s`, the rest is released; a second one hurries.

    One that comes while the worker opens ends it as soon as it is open: only then is all taken back that it has begun
    on the engine. Until the event loop is closed no signal ends the process by itself.
    Errors: InvalidConfig, EngineUnavailable; Conflict when another instance took the name.
    """
    early = asyncio.Event()
    _on_signals(early.set)
    async with open_worker(config) as worker:
        _on_signals(worker.drain)
        if early.is_set():
            worker.drain()
        await worker.serve()


def _on_signals(told: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, told)
