"""The commands of `pup` that come in groups: tokens, keys, accounts, flows. What one does is loaded late."""

from typing import Annotated

import typer

from pupload.cli.arguments import DEFAULT_URL, EmbeddedData, FlowFile, Server
from pupload.cli.exits import reported

tokens = typer.Typer(no_args_is_help=True, help="Adds and revokes the tokens of workers.")
keys = typer.Typer(no_args_is_help=True, help="Creates, lists and revokes API keys.")
accounts = typer.Typer(no_args_is_help=True, help="What the runs of an account may cost.")
flows = typer.Typer(no_args_is_help=True, help="Keeps flows on a server: drafts, versions, production.")


@tokens.command("add")
def add_token(
    name: Annotated[str, typer.Argument(help="The worker's name, as runs show it.")],
    data: EmbeddedData = None,
) -> None:
    """Prints a new token for a worker; one that the name had before is no longer good."""
    with reported():
        from pupload.cli.tokens import add

        add(name, data)


@tokens.command("revoke")
def revoke_token(
    name: Annotated[str, typer.Argument(help="The worker's name.")],
    data: EmbeddedData = None,
) -> None:
    """Makes a worker's token worthless; what it runs is given to others."""
    with reported():
        from pupload.cli.tokens import revoke

        revoke(name, data)


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What the key is for; `pup key revoke` knows it by this.")],
    account: Annotated[str, typer.Option(help="The account that owns and pays; otherwise one of the key's own.")] = "",
    expires: Annotated[str | None, typer.Option(metavar="DURATION", help="How long it is good for, as 720h.")] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="What it is good for; more than once for more: run:read, run:create, flow:write, files, admin."
        ),
    ] = None,
    data: EmbeddedData = None,
) -> None:
    """Prints a new API key. From the first one on the server wants a key of every caller."""
    with reported():
        from pupload.cli.keys import create

        create(name, account, expires, scope or (), data)


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
    """Makes a key worthless: it opens nothing any more once this has returned."""
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
