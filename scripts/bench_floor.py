"""What Docker alone costs for the two shapes of work that the bench runs, without store, database or server.

`by_cli` is a shell script's way: `docker run --rm` with a bind mount. `by_api` is the least that any runner built on
the engine pays: its HTTP API on kept connections, networking disabled, removal off the critical path.
"""

import http.client
import json
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

IMAGE = "pupload/busybox:latest"
CHAIN = 10
FAN = 20
_LONGEST_S = 60
"""Far more than one copy takes anywhere; whatever takes longer hangs."""

Copy = Callable[[Path, str, str], None]
"""Copies a file of a folder to another name in it, in a container."""

_kept = threading.local()


class _Engine(http.client.HTTPConnection):
    """A connection to the engine that DOCKER_HOST names."""

    def __init__(self) -> None:
        super().__init__("docker", timeout=_LONGEST_S)

    def connect(self) -> None:
        address = urlsplit(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"))
        if address.scheme == "unix":
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self.timeout)
            self.sock.connect(address.path)
        else:
            self.sock = socket.create_connection((address.hostname or "localhost", address.port or 2375), self.timeout)


def _call(method: str, path: str, body: object = None) -> dict[str, object]:
    if not hasattr(_kept, "engine"):
        _kept.engine = _Engine()
    return _ask(_kept.engine, method, path, body)


def _ask(engine: _Engine, method: str, path: str, body: object = None) -> dict[str, object]:
    content = json.dumps(body) if body is not None else None
    engine.request(method, f"/v1.41{path}", content, {"Content-Type": "application/json"})
    return _told(engine.getresponse())


def _told(answer: http.client.HTTPResponse) -> dict[str, object]:
    content = answer.read()
    if answer.status >= 300:
        raise RuntimeError(f"the engine answers {answer.status}: {content.decode(errors='replace')}")
    return dict(json.loads(content)) if content else {}


def by_cli(folder: Path, source: str, target: str) -> None:
    run = ["docker", "run", "--rm", "-v", f"{folder}:/w", IMAGE, "cp", f"/w/{source}", f"/w/{target}"]
    subprocess.run(run, check=True, stdout=subprocess.DEVNULL, timeout=_LONGEST_S)


@contextmanager
def by_api() -> Iterator[Copy]:
    """The copy by the engine's API; what it leaves is removed when the context ends."""
    with ThreadPoolExecutor(2) as remover:

        def copy(folder: Path, source: str, target: str) -> None:
            container = _create(folder, source, target)
            waiting = _Engine()
            waiting.request("POST", f"/v1.41/containers/{container}/wait?condition=next-exit")
            # The answer begins when the engine looks out for the exit; one before that would go unheard for ever.
            answer = waiting.getresponse()
            _call("POST", f"/containers/{container}/start")
            code = _told(answer)["StatusCode"]
            waiting.close()
            remover.submit(_call, "DELETE", f"/containers/{container}?force=1&v=1")
            if code:
                raise RuntimeError(f"the copy ended with exit code {code}")

        yield copy


def _create(folder: Path, source: str, target: str) -> str:
    made = _call("POST", "/containers/create", {
        "Image": IMAGE, "Cmd": ["cp", f"/w/{source}", f"/w/{target}"], "NetworkDisabled": True,
        "HostConfig": {"Binds": [f"{folder}:/w"], "NetworkMode": "none"},
    })  # fmt: skip
    return str(made["Id"])


def chain(copy: Copy, folder: Path) -> None:
    """Ten containers in a row, each of which copies the file of the one before."""
    for i in range(CHAIN):
        copy(folder, f"f{i}", f"f{i + 1}")


def fan(copy: Copy, folder: Path) -> None:
    """One container, then twenty at once, then one."""
    copy(folder, "f0", "shared")
    with ThreadPoolExecutor(FAN) as at_once:
        list(at_once.map(lambda k: copy(folder, "shared", f"part{k}"), range(FAN)))
    copy(folder, "part0", "joined")


def seconds(shape: Callable[[Copy, Path], None], copy: Copy, content: bytes) -> float:
    """How long `shape` takes by `copy`, beginning with a file of `content`."""
    with tempfile.TemporaryDirectory(prefix="pupload-bench-") as name:
        folder = Path(name)
        (folder / "f0").write_bytes(content)
        began = time.perf_counter()
        shape(copy, folder)
        return time.perf_counter() - began
