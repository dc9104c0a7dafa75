"""The controller's database, for commands that its operator gives where it runs."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from pupload.config import ControllerConfig, read_config
from pupload.db.pool import Connection

T = TypeVar("T")


async def asked(data: Path | None, ask: Callable[[Connection], Awaitable[T]]) -> T:
    """The answer of the controller's database, whose schema is made if it is new."""
    from contextlib import ExitStack

    from pupload.db.embedded import embedded_postgres
    from pupload.db.pool import open_database

    config = read_config(ControllerConfig, data_dir=data)
    with ExitStack() as stack:
        # A running controller's embedded server is shared, and stays.
        dsn = (
            config.database_url.get_secret_value()
            if config.database_url is not None and data is None
            else stack.enter_context(embedded_postgres(config.data_dir / "postgres"))
        )
        database = await open_database(dsn, 1)
        try:
            async with database.connection() as connection:
                return await ask(connection)
        finally:
            await database.close()
