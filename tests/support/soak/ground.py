"""A whole system of processes: database, store, controllers, and workers in namespaces with an engine each."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import asyncpg
import docker
import requests

from pupload.failpoints import VARIABLE
from pupload.stores.base import StoreAddress
from pupload.stores.rclone import find_program
from pupload.stores.s3 import S3Store
from tests.support.checker import violations_of
from tests.support.facts import Surveyed
from tests.support.fleet import Fleet, Part
from tests.support.history import History
from tests.support.private_engine import PrivateEngine, a_private_engine
from tests.support.private_postgres import PrivatePostgres, a_private_postgres
from tests.support.processes import Footprint, footprint
from tests.support.s3_servers import ACCESS_KEY, SECRET_KEY, S3Server, free_port, wait_for_server
from tests.support.soak.front import Front, a_front
from tests.support.soak.network import Link, Net, a_net
from tests.support.web_server import WebServer, a_web_server

READY_S = 120.0
DRAIN_S = 240.0
RECEIVER = "127.0.0.2"
_LOOPBACK = "127.0.0.1"
_POLL_S = 0.3
_DATABASE = "soak"

CLIENTS = {
    "PUPLOAD_URL_ALLOW": json.dumps([RECEIVER]),
    "PUPLOAD_WEBHOOK_DELAY_S": "0.5",
    "PUPLOAD_PIN_IMAGES": "false",
    "PUPLOAD_CPU": "1",
    "PUPLOAD_CPU_OVERCOMMIT": "3",
    "PUPLOAD_MEMORY": "4gb",
    "PUPLOAD_DISK": "100gb",
}
"""What suits the machine and the load; all that bears on faults is as it is shipped."""

HASTY = {"PUPLOAD_BEAT_S": "2", "PUPLOAD_FENCE_S": "8", "PUPLOAD_LEASE_S": "12", "PUPLOAD_JANITOR_S": "10"}
"""Shorter leases, for more deaths in less time."""

SHIPPED = {"PUPLOAD_LEASE_S": "30"}
"""Leases as they are unless somebody says otherwise."""


@dataclass(slots=True)
class StoreProcess:
    """rclone over a folder. It can be killed, and started again as it was."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        command = [str(find_program()), "serve", "s3", "--addr", f"{_LOOPBACK}:{self.port}", str(self.folder)]
        environment = {"RCLONE_AUTH_KEY": f'"{ACCESS_KEY},{SECRET_KEY}"', "RCLONE_CONFIG": "", "HOME": str(self.folder)}
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        wait_for_server(self.port, self.process)

    def kill(self) -> None:
        """As a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(READY_S)


@dataclass(frozen=True, slots=True)
class Exit:
    """A process that ended and that nobody had struck."""

    part: str
    code: int
    last_words: str


@dataclass(slots=True)
class Ground:
    """Everything that a nemesis can strike and a checker look at."""

    fleet: Fleet
    postgres: PrivatePostgres
    dsn: str
    store: StoreProcess
    store_front: Front
    net: Net
    receiver: WebServer
    key: str
    lease_s: float
    links: dict[str, Link] = field(default_factory=dict)
    engines: dict[str, PrivateEngine] = field(default_factory=dict)
    exits: list[Exit] = field(default_factory=list)
    _struck: set[str] = field(default_factory=set)
    _kept: threading.Lock = field(default_factory=threading.Lock)
    _over: threading.Event = field(default_factory=threading.Event)

    @property
    def controllers(self) -> list[str]:
        """Their names."""
        return list(self.fleet.urls)

    @property
    def workers(self) -> list[str]:
        """Their names."""
        return [name for name in self.fleet.parts if name not in self.fleet.urls]

    @property
    def urls(self) -> list[str]:
        """Where the controllers listen."""
        return list(self.fleet.urls.values())

    @property
    def controller_ports(self) -> list[int]:
        """Their ports."""
        return [int(url.rpartition(":")[2]) for url in self.urls]

    def part(self, name: str) -> Part:
        """The process of this name."""
        return self.fleet.parts[name]

    def wish(self, name: str) -> Path:
        """The file of its failpoints."""
        return self.fleet.place / f"{name}.failpoints"

    @contextlib.contextmanager
    def struck(self, *names: str) -> Iterator[None]:
        """Nobody else starts these while they are being struck; afterwards they run."""
        with self._kept:
            self._struck |= set(names)
        try:
            yield
        finally:
            with self._kept:
                for name in names:
                    self._revive(self.part(name))
                self._struck -= set(names)

    @staticmethod
    def _revive(part: Part) -> None:
        part.signal(signal.SIGCONT)
        if part.process is None or part.process.poll() is not None:
            part.start()

    def keep_up(self) -> None:
        """As a service manager would: what ends by itself is noted, and started again."""
        while not self._over.wait(_POLL_S):
            with self._kept:
                for name, part in self.fleet.parts.items():
                    code = part.process.poll() if part.process else None
                    if code is not None and name not in self._struck:
                        self.exits.append(Exit(name, code, part.log.strip().rpartition("\n")[2]))
                        part.start()

    def leave_alone(self) -> None:
        """Nobody keeps it up any more."""
        self._over.set()

    def mend(self) -> None:
        """All is whole again: links, store, engines, processes."""
        self.store_front.mend()
        for link in self.links.values():
            link.mend()
        for name in self.fleet.parts:
            self.wish(name).unlink(missing_ok=True)

    def footprints(self) -> dict[str, Footprint]:
        """What each process holds now."""
        held = {name: footprint(part.process.pid) for name, part in self.fleet.parts.items() if part.process}
        return {name: each for name, each in held.items() if each is not None}

    def is_ready(self, url: str) -> bool:
        """True when the controller there takes requests."""
        try:
            return requests.get(f"{url}/readyz", timeout=5).ok
        except requests.RequestException:
            return False

    def live_workers(self) -> int:
        """How many are known to be there."""
        try:
            said = requests.get(f"{self.urls[0]}/api/v1/workers", headers=self.headers, timeout=5).json()
        except requests.RequestException:
            return 0
        return sum(each["Live"] for each in said.get("Workers", []))

    @property
    def headers(self) -> dict[str, str]:
        """What a call needs."""
        return {"Authorization": f"Bearer {self.key}"}

    async def violations(self, history: History, footprints: Mapping[int, Footprint]) -> list[str]:
        """What does not hold now."""
        address = self.fleet.store
        store = S3Store(address)
        engines = [docker.APIClient(base_url=engine.address, timeout=60) for engine in self.engines.values()]
        tokens = [self.part(name).environment["PUPLOAD_WORKER_TOKEN"] for name in self.workers]
        place = Surveyed(
            dsn=self.dsn,
            stores={"default": store},
            workers=[self.fleet.mark(name) for name in self.workers],
            engines=engines,
            work_dirs=[self.fleet.place / name / "work" for name in self.workers],
            logs=[part.log_path for part in self.fleet.parts.values()],
            secrets=[SECRET_KEY, self.key, *tokens],
            footprints=footprints,
            lease_s=self.lease_s,
        )
        try:
            return await violations_of(place, history)
        finally:
            for engine in engines:
                engine.close()
            await store.close()


def eventually(holds: Callable[[], bool], otherwise: str, within_s: float = READY_S) -> None:
    """Returns when it holds.

    Errors: TimeoutError saying `otherwise`.
    """
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(otherwise)
        time.sleep(_POLL_S)


@contextlib.contextmanager
def a_ground(workers: Sequence[str], controllers: Sequence[str], settings: Mapping[str, str]) -> Iterator[Ground]:
    """The system, at work as long as the block. Nothing of it is left afterwards."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pup-soak-", ignore_cleanup_errors=True)))
        net, postgres = stack.enter_context(a_net()), stack.enter_context(a_private_postgres())
        dsn = asyncio.run(_new_database(postgres))
        store = StoreProcess(place / "store", free_port())
        store.folder.mkdir()
        stack.callback(store.kill)
        store.start()
        front = stack.enter_context(a_front((net.address, free_port()), [(_LOOPBACK, store.port)]))
        receiver = stack.enter_context(a_web_server(RECEIVER))
        fleet = Fleet(place, dsn, _bucket(front), front.url.removeprefix("http://"), settings, host=net.address)
        ground = Ground(fleet, postgres, dsn, store, front, net, receiver, "", float(settings["PUPLOAD_LEASE_S"]))
        stack.callback(_end, ground)
        for name in controllers:
            url = fleet.add_controller(name, **_failpoints(ground, name))
            eventually(partial(ground.is_ready, url), f"{name} is not ready:\n{fleet.log}")
        ground.key = _new_key(fleet)
        for number, name in enumerate(workers):
            _add_worker(ground, stack, name, 2 + number)
        eventually(lambda: ground.live_workers() == len(workers), f"not all workers are there:\n{fleet.log}")
        keeper = threading.Thread(target=ground.keep_up, name="keeper", daemon=True)
        keeper.start()
        stack.callback(keeper.join)
        stack.callback(ground.leave_alone)
        yield ground


def _failpoints(ground: Ground, name: str) -> dict[str, str]:
    return {VARIABLE: f"@{ground.wish(name)}"}


def _add_worker(ground: Ground, stack: ExitStack, name: str, number: int) -> None:
    link = ground.links[name] = ground.net.add(name, number)
    engine = ground.engines[name] = stack.enter_context(a_private_engine())
    # Not all of them speak to the same controller first.
    order = ground.controllers[number % 2 :] + ground.controllers[: number % 2]
    told = {"PUPLOAD_DOCKER_HOST": engine.address, **_failpoints(ground, name)}
    ground.fleet.add_worker(name, *order, within=link.inside, **told)


def _bucket(front: Front) -> StoreAddress:
    return S3Server("{}:{}".format(*front.address), strict=True).new_bucket()


async def _new_database(postgres: PrivatePostgres) -> str:
    connection = await asyncpg.connect(postgres.dsn)
    try:
        await connection.execute(f"CREATE DATABASE {_DATABASE}")
    finally:
        await connection.close()
    return postgres.dsn.replace("/postgres?", f"/{_DATABASE}?")


def _new_key(fleet: Fleet) -> str:
    made = subprocess.run(
        [sys.executable, "-m", "pupload.cli.main", "key", "create", "soak", "--scope", "admin"],
        check=True, capture_output=True, text=True, env={**os.environ, **fleet.controller_environment()},
    )  # fmt: skip
    return made.stdout.strip()


def _end(ground: Ground) -> None:
    """Whatever state it is in."""
    for part in ground.fleet.parts.values():
        part.signal(signal.SIGCONT)
        part.kill()
