"""`pup key` and `pup account`: who may call, and what their runs may cost."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pupload.cli.database import asked
from pupload.cli.exits import UsageError
from pupload.units import parse_duration

if TYPE_CHECKING:
    from pupload.db.pool import Connection


def create(name: str, account: str, expires: str | None, scopes: Sequence[str], data: Path | None) -> None:
    """Prints the key, which is shown this once; where it belongs goes to standard error.

    After the first one nobody is let in without a key any more when this returns.
    """
    from pupload.controller.keys import NONE_S, add_key, are_any

    lifetime = _lifetime(expires) if expires else None

    async def make(connection: "Connection") -> tuple[str, str]:
        is_first = not await are_any(connection)
        made = await add_key(connection, name, account=account, lifetime=lifetime, scopes=scopes)
        if is_first:
            await asyncio.sleep(NONE_S)
        return made

    key, paid_by = asyncio.run(asked(data, make))
    typer.echo(key)
    whose = f"account {paid_by}" if paid_by else "the operator's account"
    typer.echo(f"{whose}; send the key as `Authorization: Bearer …`; it is not shown again", err=True)


def _lifetime(text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--expires: {error}") from error


def show_keys(data: Path | None) -> None:
    """Prints a line a key."""
    from pupload.controller.keys import list_keys

    for key in asyncio.run(asked(data, list_keys)):
        state = f"revoked {_day(key.revoked_at)}" if key.revoked_at else f"expires {_day(key.expires_at)}"
        typer.echo(
            f"{key.name:24} {key.account or '-':20} made {_day(key.created_at)}  {state}  {' '.join(key.scopes)}"
        )


def _day(at: datetime | None) -> str:
    return at.strftime("%Y-%m-%d") if at else "never"


def revoke(name: str, data: Path | None) -> None:
    """Returns when the key of this name opens nothing any more. Errors: NotFound."""
    from pupload.controller.keys import KNOWN_S, revoke_key

    async def end(connection: "Connection") -> None:
        await revoke_key(connection, name)
        await asyncio.sleep(KNOWN_S)

    asyncio.run(asked(data, end))
    typer.echo(f"the key {name} is revoked")


def credit(account: str, amount: str, data: Path | None) -> None:
    """Prints the balance, after `amount` was added to it."""
    from pupload.controller.accounts import add_credit

    added = _amount(amount)
    balance = asyncio.run(asked(data, lambda connection: add_credit(connection, account, added)))
    typer.echo(f"{account}: {balance} credits")


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation as error:
        raise UsageError(f"{text!r} is no number of credits; write it like 250 or 12.5") from error
    if not amount.is_finite():
        raise UsageError(f"{text!r} is no finite number of credits")
    return amount


def unlimited(account: str, data: Path | None) -> None:
    """Returns when the account's runs may cost what they like."""
    from pupload.controller.accounts import free

    asyncio.run(asked(data, lambda connection: free(connection, account)))
    typer.echo(f"{account}: not counted")
