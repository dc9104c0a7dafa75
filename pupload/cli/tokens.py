"""`pup worker-token`: the right of a worker to work."""

import asyncio
from pathlib import Path

import typer

from pupload.cli.database import asked


def add(name: str, data: Path | None) -> None:
    """Prints the token, which is shown this once."""
    from pupload.controller.workers import add_worker

    typer.echo(asyncio.run(asked(data, lambda connection: add_worker(connection, name))))


def revoke(name: str, data: Path | None) -> None:
    """Returns when the worker of this name has no token any more. Errors: NotFound."""
    from pupload.controller.workers import revoke_worker

    asyncio.run(asked(data, lambda connection: revoke_worker(connection, name)))
    typer.echo(f"the token of {name} is revoked")
