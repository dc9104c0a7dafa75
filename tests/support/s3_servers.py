"""S3 servers for tests that nothing of ours starts in production: rclone by itself, and moto."""

import contextlib
import itertools
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from pupload.stores import tether
from pupload.stores.base import StoreAddress
from pupload.stores.clients import Clients
from pupload.stores.rclone import find_program

ACCESS_KEY, SECRET_KEY = "tester", "a-secret-for-tests"
STRANGER = "127.0.0.2"
"""Where stores listen that flows bring: tests allow it, and 127.0.0.1 is as closed as ever."""
_numbers = itertools.count(1)
_FIRST_PORT, _PORTS, _ROW = 12000, 20000, 400
_ports = (_FIRST_PORT + (os.getpid() * _ROW + n) % _PORTS for n in itertools.count())


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server. `strict`: it checks signatures, their expiry and the length and digest of what it gets."""

    endpoint: str
    strict: bool

    def new_bucket(self, kind: str = "s3") -> StoreAddress:
        """The address of an empty bucket."""
        bucket = f"bucket-{next(_numbers)}"
        address = StoreAddress(
            name="tested", type=kind, endpoint=self.endpoint, bucket=bucket, access_key=ACCESS_KEY,
            secret_key=SECRET_KEY, secure=False,
        )  # fmt: skip
        clients = Clients(address)
        clients.asking().create_bucket(Bucket=bucket)
        clients.close()
        return address


@contextmanager
def an_rclone(host: str = "127.0.0.1") -> Iterator[S3Server]:
    """rclone over a temporary folder, with the ETags that it gives by itself."""
    with tempfile.TemporaryDirectory(prefix="pup-rclone-") as folder:
        port = free_port()
        command = [str(find_program()), "serve", "s3", "--addr", f"{host}:{port}", folder]
        environment = {"RCLONE_AUTH_KEY": f'"{ACCESS_KEY},{SECRET_KEY}"', "RCLONE_CONFIG": ""}
        with a_process(command, port, environment, host):
            yield S3Server(f"{host}:{port}", strict=True)


@contextmanager
def a_moto(host: str = "127.0.0.1") -> Iterator[S3Server]:
    """moto's server, which believes every signature."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", host, "-p", str(port)]
    with a_process(command, port, dict(os.environ), host):
        yield S3Server(f"{host}:{port}", strict=False)


@contextmanager
def a_process(command: Sequence[str], port: int, environment: dict[str, str], host: str = "127.0.0.1") -> Iterator[int]:
    """The id of a process that listens on `port`; it ends with the block, and with us."""
    tethered = [sys.executable, tether.__file__, str(os.getpid()), *command]
    with subprocess.Popen(tethered, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for_server(port, process, host)
            yield process.pid
        finally:
            process.kill()


def wait_for_server(port: int, process: subprocess.Popen[bytes] | None = None, host: str = "127.0.0.1") -> None:
    """Returns when a server answers; a container's port takes connections before its program does."""
    ends_at = time.monotonic() + 30
    while time.monotonic() < ends_at:
        assert process is None or process.poll() is None, f"the server ended with {process.returncode}"
        with (
            contextlib.suppress(OSError, HTTPException),
            closing(HTTPConnection(host, port, timeout=5)) as asked,
        ):
            asked.request("GET", "/")
            asked.getresponse().read()
            return
        time.sleep(0.01)
    raise AssertionError(f"nothing answers on port {port}")


def free_port() -> int:
    """A port that is free now, and that nobody is given by chance: below those that connections get.

    Each process has a row of its own, so that two do not find the same one free.
    """
    return next(port for port in _ports if _is_free(port))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def at(address: StoreAddress, endpoint: str) -> StoreAddress:
    """The same bucket by another way."""
    return replace(address, endpoint=endpoint)


def processes_naming(text: str) -> list[int]:
    """The processes with `text` in their arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if text.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found
