"""What one caller may ask for: how often, and how much at once. Whoever asks for more is told when to come again.

All of this is in memory, each controller for itself: it costs a request nothing that shows. What must hold over all
controllers, because it stays, is counted in the database: `pupload/db/room.py`.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import TypeVar

from pupload.config import AccountLimits, ControllerConfig
from pupload.db.room import Room
from pupload.errors import TooMany, Unauthorized
from pupload.units import format_size

_MINUTE_S = 60.0
_SOME_S = 1.0
"""When a place will be free of what ends by itself, and nobody knows when."""
_MOST_NAMES = 10_000
_TURNS = 64
_ROUNDING = 1e-9

N = TypeVar("N", int, float)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one account may have. 0 is no limit."""

    requests_per_s: float
    requests_burst: int
    requests_at_once: int
    active_runs: int
    active_nodes: int
    stored_bytes: int
    open_uploads: int

    @property
    def room(self) -> Room:
        """What of it is counted where runs are made."""
        return Room(self.active_runs, self.active_nodes)


def allowance_of(config: ControllerConfig, account: str) -> Allowance:
    """The account's own where the configuration has it, else everybody's."""
    own = config.account_limits.get(account, AccountLimits())
    return Allowance(
        requests_per_s=_first(own.requests_per_s, config.requests_per_s),
        requests_burst=_first(own.requests_burst, config.requests_burst),
        requests_at_once=_first(own.requests_at_once, config.requests_at_once),
        active_runs=_first(own.active_runs, config.active_runs),
        active_nodes=_first(own.active_nodes, config.active_nodes),
        stored_bytes=_first(own.stored_bytes, config.stored_bytes),
        open_uploads=_first(own.open_uploads, config.open_uploads),
    )


def _first(own: N | None, usual: N) -> N:
    return usual if own is None else own


class Rate:
    """So many a second on the average, and `burst` at once, for each name.

    Kept of a name is only when its burst will be whole again; one that is whole is forgotten.
    Source: the generic cell rate algorithm, ITU-T I.371.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._whole_at: dict[str, float] = {}
        self._sweep_at = _MOST_NAMES

    def take(self, name: str, per_s: float, burst: float) -> float:
        """0 when this one is within the rate; else the seconds until it is, and it does not count.

        >>> rate = Rate(clock=lambda: 0.0)
        >>> [rate.take("a", per_s=2, burst=2) for _ in range(3)], rate.take("b", per_s=2, burst=2)
        ([0.0, 0.0, 0.5], 0.0)
        """
        wait_s = self.wait_s(name, per_s, burst)
        if not wait_s:
            now = self._clock()
            self._whole_at[name] = max(self._whole_at.get(name, now), now) + 1 / per_s
            self._forget(now)
        return wait_s

    def wait_s(self, name: str, per_s: float, burst: float) -> float:
        """The seconds until one more would be within the rate; 0 for at once."""
        now = self._clock()
        used = max(self._whole_at.get(name, now) - now, 0.0) * per_s
        over = used + 1 - burst
        return over / per_s if over > _ROUNDING else 0.0

    def _forget(self, now: float) -> None:
        if len(self._whole_at) > self._sweep_at:
            self._whole_at = {name: at for name, at in self._whole_at.items() if at > now}
            self._sweep_at = max(_MOST_NAMES, 2 * len(self._whole_at))


class Limits:
    """The limits of one controller."""

    def __init__(self, config: ControllerConfig) -> None:
        self._config = config
        self._rate, self._wrong = Rate(), Rate()
        self._under_way = defaultdict[str, int](int)
        self._turns = [asyncio.Lock() for _ in range(_TURNS)]
        self._full = dict[str, tuple[float, TooMany]]()
        self._hoarders = frozenset[str]()
        self._allowances = dict[str, Allowance]()

    def of(self, account: str) -> Allowance:
        """What the account may have."""
        if not self._config.account_limits.get(account):
            account = ""
        if account not in self._allowances:
            self._allowances[account] = allowance_of(self._config, account)
        return self._allowances[account]

    @property
    def least_storage(self) -> int:
        """Who keeps no more than this is within every account's limit."""
        own = (each.stored_bytes or 0 for each in self._config.account_limits.values())
        return min(filter(None, (self._config.stored_bytes, *own)), default=2**62)

    @contextmanager
    def admitted(self, caller: str, account: str) -> Iterator[None]:
        """The block is a request of this caller.

        Errors: TooMany before the block.
        """
        allowed = self.of(account)
        at_once = allowed.requests_at_once
        if at_once and self._under_way.get(caller, 0) >= at_once:
            raise TooMany(
                f"{at_once} requests of this key are under way; let some end first",
                code="TOO_MANY_AT_ONCE",
                retry_after_s=_SOME_S,
            )
        if allowed.requests_per_s:
            wait_s = self._rate.take(caller, allowed.requests_per_s, allowed.requests_burst)
            if wait_s:
                raise TooMany(
                    f"more than {allowed.requests_per_s:g} requests a second of this key; slow down",
                    code="RATE_LIMITED",
                    retry_after_s=wait_s,
                )
        self._under_way[caller] += 1
        try:
            yield
        finally:
            self._under_way[caller] -= 1
            if not self._under_way[caller]:
                del self._under_way[caller]

    def turn(self, remote: str) -> AbstractAsyncContextManager[object]:
        """Held while a key from this address is looked for that is not known yet.

        Where wrong keys come from, such looks go one by one: the database must not feel them. Right keys that were seen
        lately need no look, so whoever has one there waits for a few looks at most.
        """
        name = neighbourhood(remote)
        return self._turns[hash(name) % _TURNS] if self._is_suspect(name) else nullcontext()

    def _is_suspect(self, name: str) -> bool:
        per_min = self._config.wrong_keys_per_min
        return bool(per_min) and self._wrong.wait_s(name, per_min / _MINUTE_S, per_min) > 0

    @contextmanager
    def counting_wrong_keys(self, remote: str) -> Iterator[None]:
        """The block tells who calls; too many who cannot say so from one address are told to wait.

        Errors: TooMany in place of Unauthorized.
        """
        try:
            yield
        except Unauthorized as error:
            per_min = self._config.wrong_keys_per_min
            if per_min and (wait_s := self._wrong.take(neighbourhood(remote), per_min / _MINUTE_S, per_min)):
                raise TooMany(
                    f"{error}; more than {per_min} such calls a minute came from this address",
                    code="TOO_MANY_WRONG_KEYS",
                    retry_after_s=wait_s,
                ) from error
            raise

    def require_room(self, account: str) -> None:
        """Return unless the database has just said that the account has no room for another run.

        In a flood this spares the database what it would only say again.
        Errors: TooMany.
        """
        until, refused = self._full.get(account, (0.0, None))
        if refused is not None and until > time.monotonic():
            raise TooMany(str(refused), code=refused.code, retry_after_s=refused.retry_after_s)

    def note_full(self, account: str, refused: TooMany) -> None:
        """The database has refused a run of the account."""
        if len(self._full) > _MOST_NAMES:
            self._full.clear()
        self._full[account] = (time.monotonic() + min(refused.retry_after_s, _SOME_S), refused)

    def note_hoarders(self, accounts: frozenset[str]) -> None:
        """These accounts, and no others, keep more bytes here than they may."""
        self._hoarders = accounts

    def require_storage(self, account: str) -> None:
        """Return unless the last look found that the account keeps too much.

        Errors: TooMany.
        """
        if account in self._hoarders:
            raise storage_full(self.of(account).stored_bytes)


def storage_full(limit_bytes: int) -> TooMany:
    """The error of an account that keeps as much as it may. Only its owner can change that: ask again in a minute."""
    return TooMany(
        f"files and sessions of this account have {format_size(limit_bytes)} at most; remove some first",
        code="STORAGE_FULL",
        retry_after_s=_MINUTE_S,
    )


def neighbourhood(remote: str) -> str:
    """Who is one to us: an address, and of IPv6 the network that one household has.

    >>> neighbourhood("203.0.113.9"), neighbourhood("2001:db8:1:2:3::4"), neighbourhood("")
    ('203.0.113.9', '2001:db8:1:2::/64', '')
    """
    try:
        address = ip_address(remote.partition("%")[0])
    except ValueError:
        return remote
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or IPv6Network((address, 64), strict=False))
    return str(address)
