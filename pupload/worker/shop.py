"""What the attempts of a worker share, and the value that goes through the steps of one."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from pupload.config import WorkerConfig
from pupload.containers.cgroup import Departures
from pupload.containers.cleaning import Cleaning
from pupload.containers.docker import Engine
from pupload.containers.egress import EgressNetwork
from pupload.containers.firewall import NoWall
from pupload.containers.images import Image, Images
from pupload.containers.logs import Log
from pupload.containers.spec import GpuDevice
from pupload.containers.streams import Attached
from pupload.flow.plan import Reason
from pupload.protocol import Assignment, AttemptRef, FolderFound, OutputFound, Snapshot
from pupload.web.guarded import Web
from pupload.worker.control import Control
from pupload.worker.delivery import Delivery
from pupload.worker.hold import Hold
from pupload.worker.live import LiveLog
from pupload.worker.staging import Stage, Staged
from pupload.worker.transfer import Transfers
from pupload.worker.workdir import WorkDir


@dataclass(frozen=True, slots=True)
class Shop:
    """What all attempts of a worker share. `mounts`: the engine sees the work directory; otherwise files are streamed.

    `starts` bounds how many containers are being started at once: more only queue inside the engine.
    """

    config: WorkerConfig
    instance: str
    engine: Engine
    images: Images
    cleaning: Cleaning
    control: Control
    transfers: Transfers
    starts: asyncio.Semaphore
    mounts: bool
    owner: tuple[int, int]
    web: Web
    egress: EgressNetwork | NoWall
    departures: Departures


@dataclass(slots=True)
class Attempt:
    """One try of one node, with what its steps have found so far."""

    assignment: Assignment
    hold: Hold
    log: Log
    live: LiveLog
    device: GpuDevice | None = None
    place: WorkDir | None = None
    staged: list[Staged] = field(default_factory=list)
    image: Image | None = None
    container: str = ""
    attached: Attached | None = None
    killed: Reason | None = None
    exit_code: int | None = None
    delivery: Delivery | None = None
    delivered: list[OutputFound] = field(default_factory=list)
    kept: list[FolderFound] = field(default_factory=list)
    calls: str | None = None
    snapshots: list[Snapshot] = field(default_factory=list)
    log_key: str = ""
    timings: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of its container and of its work directory."""
        return attempt_name(self.assignment.ref)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Note how long the block takes."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.timings[name] = round(time.perf_counter() - began, 4)


def attempt_name(ref: AttemptRef) -> str:
    """The name by which an attempt's container and directory are known: `pup-<run8>-<node>-<attempt>`.

    The run's last eight characters, because ids that sort by time begin alike.
    """
    return f"pup-{ref.run_id[-8:]}-{ref.node_id}-{ref.attempt}"


def stage_of(shop: Shop, attempt: Attempt) -> Stage:
    """Who moves the attempt's files, for one phase."""
    return Stage(attempt.assignment.ref, shop.control, shop.transfers, shop.config.transfer_timeout_s)


def placed(attempt: Attempt) -> WorkDir:
    """The attempt's directory, which is there once its first step is through."""
    assert attempt.place is not None
    return attempt.place
