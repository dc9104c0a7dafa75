"""Which addresses of the internet a user's URL may lead to. PURE.

Source: the special-purpose registries of IANA. `ipaddress.is_global` is not such a check: it passes multicast, 6to4
and NAT64.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from pupload.errors import InvalidConfig

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_CLOSED_4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",  # public by its number, and in Azure the machine's own host
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
    )
)
_OPEN_6 = IPv6Network("2000::/3")
_CLOSED_6 = tuple(IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
_HOST_PORT = re.compile(r"(?P<host>\[[^\]]+\]|[^\[\]:]+):(?P<port>\d{1,5})")
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")


def address_allowed(text: str) -> bool:
    """True for the address of a machine that anybody on the internet could reach.

    >>> address_allowed("93.184.215.14"), address_allowed("::ffff:127.0.0.1"), address_allowed("fe80::1%eth0")
    (True, False, False)
    """
    address = _unwrapped(text)
    if address is None:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _CLOSED_4)
    return address in _OPEN_6 and not any(address in network for network in _CLOSED_6)


def closed_networks() -> tuple[IPv4Network, ...]:
    """All of IPv4 that is not the public internet."""
    return _CLOSED_4


def _unwrapped(text: str) -> Address | None:
    """The address that a connection to `text` reaches; None for what is none, or has a zone."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return None if address.scope_id else address.ipv4_mapped or address
    return address


@dataclass(frozen=True, slots=True)
class Allowed:
    """What may be reached besides: names, on one port or (None) on all, and networks."""

    names: frozenset[tuple[str, int | None]] = frozenset()
    networks: tuple[tuple[Network, int | None], ...] = ()

    def has_name(self, host: str, port: int) -> bool:
        """True when whatever `host` resolves to may be reached."""
        return bool({(host, port), (host, None)} & self.names)

    def has_address(self, host: str, port: int) -> bool:
        """True when `host` is an address that may be reached."""
        address = _unwrapped(host)
        return address is not None and any(
            on in {port, None} and address.version == network.version and address in network
            for network, on in self.networks
        )


def read_allowed(entries: Iterable[str]) -> Allowed:
    """The entries of the setting `url_allow`: `host`, `host:port`, an address, `address:port`, or a network.

    Errors: InvalidConfig naming every entry that is none of them.
    """
    names, networks, bad = set[tuple[str, int | None]](), list[tuple[Network, int | None]](), list[str]()
    for entry in entries:
        host, port = _split(entry)
        network = _network(host)
        if network is not None:
            networks.append((network, port))
        elif _NAME.fullmatch(host):
            names.add((host, port))
        else:
            bad.append(repr(entry))
    if bad:
        raise InvalidConfig(f"url_allow: {', '.join(bad)} is no host, host:port or network")
    return Allowed(frozenset(names), tuple(networks))


def _split(entry: str) -> tuple[str, int | None]:
    found = _HOST_PORT.fullmatch(entry.strip())
    host, port = (found["host"], int(found["port"])) if found else (entry.strip(), None)
    return host.strip("[]").rstrip(".").lower(), port


def _network(text: str) -> Network | None:
    try:
        return ip_network(text)
    except ValueError:
        return None
