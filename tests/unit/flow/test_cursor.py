"""Where a loop of steps stands, by example."""

import pytest

from pupload.errors import CallerError
from pupload.flow.cursor import Behind, cursor_at, left_behind
from pupload.flow.plan import Edge, NodeID
from tests.support.runs import DIAMOND, a_plan, chain

pytestmark = pytest.mark.unit


def test_a_step_runs_one_node_and_names_the_next() -> None:
    cursor = cursor_at(a_plan(*chain(3)), 1, remaining=False)
    assert (cursor.behind, cursor.now, cursor.next) == (("n0",), ("n1",), "n2")


def test_the_last_step_has_no_next() -> None:
    assert cursor_at(a_plan(*chain(3)), 2, remaining=False).next is None


def test_all_that_remains_runs_at_once() -> None:
    cursor = cursor_at(a_plan(*chain(3)), 1, remaining=True)
    assert (cursor.now, cursor.next) == (("n1", "n2"), None)


@pytest.mark.parametrize("index", [-1, 3, 7])
def test_there_is_no_step_beyond_the_nodes(index: int) -> None:
    with pytest.raises(CallerError) as refused:
        cursor_at(a_plan(*chain(3)), index, remaining=False)
    assert refused.value.code == "INVALID_STEP_INDEX"


def test_what_a_later_node_reads_must_be_brought() -> None:
    plan = a_plan(*DIAMOND)
    cursor = cursor_at(plan, 3, remaining=False)
    assert left_behind(plan, cursor, {Edge("c")}).missing == (Edge("d"),)
    assert left_behind(plan, cursor, {Edge("c"), Edge("d")}) == Behind(frozenset(), ())


def test_a_later_node_than_this_one_counts_too() -> None:
    plan = a_plan("n0: in -> a", "n1: in -> b", "n2: a, b -> out")
    assert left_behind(plan, cursor_at(plan, 1, remaining=False), set()).missing == (Edge("a"),)


def test_what_an_optional_port_left_out_is_not_missing_and_skips_who_needs_it() -> None:
    plan = a_plan("n0: in -> a?", "n1: a -> b", "n2: b? -> out")
    behind = left_behind(plan, cursor_at(plan, 2, remaining=False), set())
    assert behind == Behind(frozenset({NodeID("n1")}), ())
