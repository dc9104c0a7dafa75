"""A controller that dies at a chosen one of the moments at which what it has done so far outlives it.

Such moments are those before and after each use of the database, and before and after each change of the store.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pupload.config import ControllerConfig
from pupload.controller.reconcile import Reconciler
from pupload.controller.wiring import wire
from pupload.db.pool import Connection, Database
from pupload.stores.base import Store
from tests.support.parts import Desk

NEVER = 1_000_000
_CHANGES = {"put", "put_stream", "copy", "delete", "begin_multipart", "complete_multipart", "abort_multipart"}


class Killed(BaseException):
    """The process ends here; nothing that is written to clear up after it can reach anything."""


@dataclass(slots=True)
class Death:
    """Strikes at the moment of this number, and at every later one."""

    at: int
    seen: int = 0

    @property
    def has_come(self) -> bool:
        """True once nothing works any more."""
        return self.seen > self.at

    def strike(self) -> None:
        """Another moment has come.

        Errors: Killed.
        """
        self.seen += 1
        if self.has_come:
            raise Killed


class _MortalDatabase(Database):
    death: Death

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        self.death.strike()
        async with super().connection() as connection:
            yield connection
        self.death.strike()


class _MortalStore:
    def __init__(self, store: Store, death: Death) -> None:
        self._store, self._death = store, death

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return self._mortal(found) if name in _CHANGES else found

    def _mortal(self, change: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def changed(*how: Any, **more: Any) -> Any:
            self._death.strike()
            made = await change(*how, **more)
            self._death.strike()
            return made

        return changed


def a_mortal_desk(database: Database, store: Store, folder: Path, death: Death, **settings: Any) -> Desk:
    """The parts of a controller that dies so, on another's connections; it looks without any patience."""
    config = ControllerConfig(port=0, data_dir=folder, **{"reconcile_s": 0.001, **settings})
    mortal = _MortalDatabase(database._pool, database.dsn)
    mortal.death = death
    parts = wire(config, mortal, {"default": cast("Store", _MortalStore(store, death))})
    return Desk(parts, Reconciler(config, parts.service, parts.removal, list(parts.tiers)), config)


async def outlives(act: Awaitable[object], death: Death) -> bool:
    """True when the controller has done the act to its end."""
    with suppress(Killed):
        await act
    return not death.has_come
