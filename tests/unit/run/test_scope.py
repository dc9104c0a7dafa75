"""An event reads a few rows, not the run."""

from pupload.flow.plan import NodeID, Reason
from pupload.run.events import (
    NodeClaimed,
    NodeFailed,
    NodeReleased,
    RunCancelled,
    RunCreated,
    RunExhausted,
    RunTimedOut,
    UploadReceived,
)
from pupload.run.scope import Scope, scope_of
from tests.support.runs import DIAMOND, a_plan, a_success, an_artifact, at, chain, fan

N1 = NodeID("n1")


def nodes(*ids: str) -> frozenset[NodeID]:
    """A set of node ids."""
    return frozenset(NodeID(node) for node in ids)


def just(*ids: str) -> Scope:
    """These nodes and no others."""
    return Scope(nodes(*ids), stoppable=False)


def a_failure(node: str) -> NodeFailed:
    """The node's first attempt has failed."""
    return NodeFailed(at(1), NodeID(node), 1, Reason.EXIT, "exit 3")


def test_the_creation_concerns_every_node() -> None:
    assert scope_of(a_plan(*chain(3)), RunCreated(at(0))) == just("n0", "n1", "n2")


def test_an_upload_concerns_its_readers() -> None:
    plan = a_plan("a: x -> u", "b: x, y -> v", "c: y -> w")
    assert scope_of(plan, UploadReceived(at(1), an_artifact("x"))) == just("a", "b")


def test_a_claim_and_a_release_concern_their_node_alone() -> None:
    plan = a_plan(*chain(9))
    assert scope_of(plan, NodeClaimed(at(1), N1, 1, "worker-1")) == just("n1")
    assert scope_of(plan, NodeReleased(at(1), N1, 1)) == just("n1")


def test_a_success_concerns_its_node_and_its_readers_not_theirs() -> None:
    assert scope_of(a_plan(*chain(9)), a_success(a_plan(*chain(9)), "n1", 1)) == just("n1", "n2")
    plan = a_plan(*fan(4))
    assert scope_of(plan, a_success(plan, "p2", 1)) == just("p2", "join")


def test_a_success_that_leaves_something_out_concerns_all_that_may_be_skipped_for_it() -> None:
    plan = a_plan("a: in -> x?", "b: x -> y", "c: y -> z", "d: in -> w")
    assert scope_of(plan, a_success(plan, "a", 1, absent=["x"])) == just("a", "b", "c")


def test_a_failure_under_fail_fast_concerns_whatever_is_to_be_stopped() -> None:
    assert scope_of(a_plan(*DIAMOND), a_failure("left")) == Scope(nodes("left"), stoppable=True)


def test_a_failure_without_fail_fast_concerns_everything_downstream() -> None:
    assert scope_of(a_plan(*DIAMOND, fail_fast=False), a_failure("left")) == just("left", "bottom")


def test_an_early_end_concerns_whatever_is_to_be_stopped() -> None:
    plan = a_plan(*chain(3))
    assert scope_of(plan, RunCancelled(at(1))) == Scope(stoppable=True)
    assert scope_of(plan, RunTimedOut(at(1))) == Scope(stoppable=True)
    assert scope_of(plan, RunExhausted(at(1), "CREDITS_EXHAUSTED", "")) == Scope(stoppable=True)
