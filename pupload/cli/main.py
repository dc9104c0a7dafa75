"""The commands of `pup`, their options and help. What a command does is loaded when it is called: help stays quick."""

from pathlib import Path
from typing import Annotated

import typer

from pupload.cli.arguments import DEFAULT_URL, Data, EmbeddedData, FlowFile, RunIDArgument, Server
from pupload.cli.exits import reported
from pupload.cli.groups import accounts, flows, keys, tokens

app = typer.Typer(
    name="pup",
    help="Runs graphs of containers over files.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(tokens, name="worker-token")
app.add_typer(keys, name="key")
app.add_typer(accounts, name="account")
app.add_typer(flows, name="flow")


@app.command()
def dev(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 is any free one.")] = 1234,
    data: Data = Path(".pupload"),
    *,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the log of all parts.")] = False,
) -> None:
    """Runs everything on this machine: database, store, controller and one worker. Ctrl-C ends it."""
    with reported():
        from pupload.cli.dev import run_dev

        run_dev(port, data, verbose=verbose)


@app.command()
def controller() -> None:
    """Runs a controller. Its settings are PUPLOAD_… variables, or keys of the TOML file that PUPLOAD_CONFIG names."""
    with reported():
        from pupload.cli.servers import serve_controller

        serve_controller()


@app.command()
def worker(
    *,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Log warnings and errors only.")] = False,
    settings_on_stdin: Annotated[bool, typer.Option("--settings-on-stdin", hidden=True)] = False,
) -> None:
    """Runs a worker on this machine's Docker engine. Its settings come as those of the controller do."""
    with reported():
        from pupload.cli.servers import serve_worker

        serve_worker(quiet=quiet, settings_on_stdin=settings_on_stdin)


@app.command("webhook-secret")
def webhook_secret(
    data: EmbeddedData = None,
    account: Annotated[str, typer.Option(help="Whose webhooks; unset: the operator's own.")] = "",
) -> None:
    """Prints what receivers verify webhooks with, made at first; the newest first while one replaces another."""
    with reported():
        from pupload.cli.webhooks import show_secrets

        show_secrets(data, account)


@app.command()
def validate(
    flow: FlowFile,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Says everything that is wrong with a flow; ends with 1 if it could not run."""
    with reported():
        from pupload.cli.validate import validate_file

        validate_file(flow, as_json=as_json)


@app.command("test")
def try_out(
    flow: FlowFile,
    *,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", "-i", metavar="EDGE=FILE", help="A file for an awaited edge.")
    ] = None,
    outputs: Annotated[
        list[str] | None, typer.Option("--output", "-o", metavar="EDGE=FILE", help="Where an edge's object goes.")
    ] = None,
    output_dir: Annotated[Path | None, typer.Option(help="Folder for the outputs that no node reads.")] = None,
    remote: Server = DEFAULT_URL,
    timeout: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Longest time for the run, as 90s or 15m.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the ended run as JSON; progress goes to standard error.")
    ] = False,
) -> None:
    """Runs a flow once: uploads the inputs, shows how it goes, downloads the outputs.

    Ends with 0 when the run is COMPLETE, 1 when it failed, 2 when flow or options are wrong, 3 when it was stopped,
    4 when the server does not answer. Ctrl-C cancels the run.
    """
    with reported():
        from pupload.cli.trial import try_flow
        from pupload.cli.wishes import Wishes

        wishes = Wishes.read(flow, inputs or [], outputs or [], output_dir, timeout)
        raise typer.Exit(try_flow(remote, wishes, as_json=as_json))


@app.command()
def call(
    flow: Annotated[str, typer.Argument(metavar="NAME", help="The flow's name.")],
    *,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", "-i", metavar="EDGE=FILE", help="A file to begin with.")
    ] = None,
    message: Annotated[str | None, typer.Option("--message", "-m", help="The text of the flow's main input.")] = None,
    parameters: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="A parameter's value.")
    ] = None,
    outputs: Annotated[
        list[str] | None, typer.Option("--output", "-o", metavar="EDGE=FILE", help="Where an edge's object goes.")
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="production, draft or a number; otherwise production, else the newest.")
    ] = None,
    session: Annotated[str | None, typer.Option(help="The session to go on with.")] = None,
    timeout: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Longest time for the run, as 90s or 15m.")
    ] = None,
    remote: Server = DEFAULT_URL,
    stream: Annotated[bool, typer.Option("--stream/--wait", help="Show how it goes, or only what came of it.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the ended run as JSON.")] = False,
) -> None:
    """Runs a flow that the server keeps. Prints its outputs; how it goes is shown on standard error.

    Ends as `pup test` does, and Ctrl-C cancels the run.
    """
    with reported():
        from pupload.cli.call import Wish, call_flow

        wish = Wish.read(
            flow, inputs or [], parameters or [], outputs or [], message=message, version=version, session=session,
            timeout=timeout,
        )  # fmt: skip
        raise typer.Exit(call_flow(remote, wish, quiet=not stream, as_json=as_json))


@app.command("runs")
def list_runs(
    remote: Server = DEFAULT_URL,
    flow: Annotated[str | None, typer.Option(help="Only runs of this flow.")] = None,
    status: Annotated[str | None, typer.Option(help="Only runs of this status.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many at most.")] = 20,
) -> None:
    """Lists runs, newest first."""
    with reported():
        from pupload.cli.runs import show_runs

        show_runs(remote, flow, status, limit)


@app.command("run")
def show_one(run: RunIDArgument, remote: Server = DEFAULT_URL) -> None:
    """Shows one run with its nodes and artifacts."""
    with reported():
        from pupload.cli.runs import show_run

        show_run(remote, run)


@app.command()
def cancel(run: RunIDArgument, remote: Server = DEFAULT_URL) -> None:
    """Stops a run."""
    with reported():
        from pupload.cli.runs import cancel_run

        cancel_run(remote, run)


@app.command()
def logs(
    run: RunIDArgument,
    node: Annotated[str, typer.Argument(metavar="NODE", help="The node's ID.")],
    remote: Server = DEFAULT_URL,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
) -> None:
    """Prints the log of a node."""
    with reported():
        from pupload.cli.runs import print_logs

        print_logs(remote, run, node, follow=follow)


if __name__ == "__main__":
    app()
