"""`pup runs`, `pup run`, `pup cancel`, `pup logs`: a look at what a server knows."""

import asyncio
import json

import typer
from rich.console import Console
from rich.table import Table

from pupload.answers.runs import RunSummary
from pupload.cli.view import format_elapsed, printable
from pupload.client.client import AsyncClient


def show_runs(url: str, flow: str | None, status: str | None, limit: int) -> None:
    """Prints runs, newest first."""

    async def fetch() -> list[RunSummary]:
        async with AsyncClient(url) as client:
            return (await client.runs(flow=flow, status=status, limit=limit)).runs

    table = Table("Run", "Flow", "Status", "Took", "Why", box=None, padding=(0, 2, 0, 0), header_style="bold")
    for run in asyncio.run(fetch()):
        why = run.error.message if run.error else run.status_reason
        table.add_row(run.id, printable(run.flow_name), run.status, _took(run), printable(why))
    Console(highlight=False).print(table)


def show_run(url: str, run_id: str) -> None:
    """Prints a run as the server tells it."""

    async def fetch() -> dict[str, object]:
        async with AsyncClient(url) as client:
            return (await client.get_run(run_id)).wire()

    typer.echo(json.dumps(asyncio.run(fetch()), indent=2))


def cancel_run(url: str, run_id: str) -> None:
    """Asks the run to stop."""

    async def ask() -> None:
        async with AsyncClient(url) as client:
            await client.cancel(run_id)

    asyncio.run(ask())
    typer.echo(f"{run_id} is being stopped")


def print_logs(url: str, run_id: str, node_id: str, *, follow: bool) -> None:
    """Prints a node's log, line by line."""

    async def fetch() -> None:
        async with AsyncClient(url) as client:
            async for record in client.logs(run_id, node_id, follow=follow):
                typer.echo(printable(record.message))

    asyncio.run(fetch())


def _took(run: RunSummary) -> str:
    if run.started_at is None or run.finished_at is None:
        return ""
    return format_elapsed((run.finished_at - run.started_at).total_seconds())
