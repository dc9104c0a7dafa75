"""When a failed attempt is tried again. PURE."""

from pupload.flow.plan import NodePlan, Reason, Retry
from pupload.run.events import NodeFailed
from pupload.run.state import Node

INFRASTRUCTURE = frozenset({Reason.LOST, Reason.INFRA})
"""Failures that are not the node's: they use a budget of their own."""

NEVER_RETRIED = frozenset({Reason.TYPE, Reason.POLICY, Reason.CANCELLED})
"""Failures that another try cannot help, whatever the node's own policy lists."""


def backoff_s(retry: Retry, failures: int, jitter: float) -> float:
    """Seconds to wait after the `failures`-th failure: exponential, capped, with full jitter.

    >>> backoff_s(Retry(delay_s=1, max_delay_s=360), failures=3, jitter=0.5)
    2.0
    """
    return min(retry.max_delay_s, retry.delay_s * 2.0 ** min(failures - 1, 60)) * jitter


def charge(node: Node, reason: Reason) -> tuple[int, int]:
    """(`charged`, `restarts`) of the node after one more failure."""
    if reason in INFRASTRUCTURE:
        return node.charged, node.restarts + 1
    return node.charged + 1, node.restarts


def may_retry(plan: NodePlan, max_restarts: int, failed: NodeFailed, charged: int, restarts: int) -> bool:
    """True when the budget that the failure used has another try in it."""
    if failed.reason in INFRASTRUCTURE:
        return restarts <= max_restarts
    hopeless = failed.final or failed.reason in NEVER_RETRIED
    return not hopeless and failed.reason in plan.retry.on and charged < plan.max_attempts
