"""The rules that keep containers with a network from all that is not the public internet.

They stand in the raw table, before anything is routed or rewritten: one chain holds for what goes to this host and
for what goes through it, and neither the engine nor its restarts touch it. Needs root, `iptables`, and an engine
whose bridges are on this machine.
"""

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from pupload.errors import PuploadError

_TIMEOUT_S = 20
_WAIT = ("-w", "10")
_LOCAL = "-m addrtype --dst-type LOCAL -j DROP"
_HARMLESS = re.compile(r".* -j (DROP|PUP-[0-9a-f]+)")
_BRIDGES = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
_COUNTER = re.compile(r" -c (\d+) \d+")


class NoWall(PuploadError):
    """The rules do not stand; the text says why."""

    code = "NO_WALL"


@dataclass(frozen=True, slots=True)
class Wall:
    """Round the bridge `bridge`: `closed` is not reached, but for `allowed`, and for names at the `resolvers`."""

    bridge: str
    closed: tuple[IPv4Network, ...]
    allowed: tuple[IPv4Network, ...] = ()
    resolvers: tuple[IPv4Address, ...] = ()

    @property
    def chain(self) -> str:
        """The name of its chain."""
        return f"PUP-{self.bridge.rpartition('-')[2]}"

    @property
    def jump(self) -> str:
        """What leads into its chain."""
        return f"-A PREROUTING -i {self.bridge} -j {self.chain}"

    def rules(self) -> list[str]:
        """Its chain, in the very words in which it is listed.

        >>> Wall("pup-1", (IPv4Network("10.0.0.0/8"),), resolvers=(IPv4Address("10.0.0.2"),)).rules()[2:]
        ['-A PUP-1 -m addrtype --dst-type LOCAL -j DROP', '-A PUP-1 -d 10.0.0.0/8 -j DROP']
        """
        asked = [f"-d {each}/32 -p {kind} -m {kind} --dport 53" for each in self.resolvers for kind in ("udp", "tcp")]
        opened = [*asked, *(f"-d {network}" for network in self.allowed)]
        shut = [f"-d {network} -j DROP" for network in self.closed]
        return [f"-A {self.chain} {rule}" for rule in (*(f"{each} -j RETURN" for each in opened), _LOCAL, *shut)]

    def raise_up(self) -> None:
        """Make it stand, if it does not.

        Errors: NoWall.
        """
        if not self.stands():
            text = "\n".join(["*raw", f":{self.chain} - [0:0]", *self.rules(), "COMMIT", ""])
            _ask("iptables-restore", "--noflush", *_WAIT, given=text)
            _ask("iptables", *_WAIT, "-t", "raw", "-I", *self.jump.split()[1:])
            _let_bridges_ask()
            if not self.stands():
                raise NoWall("the firewall does not list the rules as they were given")
        self._shut_ipv6()

    def stands(self) -> bool:
        """True when every rule is there, in order, and nothing lets packets by before.

        Errors: NoWall when the firewall cannot be asked.
        """
        if _ask("iptables", *_WAIT, "-t", "raw", "-S", self.chain, may_fail=True).splitlines()[1:] != self.rules():
            return False
        if not _bridges_ask():
            return False
        rules = [row for row in _ask("iptables", *_WAIT, "-t", "raw", "-S", "PREROUTING").splitlines() if "-A" in row]
        return self.jump in rules and all(map(_HARMLESS.fullmatch, rules[: rules.index(self.jump)]))

    def _shut_ipv6(self) -> None:
        # The bridge has no addresses of IPv6; this is for the day on which somebody gives it some.
        rule = ("PREROUTING", "-i", self.bridge, "-j", "DROP")
        if Path("/proc/net/if_inet6").exists() and not _holds("ip6tables", *_WAIT, "-t", "raw", "-C", *rule):
            _ask("ip6tables", *_WAIT, "-t", "raw", "-I", *rule)

    def dropped(self) -> list[int]:
        """How many packets each rule that closes something has dropped, this host's own addresses first."""
        rows = _ask("iptables", *_WAIT, "-t", "raw", "-v", "-S", self.chain).splitlines()
        return [int(found[1]) for row in rows if row.endswith("-j DROP") and (found := _COUNTER.search(row))]

    def take_down(self) -> None:
        """Remove every rule of it that is there."""
        for program, target in (("iptables", self.chain), ("ip6tables", "DROP")):
            rule = ("PREROUTING", "-i", self.bridge, "-j", target)
            while _holds(program, *_WAIT, "-t", "raw", "-D", *rule):
                pass
        for verb in ("-F", "-X"):
            _holds("iptables", *_WAIT, "-t", "raw", verb, self.chain)


def _bridges_ask() -> bool:
    """True when what passes a bridge, from container to container, comes by the firewall at all."""
    return _BRIDGES.exists() and _BRIDGES.read_text().strip() == "1"


def _let_bridges_ask() -> None:
    try:
        _BRIDGES.write_text("1")
    except OSError as error:
        raise NoWall(f"containers on a bridge are not kept from each other: {_BRIDGES}: {error.strerror}") from error


def _holds(*command: str) -> bool:
    return _run(command, "").returncode == 0


def _ask(*command: str, given: str = "", may_fail: bool = False) -> str:
    answer = _run(command, given)
    if answer.returncode != 0 and not may_fail:
        raise NoWall(f"{command[0]} refuses: {answer.stderr.strip()[:200]}")
    return answer.stdout


def _run(command: Sequence[str], given: str) -> "subprocess.CompletedProcess[str]":
    program = shutil.which(command[0], path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        raise NoWall(f"there is no {command[0]} here")
    try:
        return subprocess.run(  # noqa: S603 - the words are this module's own
            [program, *command[1:]], input=given, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise NoWall(f"{command[0]} does not answer: {error}") from error
