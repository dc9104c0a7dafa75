"""What a container reaches with a network and without one, against real listeners."""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pupload.config import WorkerConfig
from pupload.containers.firewall import NoWall
from pupload.flow.plan import Reason
from pupload.protocol import Finish, Outcome
from pupload.worker import egress
from tests.integration.worker.conftest import serving
from tests.support.fake_controller import FakeController, an_assignment, shell

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        os.geteuid() != 0 or not all(map(shutil.which, ("iptables", "ip"))), reason="it takes root, iptables and ip"
    ),
]

PUBLIC, NEXT_DOOR, INNER = "9.9.9.9", "10.87.0.2", "10.87.1.2"
"""An address of the internet, and two of the inside, that are all in a namespace of the tests' own."""

PORT = 8080
LISTEN = f"""
import socketserver
class Tells(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(b"reached\\n")
socketserver.ThreadingTCPServer.allow_reuse_address = True
server = socketserver.ThreadingTCPServer(("", {PORT}), Tells)
print("up", flush=True)
server.serve_forever()
"""


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def outside() -> Iterator[None]:
    """A machine behind a cable, that says its name to whoever connects; the host has routes to it."""
    name = "pup-outside"
    run("ip", "netns", "add", name)
    try:
        run("ip", "link", "add", "pup-out0", "type", "veth", "peer", "name", "pup-out1", "netns", name)
        run("ip", "addr", "add", "10.87.0.1/24", "dev", "pup-out0")
        run("ip", "link", "set", "pup-out0", "up")
        for address in (f"{NEXT_DOOR}/24", f"{PUBLIC}/32", f"{INNER}/32"):
            run("ip", "-n", name, "addr", "add", address, "dev", "pup-out1")
        for link in ("lo", "pup-out1"):
            run("ip", "-n", name, "link", "set", link, "up")
        run("ip", "-n", name, "route", "add", "default", "via", "10.87.0.1")
        for address in (PUBLIC, INNER):
            run("ip", "route", "add", f"{address}/32", "via", NEXT_DOOR)
        listen = ["ip", "netns", "exec", name, sys.executable, "-c", LISTEN]
        with subprocess.Popen(listen, stdout=subprocess.PIPE) as listener:
            assert listener.stdout is not None
            assert listener.stdout.readline() == b"up\n"
            yield
            listener.kill()
    finally:
        run("ip", "netns", "del", name)


@pytest.fixture
def host_listener() -> Iterator[int]:
    """A port of this host, on all of its addresses, at which somebody listens."""
    with socket.create_server(("0.0.0.0", 0)) as listener:
        threading.Thread(target=lambda: _accept_all(listener), daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def _accept_all(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            connection.sendall(b"reached\n")
            connection.close()


def with_egress(config: WorkerConfig, **more: object) -> WorkerConfig:
    return config.model_copy(update={"allow_egress": True, "egress_dns": (), **more})


@pytest.fixture
async def open_worker(config: WorkerConfig) -> AsyncIterator[WorkerConfig]:
    settings = with_egress(config)
    async with serving(settings):
        yield settings
    assert egress.wall_of(settings).bridge not in run("iptables", "-t", "raw", "-S")


async def finish_of(controller: FakeController, script: str, network: str = "egress") -> Finish:
    node = an_assignment(*shell(script), network=network)
    await controller.offer(node)
    return await controller.finish_of(node, within_s=60)


def try_all(*places: tuple[str, int]) -> str:
    """A script that prints those of `places` that answer, trying all at once."""
    tries = [
        f"(nc -w 2 {host} {port} </dev/null 2>/dev/null | grep -q reached && echo {host}) &" for host, port in places
    ]
    return " ".join([*tries, "wait"])


def host_addresses() -> list[str]:
    found = run("ip", "-4", "-o", "addr", "show", "scope", "global").split("\n")
    return [line.split()[3].partition("/")[0] for line in found if line]


@pytest.mark.usefixtures("outside", "open_worker")
async def test_the_internet_is_reached_and_nothing_on_this_side_of_it(
    controller: FakeController, host_listener: int
) -> None:
    here = [(address, host_listener) for address in ("127.0.0.1", *host_addresses())]
    there = [(address, PORT) for address in (PUBLIC, NEXT_DOOR, INNER, "169.254.169.254")]
    finish = await finish_of(controller, f"{try_all(*here, *there)}; ls /sys/class/net; cat /proc/net/if_inet6")
    assert finish.outcome is Outcome.SUCCEEDED, finish
    said = controller.text(finish)
    assert [line for line in said if "." in line] == [PUBLIC]
    assert not [line for line in said if line.endswith("eth0") and line != "eth0"]


@pytest.mark.usefixtures("outside")
async def test_what_the_operator_opens_is_reached(controller: FakeController, config: WorkerConfig) -> None:
    opened = WorkerConfig.model_validate(config.model_dump() | {"allow_egress": True, "egress_allow": ["10.87.1.0/24"]})
    async with serving(opened):
        finish = await finish_of(controller, try_all((INNER, PORT), (NEXT_DOOR, PORT)))
    assert controller.text(finish) == [INNER]


@pytest.mark.usefixtures("open_worker")
async def test_containers_do_not_reach_each_other(controller: FakeController) -> None:
    server = an_assignment(*shell("hostname -i; while true; do echo reached | nc -l -p 8080; done"), network="egress")
    await controller.offer(server)
    await controller.until(lambda: bool(controller.lines))
    address = controller.lines[0].text.split()[0]
    finish = await finish_of(controller, f"nc -w 2 {address} 8080 </dev/null; echo tried")
    assert finish.outcome is Outcome.SUCCEEDED, finish
    # In any order: its two streams are read apart.
    assert sorted(controller.text(finish)) == sorted([address, "nc: timed out", "tried"])
    await controller.stop(server.ref)
    assert (await controller.finish_of(server)).reason is Reason.CANCELLED


@pytest.mark.usefixtures("outside")
async def test_rules_that_somebody_has_flushed_are_there_before_the_next_start(
    controller: FakeController, open_worker: WorkerConfig
) -> None:
    wall = egress.wall_of(open_worker)
    run("iptables", "-t", "raw", "-F", "PREROUTING")
    run("iptables", "-t", "raw", "-F", wall.chain)
    assert not wall.stands()
    finish = await finish_of(controller, try_all((NEXT_DOOR, PORT)))
    assert (finish.outcome, controller.text(finish)) == (Outcome.SUCCEEDED, [])
    assert wall.stands()
    # A rule that lets all by before them is no better than none.
    run("iptables", "-t", "raw", "-I", "PREROUTING", "-i", wall.bridge, "-j", "ACCEPT")
    assert not wall.stands()
    assert controller.text(await finish_of(controller, try_all((NEXT_DOOR, PORT)))) == []
    run("iptables", "-t", "raw", "-D", "PREROUTING", "-i", wall.bridge, "-j", "ACCEPT")


async def test_where_the_rules_do_not_hold_there_is_no_network(
    controller: FakeController, config: WorkerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a host whose firewall the containers' packets never come by.
    monkeypatch.setattr("pupload.containers.firewall.Wall.raise_up", lambda _wall: None)
    monkeypatch.setattr("pupload.containers.firewall.Wall.dropped", lambda _wall: [0] * 16)
    async with serving(with_egress(config)):
        finish = await finish_of(controller, "true")
    assert (finish.reason, finish.final) == (Reason.POLICY, True)
    assert "the node needs the network, and this worker does not offer it: a container on the network" in finish.message


async def test_a_worker_that_cannot_make_rules_says_so(
    controller: FakeController, config: WorkerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise NoWall("there is no iptables here")

    monkeypatch.setattr("pupload.containers.firewall._run", refuse)
    monkeypatch.setattr("pupload.containers.egress.EgressNetwork.close", _close_network_alone)
    async with serving(with_egress(config)):
        finish = await finish_of(controller, "true")
    assert finish.message.endswith("this worker does not offer it: there is no iptables here")


async def _close_network_alone(network: object) -> None:
    way = network.way.network  # type: ignore[attr-defined]
    await asyncio.to_thread(run, "docker", "network", "rm", way)


async def test_without_a_network_there_is_nothing_to_reach(
    controller: FakeController, config: WorkerConfig, host_listener: int
) -> None:
    port = int(controller.url.rpartition(":")[2])
    with socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0pup-abstract-of-the-host")
        abstract.listen()
        gateway = ["172.17.0.1", "169.254.169.254", *host_addresses()]
        places = [(host, each) for host in ("127.0.0.1", *gateway) for each in (host_listener, port)]
        script = (
            f"{try_all(*places)}; ls /sys/class/net; nslookup example.org 127.0.0.11 >/dev/null 2>&1 && echo named;"
            " nc -w 1 ::1 80 </dev/null 2>/dev/null && echo six; grep -c '@' /proc/net/unix; wc -l </proc/net/route"
        )
        async with serving(config):
            finish = await finish_of(controller, script, "none")
    # One device, no socket of the host's, and no route but the head of the table.
    assert controller.text(finish) == ["lo", "0", "1"]


def test_the_listeners_of_these_tests_do_answer(outside: None, host_listener: int) -> None:
    assert outside is None
    for place in ((PUBLIC, PORT), (NEXT_DOOR, PORT), (INNER, PORT), ("127.0.0.1", host_listener)):
        with socket.create_connection(place, 5) as connection:
            assert connection.recv(7) == b"reached"
    assert Path("/run/netns/pup-outside").exists()
