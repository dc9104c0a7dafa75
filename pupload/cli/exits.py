"""How a command ends: the exit codes, and every error as a line that says what to do."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum

import typer

from pupload.errors import CallerError, ControllerUnavailable, InvalidConfig, PuploadError


class ExitCode(IntEnum):
    """What `pup` ends with."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    STOPPED = 3
    UNREACHABLE = 4


class UsageError(CallerError):
    """The options do not fit each other or the flow."""

    code = "USAGE"


class Occupied(PuploadError):
    """What the command needs for itself, somebody else has: a data folder, a port."""

    code = "OCCUPIED"


@contextmanager
def reported() -> Iterator[None]:
    """Ends the command with a message and the exit code that an error of ours means; foreign errors are defects."""
    try:
        yield
    except PuploadError as error:
        complain("\n".join([error.message, *_detail_lines(error.details)]))
        raise typer.Exit(exit_code_of(error)) from error
    except BrokenPipeError:
        # Whoever read our output has enough, as `head` does; nothing may be flushed into the closed pipe at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(ExitCode.FAILED) from None
    except OSError as error:
        complain(f"{error.filename or 'the system'}: {error.strerror or error}")
        raise typer.Exit(ExitCode.FAILED) from error
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.STOPPED) from None


def exit_code_of(error: PuploadError) -> ExitCode:
    """The exit code of a command that `error` ended."""
    match error:
        case ControllerUnavailable():
            return ExitCode.UNREACHABLE
        case CallerError() | InvalidConfig():
            return ExitCode.USAGE
        case _:
            return ExitCode.FAILED


def _detail_lines(details: Sequence[object]) -> list[str]:
    """What is wrong in particular: findings, or problems of shape."""
    members = [detail for detail in details if isinstance(detail, dict)]
    return ["  " + "  ".join(str(each[m]) for m in ("Code", "Path", "Message") if m in each) for each in members]


def complain(message: str) -> None:
    """Print an error where errors go."""
    sys.stdout.flush()
    sys.stderr.write(f"pup: {message}\n")
