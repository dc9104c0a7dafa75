"""The internet for containers whose def asks: offered once it is proven to be that alone, and looked after."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

from pupload.config import WorkerConfig
from pupload.containers.docker import Engine
from pupload.containers.egress import EgressNetwork, open_egress
from pupload.containers.firewall import NoWall, Wall
from pupload.containers.janitor import home_of
from pupload.containers.spec import Egress
from pupload.flow.plan import Reason
from pupload.web.addresses import closed_networks
from pupload.worker.failure import NodeFailure

_ASKED_BY_THIS_MACHINE = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")

log = logging.getLogger(__name__)


async def offer_egress(config: WorkerConfig, engine: Engine, labels: Mapping[str, str]) -> EgressNetwork | NoWall:
    """The network, or why this worker has none."""
    if not config.allow_egress:
        return NoWall("this worker does not allow it")
    try:
        egress = await open_egress(engine, wall_of(config), labels)
    except NoWall as why:
        log.warning("no container gets a network: %s", why)
        return NoWall(f"this worker does not offer it: {why}")
    log.info("containers whose def asks reach the internet by network %s", egress.way.network)
    return egress


def wall_of(config: WorkerConfig) -> Wall:
    """What the configuration closes and opens; the bridge is named by the worker's directory, as its containers are."""
    resolvers = config.egress_dns or _resolvers()
    return Wall(f"pup-{home_of(config.work_dir)[:8]}", closed_networks(), config.egress_allow, resolvers)


def _resolvers() -> tuple[IPv4Address, ...]:
    """Whom this machine asks for names, but for itself: that is no address inside a container."""
    for path in _ASKED_BY_THIS_MACHINE:
        found = []
        with suppress(OSError):
            for words in map(str.split, Path(path).read_text(encoding="utf-8").splitlines()):
                with suppress(ValueError):
                    found += [IPv4Address(words[1])] if words[:1] == ["nameserver"] and words[1:] else []
        if outside := tuple(each for each in found if not each.is_loopback):
            return outside
    return ()


def way_out(egress: EgressNetwork | NoWall) -> Egress:
    """How the attempt's container reaches the internet.

    Errors: NodeFailure where it may not.
    """
    if isinstance(egress, NoWall):
        raise NodeFailure(Reason.POLICY, f"the node needs the network, and {egress}", final=True)
    return egress.way


async def ensure_walled(egress: EgressNetwork | NoWall) -> None:
    """Return when nothing on the network reaches what is closed; the firewall may have been loaded anew.

    Errors: NodeFailure.
    """
    if isinstance(egress, NoWall):
        return
    try:
        await egress.ensure()
    except NoWall as error:
        text = f"the network of containers cannot be closed to what is inside: {error}"
        raise NodeFailure(Reason.INFRA, text) from error
