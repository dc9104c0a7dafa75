"""Arguments and options that several commands of `pup` have."""

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_URL = "http://127.0.0.1:1234"

EmbeddedData = Annotated[Path | None, typer.Option("--data", help="Folder of the embedded database.")]
Data = Annotated[Path, typer.Option("--data", help="Folder in which everything is kept.")]
Server = Annotated[str, typer.Option("--remote", envvar="PUPLOAD_URL", help="Address of the server.")]
RunIDArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")]
FlowFile = Annotated[Path, typer.Argument(metavar="FLOW", help="JSON or YAML file of {Flow, NodeDefs}.")]
