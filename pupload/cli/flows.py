"""`pup flow`: flows that a server keeps."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from pupload.answers.flows import DifferenceAnswer, FindingAnswer, FlowSummary, FlowVersionAnswer
from pupload.cli.exits import ExitCode
from pupload.cli.validate import counted, findings_table
from pupload.cli.view import printable
from pupload.client.client import AsyncClient
from pupload.document import fold
from pupload.errors import InvalidRequest
from pupload.flow.load import load_documents, read_file
from pupload.flow.rules.rule import Finding, Severity

_PAGE = 500


def show_flows(url: str) -> None:
    """Prints every flow by name."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("Flow", overflow="fold")
    for title in ("Draft", "Versions", "Production"):
        table.add_column(title, no_wrap=True)
    for flow in asyncio.run(_all_flows(url)):
        draft = f"{flow.updated_at:%Y-%m-%d %H:%M}" if flow.draft else ""
        newest = f"1 to {flow.versions[-1]}" if len(flow.versions) > 1 else "".join(map(str, flow.versions))
        table.add_row(printable(flow.name), draft, newest, str(flow.production or ""))
    Console(highlight=False).print(table)


async def _all_flows(url: str) -> list[FlowSummary]:
    found: list[FlowSummary] = []
    async with AsyncClient(url) as client:
        page = await client.flows(limit=_PAGE)
        found += page.flows
        while page.next_cursor:
            page = await client.flows(limit=_PAGE, cursor=page.next_cursor)
            found += page.flows
    return found


def show_flow(url: str, name: str, version: int | None) -> None:
    """Prints the flow with its draft, or one version of it."""

    async def fetch() -> dict[str, object]:
        async with AsyncClient(url) as client:
            return (await (client.flow(name) if version is None else client.version(name, version))).wire()

    typer.echo(json.dumps(asyncio.run(fetch()), indent=2))


def put_flow(url: str, path: Path, name: str | None) -> None:
    """Makes the file the flow's draft, and prints what is wrong with it."""
    body = read_file(path)
    load_documents(body, lenient=False)
    documents = {fold(str(member)): value for member, value in body.items()} if isinstance(body, dict) else {}
    flow, nodedefs = documents["flow"], documents.get("nodedefs") or []
    kept_as = name or next((str(value) for member, value in flow.items() if fold(member) == "name" and value), "")
    if not kept_as:
        raise InvalidRequest(f"{path}: the flow has no Name; give it one, or say --name")
    if name:
        flow = {member: value for member, value in flow.items() if fold(member) != "name"}

    async def send() -> list[FindingAnswer]:
        async with AsyncClient(url) as client:
            await client.put_flow(kept_as, flow, nodedefs)
            return await client.validate_flow(kept_as)

    findings = asyncio.run(send())
    _print_findings(findings)
    typer.echo(f"{kept_as}: the draft is kept" + ("; it cannot run yet" if _errors(findings) else ""))


def validate_draft(url: str, name: str) -> None:
    """Prints what is wrong with the draft; ends with 1 if it could not run."""

    async def ask() -> list[FindingAnswer]:
        async with AsyncClient(url) as client:
            return await client.validate_flow(name)

    findings = asyncio.run(ask())
    _print_findings(findings)
    errors = _errors(findings)
    typer.echo(f"{name}: {counted(errors, 'error')}, {counted(len(findings) - errors, 'warning')}")
    if errors:
        raise typer.Exit(ExitCode.FAILED)


def _errors(findings: Sequence[FindingAnswer]) -> int:
    return sum(finding.severity == Severity.ERROR for finding in findings)


def _print_findings(findings: Sequence[FindingAnswer]) -> None:
    if findings:
        table = findings_table([Finding.model_validate(each.model_dump()) for each in findings])
        Console(highlight=False).print(table)


def publish(url: str, name: str, *, promoted: bool) -> None:
    """Publishes the draft, and prints the version."""

    async def ask() -> FlowVersionAnswer:
        async with AsyncClient(url) as client:
            version = await client.publish(name)
            return await client.promote(name, version.version) if promoted else version

    version = asyncio.run(ask())
    for warning in version.warnings:
        typer.echo(f"warning: {printable(warning)}", err=True)
    production = ", in production" if version.production else ""
    typer.echo(f"{version.name}: version {version.version}{production}, definition {version.definition[:12]}")
    for reference, image in version.images.items():
        typer.echo(f"  {reference} is {image}")


def promote(url: str, name: str, number: int) -> None:
    """Makes the version production."""

    async def ask() -> None:
        async with AsyncClient(url) as client:
            await client.promote(name, number)

    asyncio.run(ask())
    typer.echo(f"{name}: version {number} is in production")


def delete_draft(url: str, name: str) -> None:
    """Forgets the draft."""

    async def ask() -> None:
        async with AsyncClient(url) as client:
            await client.delete_flow(name)

    asyncio.run(ask())
    typer.echo(f"{name}: the draft is gone")


def compare(url: str, name: str, before: str | None, after: str | None) -> None:
    """Prints where two versions differ."""

    async def ask() -> tuple[str, str, list[DifferenceAnswer]]:
        async with AsyncClient(url) as client:
            found = await client.compare(name, before, after)
            return found.from_, found.to, found.differences

    old, new, differences = asyncio.run(ask())
    if not differences:
        typer.echo(f"{name}: {old} and {new} are the same")
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("Path", old, new):
        table.add_column(title, overflow="fold")
    for each in differences:
        table.add_row(printable(each.path), _shown(each.from_), _shown(each.to))
    Console(highlight=False).print(table)


def _shown(value: object) -> str:
    return "" if value is None else printable(value if isinstance(value, str) else json.dumps(value))
