"""API keys: `pup_<id>_<secret>`, of which only a digest is kept.

Without any key every caller is the server's own user, who alone can reach it: it listens on loopback. From the first
key on, and wherever else it listens, every call needs one.

The account of a key owns what its calls make. The account "" is the operator's: of a caller without a key, and of keys
that are made for `admin`.
"""

import hmac
import re
import secrets
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from pupload.config import ControllerConfig
from pupload.controller.scopes import EVERY_SCOPE, KeyScope, opened_by, read_scopes
from pupload.controller.secrets import token_digest
from pupload.db.pool import Connection, Database
from pupload.db.sql import SQL
from pupload.errors import Conflict, Forbidden, InvalidRequest, NotFound, Unauthorized

KNOWN_S = 2.0
"""For so long after it was revoked a key may still open what it did."""
NONE_S = 0.5
"""For so long after the first key was made a server may still ask for none."""
_MOST_KNOWN = 10_000
_ACCOUNT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
"""Without a slash: it parts the account from what its caller says in the stored form of an Idempotency-Key."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. `account` owns what the call makes, and pays for it; `key_id` is "" for a call without a key."""

    key_id: str
    account: str
    scopes: frozenset[KeyScope]

    @property
    def sees(self) -> str | None:
        """The account whose things are listed for it; None for everybody's."""
        return None if KeyScope.ADMIN in self.scopes else self.account

    def require(self, scope: KeyScope) -> None:
        """Returns when the caller may do what needs this scope.

        Errors: Forbidden.
        """
        if scope not in self.scopes:
            raise Forbidden(
                f"this key lacks the scope {scope.value}; `pup key create NAME --scope {scope.value}` makes one",
                code="SCOPE_MISSING",
            )


WITHOUT_KEYS = Caller("", "", EVERY_SCOPE)
"""Everybody, while no keys are in use."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is listed."""

    id: str
    name: str
    account: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class Keys:
    """Knows callers by their keys. A key made or revoked elsewhere is noticed within seconds."""

    def __init__(self, config: ControllerConfig, database: Database) -> None:
        self._required, self._database = config.wants_keys, database
        self._wanted, self._look_at = config.wants_keys, 0.0
        self._known: dict[bytes, tuple[float, Caller]] = {}

    async def caller_of(
        self, headers: Mapping[str, str], turn: AbstractAsyncContextManager[object] | None = None
    ) -> Caller:
        """Who calls. A key that is not known by now is looked for in its `turn`.

        Errors: Unauthorized.
        """
        if not await self._are_wanted():
            return WITHOUT_KEYS
        given = key_in(headers)
        known = self._known.get(token_digest(given))
        if known is None or known[0] < time.monotonic():
            async with turn or nullcontext():
                known = await self._find(given)
        return known[1]

    async def advice(self) -> str:
        """What its operator must know of a server that nobody may call yet; "" for any other."""
        if not self._required or await self._are_any():
            return ""
        return "every call needs an API key, and there is none yet: `pup key create NAME` makes the first"

    async def _are_any(self) -> bool:
        async with self._database.connection() as connection:
            return await are_any(connection)

    async def _are_wanted(self) -> bool:
        now = time.monotonic()
        if not self._required and now >= self._look_at:
            self._wanted = await self._are_any()
            self._look_at = now + NONE_S
        return self._wanted

    async def _find(self, given: str) -> tuple[float, Caller]:
        asked_at = time.monotonic()
        async with self._database.connection() as connection:
            row = await connection.fetchrow(SQL["find_key"], _id_in(given))
        digest = token_digest(given)
        if row is None or not hmac.compare_digest(row["secret_sha256"], digest):
            raise Unauthorized("this API key is unknown, expired or revoked; `pup key create NAME` makes a new one")
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        caller = Caller(row["id"], row["account"], opened_by(row["scopes"]))
        known = self._known[digest] = (asked_at + KNOWN_S, caller)
        return known


def key_in(headers: Mapping[str, str]) -> str:
    """The key of a call, from `X-API-Key`, or `Authorization` with or without `Bearer`.

    Errors: Unauthorized when there is none.
    """
    scheme, _, rest = headers.get("Authorization", "").strip().partition(" ")
    given = headers.get("X-API-Key", "").strip() or (rest.strip() if scheme.lower() == "bearer" else scheme)
    if not given:
        raise Unauthorized("this server wants an API key: send it as `Authorization: Bearer pup_…` or `X-API-Key`")
    return given


def _id_in(key: str) -> str:
    """The part of it that is no secret; "" for what nobody made here, and no database can be asked for."""
    _, _, rest = key.partition("_")
    return rest.partition("_")[0] if key.isascii() else ""


async def are_any(connection: Connection) -> bool:
    """True once a key was made, even when it is revoked by now."""
    return bool(await connection.fetchval(SQL["any_key"]))


async def add_key(
    connection: Connection,
    name: str,
    *,
    account: str = "",
    lifetime: timedelta | None = None,
    scopes: Iterable[str] = (),
) -> tuple[str, str]:
    """A fresh key, shown this once, and its account: the given one, the operator's for `admin`, else its own.

    Errors: InvalidRequest for what can be no account or scope; Conflict when the name is taken.
    """
    granted = read_scopes(scopes)
    if account and not _ACCOUNT.fullmatch(account):
        raise InvalidRequest(f"{account!r} can be no account: use letters, digits, `_`, `.` and `-`, at most 63")
    key_id = secrets.token_hex(6)
    key = f"pup_{key_id}_{secrets.token_hex(32)}"
    if not account and KeyScope.ADMIN not in granted:
        account = f"acc_{key_id}"
    added = await connection.fetchval(
        SQL["add_key"], key_id, name, token_digest(key), account, lifetime, sorted(granted)
    )
    if added is None:
        raise Conflict(f"there is, or was, a key named {name!r}; choose another name", code="KEY_EXISTS")
    return key, account


async def list_keys(connection: Connection) -> list[ApiKey]:
    """All keys, the oldest first, those of the past included."""
    return [_key(row) for row in await connection.fetch(SQL["list_keys"])]


def _key(row: asyncpg.Record) -> ApiKey:
    return ApiKey(
        row["id"],
        row["name"],
        row["account"],
        tuple(row["scopes"]),
        row["created_at"],
        row["expires_at"],
        row["revoked_at"],
    )


async def revoke_key(connection: Connection, name: str) -> None:
    """End the key of this name.

    Errors: NotFound.
    """
    if await connection.fetchval(SQL["revoke_key"], name) is None:
        raise NotFound(f"there is no key named {name!r} in use; `pup key list` shows them", code="KEY_NOT_FOUND")
