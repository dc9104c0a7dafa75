"""A Docker engine of one test's own, beside the machine's, to be killed, frozen and filled."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.docker_images import ensure_busybox
from tests.support.s3_servers import processes_naming

_READY_S = 60.0
_STOP_S = 60.0
_ROOM_BYTES = 200 * 1024**2
_CONTAINERD = """
version = 2
root = "{folder}/data/containerd"
state = "{folder}/exec/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "{folder}/c.sock"
"""


@dataclass(slots=True)
class PrivateEngine:
    """The engine over `folder`, whose data has a small disk of its own."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None
    containerd: subprocess.Popen[bytes] | None = None
    """What starts containers for the engine; as with a packaged engine it is a process of its own."""
    _fill: list[Path] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What its containers are found under by containerd, which takes no two marks side by side."""
        return self.folder.name.replace("_", "0")

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"unix://{self.folder}/d.sock"

    @property
    def data(self) -> Path:
        """The disk that it keeps everything on."""
        return self.folder / "data"

    def start(self, *options: str) -> None:
        """Returns when it answers."""
        if self.containerd is None or self.containerd.poll() is not None:
            self.containerd = self._spawn("containerd", "--config", str(self._configured()))
            self._await(self.containerd, (self.folder / "c.sock").is_socket)
        self.process = self._spawn(
            # In a network of its own: an engine without a bridge removes docker0, whosever that is.
            "unshare", "--net", "dockerd", "-H", self.address,
            "--data-root", str(self.data), "--exec-root", f"{self.folder}/exec",
            "-p", f"{self.folder}/pid", "--bridge=none", "--iptables=false", "--ip6tables=false",
            "--containerd", f"{self.folder}/c.sock",
            "--containerd-namespace", self.name, "--containerd-plugins-namespace", f"{self.name}p", *options,
        )  # fmt: skip
        self._await(self.process, lambda: self.asked("version").returncode == 0)

    def _configured(self) -> Path:
        path = self.folder / "containerd.toml"
        path.write_text(_CONTAINERD.format(folder=self.folder))
        return path

    def _spawn(self, *command: str) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def _await(self, process: subprocess.Popen[bytes], holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _READY_S
        while not holds():
            assert process.poll() is None, (self.folder / "log").read_text()[-3000:]
            assert time.monotonic() < deadline, "the engine does not answer"
            time.sleep(0.05)

    def ask(self, *arguments: str) -> str:
        """What its command line says."""
        told = self.asked(*arguments)
        assert told.returncode == 0, told.stderr
        return told.stdout.strip()

    def asked(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Its answer, whatever it is."""
        command = ["docker", "-H", self.address, *arguments]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=_STOP_S)

    def signal(self, number: signal.Signals) -> None:
        """Tell the engine itself; its containers hear nothing of it."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """As if it had crashed: the containers live on."""
        self.signal(signal.SIGKILL)
        self.wait()

    def forget(self) -> None:
        """While it is down: as if it had heard of the end of all containers, and died before it wrote that down."""
        ctr = ["ctr", "--address", f"{self.folder}/c.sock", "--namespace", self.name, "tasks"]
        tasks = subprocess.run([*ctr, "ls", "-q"], check=True, capture_output=True, text=True, timeout=_STOP_S)
        for task in tasks.stdout.split():
            subprocess.run([*ctr, "rm", "-f", task], check=True, capture_output=True, timeout=_STOP_S)

    def power_off(self) -> None:
        """As if its machine had gone down: nothing of it runs any more."""
        assert self.containerd is not None
        programs = [
            int(self.ask("inspect", "--format", "{{.State.Pid}}", each)) for each in self.ask("ps", "-q").split()
        ]
        self.kill()
        self.containerd.kill()
        self.containerd.wait(_STOP_S)
        (self.folder / "c.sock").unlink()
        for pid in (*self.shims(), *programs):
            os.kill(pid, signal.SIGKILL)

    def wait(self) -> None:
        """Returns when it has ended."""
        assert self.process is not None
        self.process.wait(_STOP_S)

    def shims(self) -> list[int]:
        """The processes between the engine and its containers."""
        return processes_naming(f"-namespace\0{self.name}\0")

    def fill(self) -> None:
        """Leave no room on its disk."""
        path = self.data / "filled"
        self._fill.append(path)
        with path.open("wb") as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1024**2))
                file.flush()

    def empty(self) -> None:
        """Give the room back."""
        for path in self._fill:
            path.unlink(missing_ok=True)

    def containers(self) -> list[str]:
        """Names of its containers, in any state."""
        return self.ask("ps", "-a", "--format", "{{.Names}}").split()

    def stop(self) -> None:
        """End it with all that it runs, whatever state it is in."""
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.empty()
            left = self.asked("ps", "-aq").stdout.split()
            self.asked("rm", "-f", "-v", *left) if left else None
            self.signal(signal.SIGTERM)
            self.wait()
        if self.containerd is not None:
            self.containerd.kill()
            self.containerd.wait(_STOP_S)
        for pid in processes_naming(str(self.folder)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def a_private_engine(*options: str) -> Iterator[PrivateEngine]:
    """An engine with the busybox image, as long as the block; the test is skipped where none can be started."""
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("a second Docker engine needs root and dockerd")
    with tempfile.TemporaryDirectory(prefix="pup-engine-", ignore_cleanup_errors=True) as folder:
        engine = PrivateEngine(Path(folder))
        engine.data.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_ROOM_BYTES}", "tmpfs", str(engine.data)], check=True)
        try:
            engine.start(*options)
            _hand_over(ensure_busybox(), engine)
            yield engine
        finally:
            engine.stop()
            _unmount_below(engine.folder)


def _hand_over(image: str, engine: PrivateEngine) -> None:
    with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saved:
        subprocess.run(
            ["docker", "-H", engine.address, "load", "-q"], stdin=saved.stdout, check=True, stdout=subprocess.DEVNULL
        )


def _unmount_below(folder: Path) -> None:
    mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for path in sorted((path for path in mounted if path.startswith(str(folder))), reverse=True):
        subprocess.run(["umount", "-l", path], check=False)
