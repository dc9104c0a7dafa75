"""The commands of `pup`, their options and help. What a command does is loaded when it is called: help stays quick."""

from pathlib import Path
from typing import Annotated

import typer

from pupload.cli.exits import reported

DEFAULT_URL = "http://127.0.0.1:1234"

app = typer.Typer(
    name="pup",
    help="Runs graphs of containers over files.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
tokens = typer.Typer(no_args_is_help=True, help="Adds and revokes the tokens of workers.")
app.add_typer(tokens, name="worker-token")

keys = typer.Typer(no_args_is_help=True, help="Creates, lists and revokes API keys.")
app.add_typer(keys, name="key")
accounts = typer.Typer(no_args_is_help=True, help="What the runs of an account may cost.")
app.add_typer(accounts, name="account")
flows = typer.Typer(no_args_is_help=True, help="Keeps flows on a server: drafts, versions, production.")
app.add_typer(flows, name="flow")

EmbeddedData = Annotated[Path | None, typer.Option("--data", help="Folder of the embedded database.")]
Data = Annotated[Path, typer.Option("--data", help="Folder in which everything is kept.")]
Server = Annotated[str, typer.Option("--remote", envvar="PUPLOAD_URL", help="Address of the server.")]
RunIDArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")]


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
    *, quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Log warnings and errors only.")] = False
) -> None:
    """Runs a worker on this machine's Docker engine. Its settings come as those of the controller do."""
    with reported():
        from pupload.cli.servers import serve_worker

        serve_worker(quiet=quiet)


@tokens.command("add")
def add_token(
    name: Annotated[str, typer.Argument(help="The worker's name, as runs show it.")],
    data: Annotated[Path | None, typer.Option("--data", help="Folder of the embedded database.")] = None,
) -> None:
    """Prints a new token for a worker; one that the name had before is no longer good."""
    with reported():
        from pupload.cli.tokens import add

        add(name, data)


@tokens.command("revoke")
def revoke_token(
    name: Annotated[str, typer.Argument(help="The worker's name.")],
    data: Annotated[Path | None, typer.Option("--data", help="Folder of the embedded database.")] = None,
) -> None:
    """Makes a worker's token worthless; what it runs is given to others."""
    with reported():
        from pupload.cli.tokens import revoke

        revoke(name, data)


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What the key is for; `pup key revoke` knows it by this.")],
    account: Annotated[str, typer.Option(help="The account that pays; otherwise one of the key's own.")] = "",
    expires: Annotated[str | None, typer.Option(metavar="DURATION", help="How long it is good for, as 720h.")] = None,
    data: EmbeddedData = None,
) -> None:
    """Prints a new API key. From the first one on the server wants a key of every caller."""
    with reported():
        from pupload.cli.keys import create

        create(name, account, expires, data)


@keys.command("list")
def list_keys(data: EmbeddedData = None) -> None:
    """Lists the keys, without their secrets."""
    with reported():
        from pupload.cli.keys import show_keys

        show_keys(data)


@keys.command("revoke")
def revoke_key(
    name: Annotated[str, typer.Argument(help="The key's name.")],
    data: EmbeddedData = None,
) -> None:
    """Makes a key worthless, within seconds."""
    with reported():
        from pupload.cli.keys import revoke

        revoke(name, data)


@accounts.command("credit")
def credit_account(
    account: Annotated[str, typer.Argument(help="The account, as `pup key list` shows it.")],
    amount: Annotated[str, typer.Argument(metavar="CREDITS", help="What is added; the first makes it counted.")],
    data: EmbeddedData = None,
) -> None:
    """Adds to an account's balance."""
    with reported():
        from pupload.cli.keys import credit

        credit(account, amount, data)


@accounts.command("unlimited")
def free_account(
    account: Annotated[str, typer.Argument(help="The account, as `pup key list` shows it.")],
    data: EmbeddedData = None,
) -> None:
    """Counts an account's runs no more."""
    with reported():
        from pupload.cli.keys import unlimited

        unlimited(account, data)


@app.command("webhook-secret")
def webhook_secret(data: EmbeddedData = None) -> None:
    """Prints what receivers verify webhooks with, made at first; the newest first while one replaces another."""
    with reported():
        from pupload.cli.webhooks import show_secrets

        show_secrets(data)


FlowFile = Annotated[Path, typer.Argument(metavar="FLOW", help="JSON or YAML file of {Flow, NodeDefs}.")]


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


FlowName = Annotated[str, typer.Argument(metavar="NAME", help="The flow's name.")]
VersionNumber = Annotated[int, typer.Argument(metavar="N", min=1, help="The version's number.")]


@flows.command("list")
def list_flows(remote: Server = DEFAULT_URL) -> None:
    """Lists flows by name."""
    with reported():
        from pupload.cli.flows import show_flows

        show_flows(remote)


@flows.command("show")
def show_flow(
    name: FlowName,
    remote: Server = DEFAULT_URL,
    version: Annotated[int | None, typer.Option(min=1, help="A published version instead of the draft.")] = None,
) -> None:
    """Shows a flow with its draft, or one version."""
    with reported():
        from pupload.cli.flows import show_flow as show

        show(remote, name, version)


@flows.command("put")
def put_flow(
    flow: FlowFile,
    remote: Server = DEFAULT_URL,
    name: Annotated[str | None, typer.Option(help="Name to keep it by; the file's own unless told.")] = None,
) -> None:
    """Makes a file the draft of a flow, and says what is wrong with it."""
    with reported():
        from pupload.cli.flows import put_flow as put

        put(remote, flow, name)


@flows.command("validate")
def validate_flow(name: FlowName, remote: Server = DEFAULT_URL) -> None:
    """Says everything that is wrong with the draft, as the server sees it; ends with 1 if it could not run."""
    with reported():
        from pupload.cli.flows import validate_draft

        validate_draft(remote, name)


@flows.command("publish")
def publish_flow(
    name: FlowName,
    remote: Server = DEFAULT_URL,
    *,
    promote: Annotated[bool, typer.Option("--promote", help="Put the version into production at once.")] = False,
) -> None:
    """Makes the draft a version that never changes."""
    with reported():
        from pupload.cli.flows import publish

        publish(remote, name, promoted=promote)


@flows.command("promote")
def promote_flow(name: FlowName, number: VersionNumber, remote: Server = DEFAULT_URL) -> None:
    """Puts a version into production: what a call gets that asks for none."""
    with reported():
        from pupload.cli.flows import promote

        promote(remote, name, number)


@flows.command("delete")
def delete_flow(name: FlowName, remote: Server = DEFAULT_URL) -> None:
    """Forgets the draft; published versions stay."""
    with reported():
        from pupload.cli.flows import delete_draft

        delete_draft(remote, name)


@flows.command("compare")
def compare_flow(
    name: FlowName,
    before: Annotated[str | None, typer.Argument(metavar="[FROM]", help="draft, production or a number.")] = None,
    after: Annotated[str | None, typer.Argument(metavar="[TO]", help="draft, production or a number.")] = None,
    remote: Server = DEFAULT_URL,
) -> None:
    """Shows where two versions differ: production, else the newest, and the draft, unless told."""
    with reported():
        from pupload.cli.flows import compare

        compare(remote, name, before, after)


if __name__ == "__main__":
    app()
