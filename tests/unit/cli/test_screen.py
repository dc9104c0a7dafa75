"""A run on a terminal of any size."""

import io

import pytest
from rich.console import Console

from pupload.cli.screen import Screen, rows_that_fit, summary
from pupload.cli.view import Line, NodeView, RunView
from pupload.run.state import NodeStatus


def a_view(*statuses: NodeStatus) -> RunView:
    return RunView({f"n{place}": NodeView(f"n{place}", status) for place, status in enumerate(statuses)})


def drawn(view: RunView, lines: list[Line], width: int = 80, height: int = 24) -> str:
    out = io.StringIO()
    console = Console(
        file=out, force_terminal=True, width=width, height=height, color_system=None, legacy_windows=False
    )
    with Screen(console) as screen:
        screen.show(view)
        screen.say(lines)
        screen.transfer("photo.jpg → image", 1000)(500)
    return out.getvalue()


def test_all_nodes_have_a_row_while_they_fit() -> None:
    view = a_view(NodeStatus.COMPLETE, NodeStatus.RUNNING, NodeStatus.IDLE)
    assert [node.id for node in rows_that_fit(view, 3)] == ["n0", "n1", "n2"]


def test_when_they_do_not_fit_the_telling_ones_stay_in_their_order() -> None:
    view = a_view(NodeStatus.COMPLETE, NodeStatus.RUNNING, NodeStatus.IDLE, NodeStatus.ERROR, NodeStatus.READY)
    assert [node.id for node in rows_that_fit(view, 3)] == ["n1", "n3", "n4"]


def test_the_summary_counts_all_nodes_and_says_what_is_hidden() -> None:
    view = a_view(*[NodeStatus.COMPLETE] * 30, NodeStatus.RUNNING)
    assert summary(view, 11) == "1 running, 30 complete (11 not shown)"


@pytest.mark.parametrize("width", [20, 40, 63, 64, 100, 300])
@pytest.mark.parametrize("height", [3, 24])
def test_nothing_is_wider_than_the_terminal(width: int, height: int) -> None:
    view = RunView({"a" * 63: NodeView("a" * 63, NodeStatus.ERROR, attempt=2, max_attempts=3, note="x" * 500)})
    written = drawn(view, [Line("y" * 500, "n0", "stdout"), Line("z" * 500)], width, height)
    visible = [line for part in written.split("\n") for line in part.split("\r")]
    assert max(len(_without_controls(line)) for line in visible) <= width


def _without_controls(line: str) -> str:
    import re

    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line)


def test_what_the_rows_show_is_not_said_again() -> None:
    written = drawn(a_view(NodeStatus.RUNNING), [Line("started on w", "n0", routine=True), Line("boom", "n0")])
    assert "started on w" not in written
    assert "n0 boom" in written


def test_markup_in_a_log_line_is_text() -> None:
    assert "[bold]x[/nope]" in drawn(a_view(), [Line("[bold]x[/nope]", "n0", "stdout")])
