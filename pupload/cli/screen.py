"""A run on a terminal: a row a node that stays in place, everything else scrolls above it."""

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pupload.cli.view import Line, NodeView, RunView, format_elapsed, printable
from pupload.run.state import NodeStatus
from pupload.units import format_size

MOST_ROWS = 20
_NARROW = 64
"""Columns below which rows go without their bar."""
_WIDEST_ID = 24
_FPS = 10

_STYLES = {
    NodeStatus.IDLE: "dim",
    NodeStatus.WAITING: "yellow",
    NodeStatus.READY: "cyan",
    NodeStatus.RUNNING: "bold blue",
    NodeStatus.RETRYING: "yellow",
    NodeStatus.COMPLETE: "green",
    NodeStatus.ERROR: "bold red",
    NodeStatus.STOPPED: "magenta",
    NodeStatus.SKIPPED: "dim",
}
_SHOWN_FIRST = (
    NodeStatus.ERROR,
    NodeStatus.RUNNING,
    NodeStatus.RETRYING,
    NodeStatus.READY,
    NodeStatus.WAITING,
    NodeStatus.STOPPED,
    NodeStatus.COMPLETE,
    NodeStatus.IDLE,
    NodeStatus.SKIPPED,
)
"""What is kept when not all nodes fit."""


class Screen:
    """Shows a run on a terminal, for the length of a `with` block."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._view = RunView()
        self._transfers: dict[str, Transfer] = {}
        self._printed: list[Line] = []
        self._live = Live(
            console=console, get_renderable=self._render, refresh_per_second=_FPS, redirect_stdout=False,
            redirect_stderr=False, vertical_overflow="crop",
        )  # fmt: skip

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transfers.clear()
        self._live.stop()

    def show(self, view: RunView) -> None:
        """Show this run from now on."""
        self._view = view

    def say(self, lines: list[Line]) -> None:
        """Print lines above the rows."""
        worth_it = [line for line in lines if not line.routine]
        if worth_it:
            self._console.print(Group(*_paragraphs(worth_it)))

    def transfer(self, name: str, size_bytes: int) -> "Transfer":
        """A row that shows how far the transfer of a file is."""
        return self._transfers.setdefault(name, Transfer(name, size_bytes))

    def transferred(self, name: str) -> None:
        """The transfer is through; its row goes."""
        done = self._transfers.pop(name, None)
        if done is not None:
            self.say([Line(f"{done.name}, {format_size(done.size_bytes)}")])

    def _render(self) -> RenderableType:
        now = datetime.now(UTC)
        width, height = self._console.size
        shown = rows_that_fit(self._view, min(MOST_ROWS, max(height - 4 - len(self._transfers), 1)))
        table = Table.grid(padding=(0, 1))
        _columns(table, narrow=width < _NARROW, id_width=min(max(width // 3, 8), 2 * _WIDEST_ID))
        for transfer in self._transfers.values():
            table.add_row(*_transfer_cells(transfer, narrow=width < _NARROW))
        for node in shown:
            table.add_row(*_node_cells(node, now, narrow=width < _NARROW))
        hidden = len(self._view.nodes) - len(shown)
        return Group(table, Text(summary(self._view, hidden), style="dim", no_wrap=True, overflow="ellipsis"))


class Transfer:
    """One file on its way. It is called with the bytes that are through."""

    def __init__(self, name: str, size_bytes: int) -> None:
        self.name, self.size_bytes, self.done_bytes = name, size_bytes, 0

    def __call__(self, done_bytes: int) -> None:
        self.done_bytes = done_bytes


def rows_that_fit(view: RunView, most: int) -> list[NodeView]:
    """At most so many nodes, the most telling ones, in the order of the flow."""
    nodes = list(view.nodes.values())
    if len(nodes) <= most:
        return nodes
    telling = sorted(range(len(nodes)), key=lambda place: (_SHOWN_FIRST.index(nodes[place].status), place))
    return [nodes[place] for place in sorted(telling[:most])]


def summary(view: RunView, hidden: int) -> str:
    """How many nodes are in which state, and how many of them have no row."""
    counts = [f"{view.count(status)} {status.value.lower()}" for status in NodeStatus if view.count(status)]
    return ", ".join(counts) + (f" ({hidden} not shown)" if hidden else "")


def _columns(table: Table, *, narrow: bool, id_width: int) -> None:
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=id_width)
    table.add_column(no_wrap=True, width=9)
    if not narrow:
        table.add_column(width=20)
    table.add_column(no_wrap=True, justify="right", min_width=7)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)


def _node_cells(node: NodeView, now: datetime, *, narrow: bool) -> list[RenderableType]:
    style = _STYLES[node.status]
    elapsed_s = node.elapsed_s(now)
    tries = f"attempt {node.attempt_text} " if node.attempt > 1 else ""
    return [
        Text(printable(node.id)),
        Text(node.status.value.lower(), style=style),
        *([] if narrow else [_bar(node)]),
        Text("" if elapsed_s is None else format_elapsed(elapsed_s), style="dim"),
        Text(printable(tries + node.note), style="red" if node.status is NodeStatus.ERROR else "dim"),
    ]


def _bar(node: NodeView) -> RenderableType:
    match node.status:
        case NodeStatus.RUNNING if not node.progress:
            return ProgressBar(total=None, pulse=True, width=20)
        case NodeStatus.RUNNING | NodeStatus.COMPLETE:
            return ProgressBar(total=100, completed=node.progress, width=20)
        case _:
            return Text("")


def _transfer_cells(transfer: Transfer, *, narrow: bool) -> list[RenderableType]:
    share = 100 * transfer.done_bytes / transfer.size_bytes if transfer.size_bytes else 100.0
    return [
        Text(printable(transfer.name)),
        Text("transfer", style="bold blue"),
        *([] if narrow else [ProgressBar(total=100, completed=share, width=20)]),
        Text(f"{share:.0f} %", style="dim"),
        Text(f"{format_size(transfer.done_bytes)} of {format_size(transfer.size_bytes)}", style="dim"),
    ]


def _paragraphs(lines: list[Line]) -> Iterator[RenderableType]:
    """Lines as they are printed; what programs wrote stands beside the node's name, however long it is."""
    for is_output, group in itertools.groupby(lines, key=lambda line: bool(line.stream)):
        if is_output:
            yield _output(list(group))
        else:
            yield from (_said(line) for line in group)


def _output(lines: list[Line]) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True, overflow="ellipsis", style="dim", max_width=_WIDEST_ID)
    grid.add_column(width=1, style="dim")
    grid.add_column(overflow="fold", ratio=1)
    for line in lines:
        grid.add_row(printable(line.node), "│", Text(printable(line.text), style=_stream_style(line.stream)))
    return grid


def _said(line: Line) -> Text:
    text = Text(printable(line.text), overflow="fold")
    return Text.assemble((printable(line.node), "bold"), " ", text, overflow="fold") if line.node else text


def _stream_style(stream: str) -> str:
    return {"stderr": "yellow", "system": "dim italic"}.get(stream, "")
