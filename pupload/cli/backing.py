"""What a controller stands on: a database and stores, embedded where the configuration names none."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from pupload.config import ControllerConfig
from pupload.flow.plan import DEFAULT_STORE
from pupload.stores.base import Store


@dataclass(frozen=True, slots=True)
class Backing:
    """`dsn` is the address of the database; of the stores, one is named `default`."""

    dsn: str
    stores: Mapping[str, Store]


def is_embedded(config: ControllerConfig) -> bool:
    """True when something of the backing lives in the data folder."""
    return config.database_url is None or not _has_default(config)


@asynccontextmanager
async def backing(config: ControllerConfig) -> AsyncIterator[Backing]:
    """The parts, started side by side, for the length of the block.

    Errors: InvalidConfig, DatabaseUnavailable, StoreUnavailable.
    """
    async with AsyncExitStack() as stack:
        dsn, stores = await asyncio.gather(_database(config, stack), _stores(config, stack), return_exceptions=True)
        for failed in (dsn, stores):
            if isinstance(failed, BaseException):
                raise failed
        assert isinstance(dsn, str)
        assert isinstance(stores, dict)
        yield Backing(dsn, stores)


async def _database(config: ControllerConfig, stack: AsyncExitStack) -> str:
    if config.database_url is not None:
        return config.database_url.get_secret_value()
    from pupload.db.embedded import embedded_postgres

    server = embedded_postgres(config.data_dir / "postgres")
    # A thread cannot be interrupted: whoever gives up waiting must still stop what it then starts.
    starting = asyncio.ensure_future(asyncio.to_thread(server.__enter__))

    async def stop() -> None:
        await asyncio.wait([starting])
        if starting.exception() is None:
            await asyncio.to_thread(server.__exit__, None, None, None)

    stack.push_async_callback(stop)
    return await asyncio.shield(starting)


async def _stores(config: ControllerConfig, stack: AsyncExitStack) -> dict[str, Store]:
    from pupload.stores.open import configured, open_store, start_embedded

    stores: dict[str, Store] = {}
    for settings in config.stores:
        stores[settings.name] = await asyncio.to_thread(open_store, configured(settings))
        stack.push_async_callback(stores[settings.name].close)
    if not _has_default(config):
        stores[DEFAULT_STORE] = await start_embedded(config.data_dir)
        stack.push_async_callback(stores[DEFAULT_STORE].close)
    return stores


def _has_default(config: ControllerConfig) -> bool:
    return any(settings.name == DEFAULT_STORE for settings in config.stores)
