"""A run where there is no terminal: one line after the other, as they come."""

from types import TracebackType
from typing import Self, TextIO

from pupload.cli.view import Line, RunView, printable
from pupload.units import format_size


class Plain:
    """Shows a run line by line; the same calls as on a terminal."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._sizes: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._out.flush()

    def show(self, view: RunView) -> None:
        """There are no rows to keep up to date."""

    def say(self, lines: list[Line]) -> None:
        """Print lines."""
        for line in lines:
            self._out.write(f"{_prefix(line)}{printable(line.text)}\n")
        self._out.flush()

    def transfer(self, name: str, size_bytes: int) -> "Unseen":
        """Nothing until the file is through."""
        self._sizes[name] = size_bytes
        return Unseen()

    def transferred(self, name: str) -> None:
        """Print that a file is through."""
        self.say([Line(f"{name}, {format_size(self._sizes.pop(name, 0))}")])


class Unseen:
    """A transfer without a row."""

    def __call__(self, done_bytes: int) -> None:
        """Between start and end there is nothing to say."""


def _prefix(line: Line) -> str:
    if not line.node:
        return ""
    return f"{printable(line.node)} | " if line.stream else f"{printable(line.node)}: "
