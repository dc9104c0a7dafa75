"""`pup webhook-secret`: what receivers verify webhooks with."""

from pathlib import Path

import typer

from pupload.config import ControllerConfig, read_config


def show_secrets(data: Path | None, account: str) -> None:
    """Prints the secrets in use for the account, one a line. Errors: InvalidConfig."""
    from pupload.controller.signing import secret_of, signing_secrets

    for secret in signing_secrets(read_config(ControllerConfig, data_dir=data)):
        typer.echo(secret_of(secret, account))
