"""Which nodes run when only some are asked for."""

import pytest

from pupload.errors import InvalidRequest
from pupload.flow.partial import needed_for
from tests.support.runs import DIAMOND, a_plan, chain


def test_a_node_brings_what_it_needs_and_nothing_that_needs_it() -> None:
    assert needed_for(a_plan(*chain(4)), ["n1"]) == {"n0", "n1"}


def test_a_branch_of_a_diamond_leaves_out_the_other() -> None:
    assert needed_for(a_plan(*DIAMOND), ["left"]) == {"top", "left"}
    assert needed_for(a_plan(*DIAMOND), ["bottom"]) == {"top", "left", "right", "bottom"}


def test_several_are_asked_for_together() -> None:
    plan = a_plan("a: one -> x", "b: two -> y", "c: three -> z")
    assert needed_for(plan, ["a", "c", "a"]) == {"a", "c"}


def test_what_could_be_done_without_is_made_all_the_same() -> None:
    assert needed_for(a_plan("a: one -> x", "b: x? -> y"), ["b"]) == {"a", "b"}


def test_an_unknown_node_is_named_with_the_nearest() -> None:
    with pytest.raises(InvalidRequest, match=r"no node 'n9'; the nearest is 'n\d'") as refused:
        needed_for(a_plan(*chain(3)), ["n0", "n9"])
    assert refused.value.code == "NODE_NOT_FOUND"
