"""A bridge on this machine and network namespaces on it, whose links can be cut, slowed and made to lose packets."""

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_PREFIX = "pups"
_NETNS = Path("/run/netns")


@dataclass(frozen=True, slots=True)
class Link:
    """A namespace's link to the bridge. Only what the namespace sends and takes through it is touched."""

    name: str
    device: str

    @property
    def inside(self) -> tuple[str, ...]:
        """What a command begins with that is to run there."""
        return ("nsenter", f"--net={_NETNS / self.name}")

    def _run(self, *command: str, check: bool = True) -> None:
        run(*self.inside, *command, check=check)

    def cut(self, ports: Sequence[int], how: str) -> None:
        """Nothing passes to or from these ports: dropped without a word, or answered with a reset."""
        for port in map(str, ports):
            asked = ("-p", "tcp", "--dport", port)
            verdict = ("DROP",) if how == "drop" else ("REJECT", "--reject-with", "tcp-reset")
            self._run("iptables", "-w", "-A", "OUTPUT", *asked, "-j", *verdict)
            self._run("iptables", "-w", "-A", "INPUT", "-p", "tcp", "--sport", port, "-j", "DROP")

    def lose(self, share: str) -> None:
        """So many of the packets get lost, each way."""
        lost = ("-m", "statistic", "--mode", "random", "--probability", share, "-j", "DROP")
        self._run("iptables", "-w", "-A", "INPUT", *lost)
        self._run("iptables", "-w", "-A", "OUTPUT", "-o", self.device, *lost)

    def slow(self, rate: str) -> None:
        """What is sent goes at this rate."""
        self._run("tc", "qdisc", "replace", "dev", self.device, "root", "tbf", "rate", rate, "burst", "16kbit",
                  "latency", "400ms")  # fmt: skip

    def mend(self) -> None:
        """Everything passes."""
        self._run("iptables", "-w", "-F")
        self._run("tc", "qdisc", "del", "dev", self.device, "root", check=False)


@dataclass(frozen=True, slots=True)
class Net:
    """The bridge, and this machine's address on it."""

    bridge: str
    address: str
    links: dict[str, Link]

    def add(self, name: str, number: int) -> Link:
        """A namespace with the address of this number."""
        space, device, here = f"{self.bridge}{name}", "net0", f"{self.bridge}{name}"
        link = Link(space, device)
        run("ip", "netns", "add", space)
        run("ip", "link", "add", here, "type", "veth", "peer", "name", device, "netns", space)
        run("ip", "link", "set", here, "master", self.bridge, "up")
        run(*link.inside, "ip", "address", "add", f"{self._network()}.{number}/24", "dev", device)
        run(*link.inside, "ip", "link", "set", device, "up")
        run(*link.inside, "ip", "link", "set", "lo", "up")
        self.links[name] = link
        return link

    def _network(self) -> str:
        return self.address.rpartition(".")[0]


def run(*command: str, check: bool = True) -> None:
    """Returns when it has done its work."""
    subprocess.run(command, check=check, stdout=subprocess.DEVNULL, stderr=None if check else subprocess.DEVNULL)


@contextlib.contextmanager
def a_net() -> Iterator[Net]:
    """A bridge as long as the block; nothing of it, nor of one whose process is gone, is there afterwards."""
    _sweep()
    pid = os.getpid()
    # A name of a device has at most 15 characters.
    net = Net(f"{_PREFIX}{pid}", f"10.{200 + pid % 50}.{pid // 50 % 250}.1", {})
    try:
        run("ip", "link", "add", net.bridge, "type", "bridge")
        run("ip", "address", "add", f"{net.address}/24", "dev", net.bridge)
        run("ip", "link", "set", net.bridge, "up")
        yield net
    finally:
        _remove(net.bridge)


def _sweep() -> None:
    """Remove what is left of processes that were killed."""
    for folder in Path("/sys/class/net").glob(f"{_PREFIX}*"):
        pid = "".join(filter(str.isdigit, folder.name.removeprefix(_PREFIX).partition("w")[0]))
        if pid and not Path(f"/proc/{pid}").exists():
            _remove(f"{_PREFIX}{pid}")


def _remove(bridge: str) -> None:
    if _NETNS.exists():
        for space in _NETNS.glob(f"{bridge}w*"):
            run("ip", "netns", "del", space.name, check=False)
    for device in Path("/sys/class/net").glob(f"{bridge}w*"):
        run("ip", "link", "del", device.name, check=False)
    run("ip", "link", "del", bridge, check=False)
