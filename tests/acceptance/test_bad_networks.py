"""A worker on a bad network, which loses packets or has room for few: slower, and nothing else."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
import requests

from tests.acceptance.conftest import EVERYWHERE, a_place
from tests.acceptance.test_fleet import await_controller
from tests.support.docker_images import ensure_busybox
from tests.support.fleet import Fleet, a_fleet
from tests.support.postgres import a_postgres
from tests.support.recorded import assert_recorded_once
from tests.support.s3_servers import an_rclone
from tests.support.shell_steps import a_request, a_step
from tests.support.soak.network import Link, Net, a_net
from tests.support.soak.network import run as command
from tests.support.visitor import Json, Visitor

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

KILOBYTE = b"0123456789abcdef" * 64
COUNTED = 'echo begun; cat "$INPUT_IN" > "$OUTPUT_OUT"; echo over'


@dataclass(frozen=True, slots=True)
class Remote:
    """A worker at the other end of the link; leases are as they are by default."""

    fleet: Fleet
    link: Link
    visitor: Visitor


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    """A namespace `w` with a link to this machine, which can lose packets and be narrow."""
    with ExitStack() as stack:
        try:
            net = stack.enter_context(a_net())
            link = net.add("w", 2)
            link.lose("0.3")
            link.slow("1mbit")
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"this machine makes no such networks: {error}")
        link.mend()
        yield net


@pytest.fixture(scope="module")
def remote(net: Net) -> Iterator[Remote]:
    ensure_busybox()
    link = net.links["w"]
    with a_postgres() as dsn, an_rclone(net.address) as store, a_place() as place:
        bucket = store.new_bucket()
        with a_fleet(place, dsn, bucket, bucket.endpoint, EVERYWHERE) as fleet:
            fleet.host = net.address
            url = fleet.add_controller("one")
            await_controller(url)
            with Visitor(url) as visitor:
                visitor.http.auth = known(url, a_key(fleet))
                fleet.add_worker("far", "one", within=link.inside)
                visitor.await_workers(1)
                yield Remote(fleet, link, visitor)


def a_key(fleet: Fleet) -> str:
    made = [sys.executable, "-m", "pupload.cli.main", "key", "create", "test", "--scope", "admin"]
    return subprocess.run(
        made, check=True, capture_output=True, text=True, env={**os.environ, **fleet.controller_environment()}
    ).stdout.strip()


def known(url: str, key: str) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
    """Adds the key to what goes to the controller; the store would not know what to make of it."""

    def signed(request: requests.PreparedRequest) -> requests.PreparedRequest:
        if str(request.url).startswith(url):
            request.headers["Authorization"] = f"Bearer {key}"
        return request

    return signed


def gone_through(remote: Remote, content: bytes) -> Json:
    """A run of one step that copies the content, by way of the link. The user pays for one attempt and has one result.

    Were so many packets lost in a row that a lease was over, the infrastructure would pay for another.
    """
    run = remote.visitor.complete(a_request(a_step("copy", COUNTED, MaxAttempts=1)), **{"in": content})
    assert remote.visitor.artifact(run["ID"], "out") == content
    assert [line["message"] for line in remote.visitor.logs(run["ID"], "copy")][-2:] == ["begun", "over"]
    assert_recorded_once(remote.visitor, run, given="in")
    return run


def test_a_network_that_loses_three_packets_in_ten_costs_no_attempt(remote: Remote) -> None:
    remote.link.lose("0.3")
    try:
        gone_through(remote, KILOBYTE)
    finally:
        remote.link.mend()


def test_a_link_of_a_megabit_costs_no_attempt(remote: Remote) -> None:
    """Beats get their share while a file takes all there is, each way."""
    remote.link.slow("1mbit")
    shape = ("root", "tbf", "rate", "1mbit", "burst", "16kbit", "latency", "400ms")
    command("tc", "qdisc", "replace", "dev", remote.link.name, *shape)
    try:
        run = gone_through(remote, 300 * KILOBYTE)
        assert run["NodeState"]["copy"]["Attempt"] == 1
    finally:
        remote.link.mend()
        command("tc", "qdisc", "del", "dev", remote.link.name, "root")
