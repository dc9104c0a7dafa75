"""`pup worker-token`: the right of a worker to work."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import typer

from pupload.config import ControllerConfig, read_config
from pupload.db.pool import Connection

T = TypeVar("T")


def add(name: str, data: Path | None) -> None:
    """Prints the token, which is shown this once."""
    from pupload.controller.workers import add_worker

    typer.echo(asyncio.run(_asked(data, lambda connection: add_worker(connection, name))))


def revoke(name: str, data: Path | None) -> None:
    """Returns when the worker of this name has no token any more. Errors: NotFound."""
    from pupload.controller.workers import revoke_worker

    asyncio.run(_asked(data, lambda connection: revoke_worker(connection, name)))
    typer.echo(f"the token of {name} is revoked")


async def _asked(data: Path | None, ask: Callable[[Connection], Awaitable[T]]) -> T:
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
