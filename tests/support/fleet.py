"""A system in parts for tests: controllers and workers as processes of their own, on a given database and store."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pupload.stores.base import StoreAddress
from tests.support.claims import claim
from tests.support.s3_servers import free_port

_STOP_S = 30.0
_SETTLE_S = 15.0
_POLL_S = 0.02


@dataclass(slots=True)
class Part:
    """One `pup` process. It can be killed, and started again as it was."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    log_path: Path
    within: tuple[str, ...] = ()
    """What its command begins with, as one that enters a namespace and becomes it there."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """All that it has said."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def start(self) -> None:
        """Returns at once."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.within, sys.executable, "-m", "pupload.cli.main", *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )

    def signal(self, number: signal.Signals) -> None:
        """Tell the process; what is dead hears nothing."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """As a power cut would."""
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        assert self.process is not None
        return self.process.wait(_STOP_S)


@dataclass(slots=True)
class Fleet:
    """Controllers and workers by name, over one database and one store."""

    place: Path
    database_url: str
    store: StoreAddress
    public_endpoint: str
    settings: Mapping[str, str] = field(default_factory=dict)
    parts: dict[str, Part] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    host: str = "127.0.0.1"
    """Where its controllers listen."""

    def add_controller(self, name: str, **settings: str) -> str:
        """The address of a new controller, with settings of its own."""
        port = free_port()
        self.urls[name] = f"http://{self.host}:{port}"
        listening = {"PUPLOAD_HOST": self.host, "PUPLOAD_PORT": str(port)}
        self._add(name, ("controller",), {**self.controller_environment(), **listening, **settings})
        return self.urls[name]

    def add_worker(self, name: str, *controllers: str, within: tuple[str, ...] = (), **settings: str) -> None:
        """A new worker of the controllers, with settings of its own."""
        claim(self.mark(name))
        added = subprocess.run(
            [sys.executable, "-m", "pupload.cli.main", "worker-token", "add", self.mark(name)],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, **self.controller_environment()},
        )
        environment = {
            **self.settings,
            "PUPLOAD_CONTROLLER_URL": " ".join(self.urls[each] for each in controllers),
            "PUPLOAD_WORKER_TOKEN": added.stdout.strip(),
            "PUPLOAD_WORKER_NAME": self.mark(name),
            "PUPLOAD_WORK_DIR": str(self.place / name / "work"),
        }
        self._add(name, ("worker",), {**environment, **settings}, within)

    def mark(self, name: str) -> str:
        """The name that a worker has on this engine, where other fleets may run too."""
        return f"{self.place.name}-{name}"

    def _add(
        self, name: str, arguments: tuple[str, ...], environment: Mapping[str, str], within: tuple[str, ...] = ()
    ) -> None:
        (self.place / name).mkdir()
        self.parts[name] = Part(arguments, environment, self.place / f"{name}.log", within)
        self.parts[name].start()

    def controller_environment(self) -> dict[str, str]:
        """What a controller is told, and every command that needs its database."""
        store = {
            "name": "default",
            "type": self.store.type,
            "endpoint": self.store.endpoint,
            "public_endpoint": self.public_endpoint,
            "bucket": self.store.bucket,
            "access_key": self.store.access_key,
            "secret_key": self.store.secret_key,
            "secure": self.store.secure,
        }
        return {
            **self.settings,
            "PUPLOAD_DATABASE_URL": self.database_url,
            "PUPLOAD_STORES": json.dumps([store]),
            "PUPLOAD_DATA_DIR": str(self.place / "controller-data"),
        }

    @property
    def log(self) -> str:
        """All that its parts have said."""
        return "\n".join(f"--- {name}\n{part.log}" for name, part in self.parts.items())

    def leftovers(self) -> list[str]:
        """What attempts that are over have left, once what is being removed has had its time."""
        deadline = time.monotonic() + _SETTLE_S
        while left := [*self._containers(), *self._work_dirs()]:
            if time.monotonic() > deadline:
                return left
            time.sleep(_POLL_S)
        return []

    def _containers(self) -> list[str]:
        found = []
        for name in self.parts.keys() - self.urls.keys():
            asked = ["docker", "ps", "-a", "--filter", f"label=pupload.worker={self.mark(name)}"]
            listed = subprocess.run([*asked, "--format", "{{.Names}}"], check=True, capture_output=True, text=True)
            found += listed.stdout.split()
        return found

    def _work_dirs(self) -> list[str]:
        return [str(path) for path in self.place.glob("*/work/*") if path.is_dir()]

    def stop(self) -> None:
        """Workers first, while their controller still answers; each must end well."""
        for names in (self.parts.keys() - self.urls.keys(), self.urls.keys()):
            for name in names:
                self.parts[name].signal(signal.SIGTERM)
            for name in names:
                assert self.parts[name].wait() == 0, self.log


@contextlib.contextmanager
def a_fleet(
    place: Path, database_url: str, store: StoreAddress, public_endpoint: str, settings: Mapping[str, str]
) -> Iterator[Fleet]:
    """A fleet without parts; those that the block adds end with it, and may leave nothing."""
    fleet = Fleet(place, database_url, store, public_endpoint, settings)
    try:
        yield fleet
        fleet.stop()
    finally:
        for part in fleet.parts.values():
            part.kill()
    assert fleet.leftovers() == [], fleet.log
