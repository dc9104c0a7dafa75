"""The network of containers that may reach the internet: a bridge of this worker's own, behind a wall.

It is offered only when a container on it was seen to be kept from what is closed. Source: docs/adr/0021.
"""

import asyncio
import ctypes
import io
import logging
import os
import select
import socket
import tarfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import docker

from pupload.containers.docker import Engine, Refused
from pupload.containers.firewall import NoWall, Wall
from pupload.containers.spec import MIN_MEMORY_BYTES, ContainerSpec, Egress

IMAGE = "pupload/egress-probe:1"
METADATA = "169.254.169.254"
_LISTEN_S = 0.5
_CLONE_NEWNET = 0x40000000
_PAUSE = {
    "x86_64": (62, "b8220000000f05ebf7"),
    "aarch64": (183, "000080d2010080d2020080d2030080d2280980d2010000d4faffff17"),
}
"""Machine and code of a program that does nothing, for ever: pause(2), or ppoll(2) without a time, again and again."""

log = logging.getLogger(__name__)


class EgressNetwork:
    """The network, and the wall round it. Made by `open_egress`."""

    def __init__(self, engine: Engine, wall: Wall) -> None:
        self._engine = engine
        self._wall = wall
        self._turn = asyncio.Lock()
        self.way = Egress(wall.bridge, tuple(map(str, wall.resolvers)))

    async def ensure(self) -> None:
        """Return when the wall stands; whoever has taken it down since is a firewall that was loaded anew.

        Errors: NoWall.
        """
        async with self._turn:
            await asyncio.to_thread(self._wall.raise_up)

    async def close(self) -> None:
        """Remove network and wall; what still uses them keeps them for the next start."""
        try:
            await self._engine.call("remove the network", lambda client: client.remove_network(self.way.network))
        except Refused as refused:
            if refused.status != 404:
                log.warning("network %s stays: %s", self.way.network, refused)
                return
        await asyncio.to_thread(self._wall.take_down)


async def open_egress(engine: Engine, wall: Wall, labels: Mapping[str, str]) -> EgressNetwork:
    """The network, made if need be, once a container on it could reach neither this host nor its metadata.

    Errors: NoWall saying why it cannot be offered; EngineUnavailable.
    """
    if os.geteuid() != 0:
        raise NoWall("the worker is not root, and cannot set rules of the firewall")
    egress = EgressNetwork(engine, wall)
    try:
        gateway = await engine.call("make the network", lambda client: _made(client, wall.bridge, labels))
        await egress.ensure()
        await _prove(engine, wall, egress.way, gateway, labels)
    except (NoWall, Refused, OSError) as error:
        await egress.close()
        raise NoWall(str(error)) from error
    return egress


def _made(client: docker.APIClient, name: str, labels: Mapping[str, str]) -> str:
    """The address of the bridge."""
    options = {"com.docker.network.bridge.name": name, "com.docker.network.bridge.enable_icc": "false"}
    found: list[dict[str, Any]] = [row for row in client.networks(names=[name]) if row["Name"] == name]
    if not found:
        client.create_network(name, "bridge", options=options, labels=dict(labels), check_duplicate=True)
    network = client.inspect_network(name)
    if network["Driver"] != "bridge" or network.get("EnableIPv6") or options.items() - network["Options"].items():
        raise NoWall(f"the network {name} is there, and is not as this worker makes it; remove it")
    return str(network["IPAM"]["Config"][0]["Gateway"])


async def _prove(engine: Engine, wall: Wall, way: Egress, gateway: str, labels: Mapping[str, str]) -> None:
    """Return when what a container sends to closed addresses was seen to be dropped, and nothing answered."""
    await engine.call("import the probe of the network", _import_image)
    spec = ContainerSpec(
        name=f"{wall.bridge}-probe", image=IMAGE, uid=65532, gid=65532, memory_bytes=MIN_MEMORY_BYTES, cpu=0.1,
        labels=labels, argv=("/pause",), egress=way,
    )  # fmt: skip
    await engine.remove(spec.name)
    container = await engine.create(spec)
    try:
        await engine.start(container)
        seen = await engine.call("inspect the probe", lambda client: client.inspect_container(container))
        before = await asyncio.to_thread(wall.dropped)
        answers = await _answers(int(seen["State"]["Pid"]), [gateway, METADATA])
        after = await asyncio.to_thread(wall.dropped)
    finally:
        await engine.remove(container)
    if answers:
        raise NoWall(f"a container on the network has reached {', '.join(answers)}, which is closed")
    metadata = 1 + next(n for n, network in enumerate(wall.closed) if IPv4Address(METADATA) in network)
    if not (after[0] > before[0] and after[metadata] > before[metadata]):
        raise NoWall("what a container on the network sends does not come by the rules of this machine's firewall")


async def _answers(pid: int, addresses: list[str]) -> list[str]:
    # A thread that has entered the container's network never comes back from it.
    with ThreadPoolExecutor(1) as own:
        return await asyncio.get_running_loop().run_in_executor(own, _answering, pid, addresses)


def _answering(pid: int, addresses: list[str]) -> list[str]:
    """Those addresses that answer anything at all to whoever is in the network of that process."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/proc/{pid}/ns/net").open() as network:
        if libc.setns(network.fileno(), _CLONE_NEWNET) != 0:
            raise NoWall(f"the network of a container cannot be entered: {os.strerror(ctypes.get_errno())}")
    poll, asked = select.poll(), {}
    try:
        for address in addresses:
            connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            asked[connection.fileno()] = (address, connection)
            if connection.connect_ex((address, 80)) != 0:
                poll.register(connection, select.POLLOUT)
        return [asked[fd][0] for fd, _ in poll.poll(_LISTEN_S * 1000)]
    finally:
        for _, connection in asked.values():
            connection.close()


def _import_image(client: docker.APIClient) -> None:
    if client.images(IMAGE, quiet=True):
        return
    program = _pausing(os.uname().machine)
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as file:
        entry = tarfile.TarInfo("pause")
        entry.size, entry.mode = len(program), 0o755
        file.addfile(entry, io.BytesIO(program))
    repository, tag = IMAGE.split(":")
    client.import_image_from_data(tar.getvalue(), repository, tag)


def _pausing(architecture: str) -> bytes:
    """An executable that waits: no image can be counted on to be here.

    Source: elf(5)
    """
    if architecture not in _PAUSE:
        raise NoWall(f"there is no probe for machines of the kind {architecture}")
    machine, code = _PAUSE[architecture][0], bytes.fromhex(_PAUSE[architecture][1])
    base, head = 0x400000, 64 + 56
    size = head + len(code)
    elf = [b"\x7fELF\x02\x01\x01" + bytes(9), (2, 2), (machine, 2), (1, 4), (base + head, 8), (64, 8), (0, 8), (0, 4)]
    elf += [(64, 2), (56, 2), (1, 2), (0, 2), (0, 2), (0, 2)]
    segment = [(1, 4), (5, 4), (0, 8), (base, 8), (base, 8), (size, 8), (size, 8), (0x1000, 8)]
    fields = [*elf, *segment]
    packed = [each if isinstance(each, bytes) else each[0].to_bytes(each[1], "little") for each in fields]
    return b"".join(packed) + code
