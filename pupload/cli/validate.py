"""`pup validate`: everything that is wrong with a flow, without a server."""

import json
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pupload.cli.exits import ExitCode
from pupload.cli.view import printable
from pupload.flow.check import Finding, Severity, check, errors_in
from pupload.flow.load import load_file
from pupload.flow.plan import DEFAULT_STORE
from pupload.tiers import TIERS


def validate_file(path: Path, *, as_json: bool) -> None:
    """Prints the findings; ends with 1 if the flow could not run.

    Server stores other than the default one are not known here: the flow's own names of them are believed.
    Errors: Malformed and InvalidRequest where the file is no flow.
    """
    flow, defs, _ = load_file(path)
    named = {store.name for store in flow.stores if store.names_a_server_store}
    findings = check(flow, defs, tiers=TIERS, stores={DEFAULT_STORE, *named})
    if as_json:
        typer.echo(json.dumps({"Findings": [finding.wire() for finding in findings]}, indent=2))
    else:
        _print(path, findings)
    if errors_in(findings):
        raise typer.Exit(ExitCode.FAILED)


def _print(path: Path, findings: Sequence[Finding]) -> None:
    errors = len(errors_in(findings))
    console = Console(highlight=False)
    if findings:
        console.print(findings_table(findings))
    told = f"{path}: {counted(errors, 'error')}, {counted(len(findings) - errors, 'warning')}"
    console.print(told, markup=False, soft_wrap=True)


def findings_table(findings: Sequence[Finding]) -> Table:
    """Code, path and message of each."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("Code", no_wrap=True)
    table.add_column("Path", overflow="fold", ratio=2)
    table.add_column("Message", overflow="fold", ratio=3)
    for finding in findings:
        style = "red" if finding.severity is Severity.ERROR else "yellow"
        table.add_row(Text(finding.code, style=style), printable(finding.path), Text(printable(finding.message)))
    return table


def counted(number: int, what: str) -> str:
    """`number` with its noun."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
