"""Whose the things are that paths name. That never changes, so each is asked for once."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from pupload.controller.files import no_such_file
from pupload.controller.keys import WITHOUT_KEYS, Caller
from pupload.controller.scopes import KeyScope
from pupload.controller.webhooks import no_such_webhook
from pupload.db.pool import Database
from pupload.db.runs import no_such_run, no_such_session
from pupload.db.sql import SQL
from pupload.errors import NotFound

OWNED: Mapping[str, tuple[str, Callable[[str], NotFound]]] = {
    "run": ("owner_of_run", no_such_run),
    "session": ("owner_of_session", no_such_session),
    "file": ("owner_of_file", no_such_file),
    "webhook": ("owner_of_webhook", no_such_webhook),
}
"""By the variable of a path: the statement that tells the owner, and what is said of a thing that is not there."""
_MOST_KNOWN = 20_000


class Owners:
    """Keeps everybody to what is theirs."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[tuple[str, str], str] = {}

    async def admit(self, caller: Caller, kind: str, name: str) -> Caller:
        """Who acts on the thing: its owner, or `admin` in the owner's place.

        Errors: NotFound, the same for what is another's as for what is not there.
        """
        if caller is WITHOUT_KEYS:
            # Nothing has an owner that was made before there was a key.
            return caller
        owner = await self._owner(kind, name)
        if owner == caller.account:
            return caller
        if owner is None or KeyScope.ADMIN not in caller.scopes:
            raise OWNED[kind][1](name)
        return replace(caller, account=owner)

    async def _owner(self, kind: str, name: str) -> str | None:
        known = self._known.get((kind, name))
        if known is None:
            async with self._database.connection() as connection:
                known = await connection.fetchval(SQL[OWNED[kind][0]], name)
            if known is not None:
                self._note(kind, name, known)
        return known

    def _note(self, kind: str, name: str, owner: str) -> None:
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[kind, name] = owner
