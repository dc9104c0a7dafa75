"""Which failures are tried again, how often, after how long, and on whose budget."""

import pytest

from pupload.flow.plan import NodeID, Reason, Retry
from pupload.run.commands import DispatchNode, RecordType
from pupload.run.retry import INFRASTRUCTURE, backoff_s
from pupload.run.state import NodeStatus, RunID, RunStatus, new_run
from tests.support.runs import Story, a_plan, a_started_story, at, chain, dispatched

USERS = sorted(Retry().on)
NEVER = [Reason.TYPE, Reason.POLICY, Reason.CANCELLED]


def a_story_that_retries(retry: Retry, max_attempts: int = 3) -> Story:
    """One running node with this policy."""
    story = Story(new_run(RunID("run_1"), a_plan(*chain(1), retry=retry, max_attempts=max_attempts)))
    story.create("in")
    story.claim("n0")
    return story


@pytest.mark.parametrize(
    ("failures", "jitter", "seconds"),
    [(1, 0.5, 1.0), (2, 0.5, 2.0), (3, 0.5, 4.0), (3, 0.25, 2.0), (1, 0.0, 0.0), (9, 0.5, 180.0), (5000, 0.5, 180.0)],
)
def test_the_wait_doubles_with_each_failure_up_to_its_cap_times_the_jitter(
    failures: int, jitter: float, seconds: float
) -> None:
    assert backoff_s(Retry(delay_s=2, max_delay_s=360), failures, jitter) == seconds


def test_a_failure_is_tried_again_after_its_back_off() -> None:
    story = a_story_that_retries(Retry(delay_s=10, max_delay_s=360))
    step = story.fail("n0", jitter=0.25)
    assert step.commands == (DispatchNode(NodeID("n0"), 2, 2.5),)
    node = story.node("n0")
    assert (node.status, node.attempt, node.charged, node.restarts) == (NodeStatus.RETRYING, 1, 1, 0)
    assert (node.error, node.reason, node.exit_code, node.finished_at) == ("exit 3", Reason.EXIT, 3, at(2))
    assert story.status() is RunStatus.RUNNING
    assert [(record.type, record.node, record.data) for record in step.records] == [
        (
            RecordType.NODE_RETRYING,
            "n0",
            {"Attempt": 1, "Reason": "exit", "Message": "exit 3", "ExitCode": 3, "DelayS": 2.5},
        )
    ]


def test_the_second_wait_is_twice_the_first() -> None:
    story = a_story_that_retries(Retry(delay_s=10, max_delay_s=360))
    story.fail("n0", Reason.LOST)
    story.claim("n0")
    assert story.fail("n0").commands == (DispatchNode(NodeID("n0"), 3, 10.0),)


def test_the_next_try_forgets_the_end_of_the_last_and_keeps_its_story() -> None:
    story = a_story_that_retries(Retry())
    story.fail("n0")
    story.claim("n0")
    node = story.node("n0")
    assert (node.status, node.attempt, node.started_at) == (NodeStatus.RUNNING, 2, at(3))
    assert (node.exit_code, node.finished_at) == (None, None)
    assert (node.error, node.charged) == ("exit 3", 1)


def test_a_success_after_failures_has_no_error() -> None:
    story = a_story_that_retries(Retry())
    story.fail("n0")
    story.claim("n0")
    story.succeed("n0")
    node = story.node("n0")
    assert (node.status, node.attempt, node.error, node.reason) == (NodeStatus.COMPLETE, 2, "", None)
    assert story.status() is RunStatus.COMPLETE


@pytest.mark.parametrize("reason", USERS)
@pytest.mark.parametrize("max_attempts", [1, 2, 3])
def test_a_node_that_always_fails_is_tried_exactly_max_attempts_times(reason: Reason, max_attempts: int) -> None:
    story = a_story_that_retries(Retry(), max_attempts)
    for _ in range(max_attempts - 1):
        story.fail("n0", reason)
        story.claim("n0")
    story.fail("n0", reason)
    node = story.node("n0")
    assert (node.status, node.attempt, node.charged) == (NodeStatus.ERROR, max_attempts, max_attempts)


@pytest.mark.parametrize("reason", sorted(INFRASTRUCTURE))
def test_a_node_whose_workers_always_die_ends_when_its_restarts_are_used_up(reason: Reason) -> None:
    story = a_started_story(*chain(1), max_attempts=1, max_restarts=2)
    for _ in range(2):
        story.claim("n0")
        assert dispatched(story.fail("n0", reason)) != []
    story.claim("n0")
    story.fail("n0", reason)
    node = story.node("n0")
    assert (node.status, node.attempt, node.charged, node.restarts) == (NodeStatus.ERROR, 3, 0, 3)


def test_lost_workers_do_not_eat_the_tries_of_the_user() -> None:
    story = a_started_story(*chain(1), max_attempts=2, max_restarts=3)
    for reason in (Reason.LOST, Reason.EXIT, Reason.LOST, Reason.INFRA):
        story.claim("n0")
        story.fail("n0", reason)
        assert story.node("n0").status is NodeStatus.RETRYING
    story.claim("n0")
    story.fail("n0", Reason.EXIT)
    node = story.node("n0")
    assert (node.status, node.attempt, node.charged, node.restarts) == (NodeStatus.ERROR, 5, 2, 3)


def test_a_lost_worker_is_another_try_whatever_the_policy_lists() -> None:
    story = a_story_that_retries(Retry(on=frozenset()))
    assert dispatched(story.fail("n0", Reason.LOST)) == [("n0", 2)]


def test_a_final_failure_is_not_tried_again() -> None:
    story = a_story_that_retries(Retry())
    step = story.fail("n0", final=True)
    assert dispatched(step) == []
    assert story.node("n0").status is NodeStatus.ERROR


def test_a_reason_that_the_policy_does_not_list_is_not_tried_again() -> None:
    story = a_story_that_retries(Retry(on=frozenset({Reason.OOM})))
    story.fail("n0", Reason.EXIT)
    assert story.node("n0").status is NodeStatus.ERROR


@pytest.mark.parametrize("reason", NEVER)
def test_what_another_try_cannot_help_is_never_tried_again_even_if_the_policy_lists_it(reason: Reason) -> None:
    story = a_story_that_retries(Retry(on=frozenset(Reason)))
    story.fail("n0", reason)
    assert story.node("n0").status is NodeStatus.ERROR


def test_a_released_attempt_charges_nobody_and_is_ready_again_at_once() -> None:
    story = a_started_story(*chain(1), max_attempts=1, max_restarts=0)
    story.claim("n0")
    step = story.release("n0")
    node = story.node("n0")
    assert (node.status, node.attempt, node.charged, node.restarts) == (NodeStatus.READY, 1, 0, 0)
    assert node.finished_at == at(2)
    assert step.commands == (DispatchNode(NodeID("n0"), 2, 0.0),)
    assert [(record.type, record.node, record.data) for record in step.records] == [
        (RecordType.NODE_QUEUED, "n0", {"Attempt": 2})
    ]


def test_a_failed_try_starts_no_reader() -> None:
    story = a_started_story(*chain(2))
    story.claim("n0")
    step = story.fail("n0")
    assert [node.id for node in step.changed] == ["n0"]
    assert step.artifacts == ()
