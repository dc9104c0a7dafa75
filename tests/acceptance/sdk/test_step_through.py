"""A flow taken step by step, with changes between the steps."""

import pytest

from pupload.client import Client, StaleTree
from tests.acceptance.sdk.conftest import marks, published

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]


def test_a_loop_of_steps_with_edits(client: Client) -> None:
    flow = published(client, "sdk-steps", *marks(3))
    loop = client.step_through(flow, {"e0": "a"})
    first = next(loop)
    assert (first.ran, first.next_node) == (["n0"], "n1")
    loop.replace("e1", "b")
    loop.override("n1", flags={"mark": "-"})
    next(loop)
    loop.override("n1", flags={"mark": "*"})
    loop.repeat()
    assert next(loop).ran == ["n1"]
    assert [step.ran for step in loop] == [["n2"]]
    assert loop.result().values == {"e3": "b*+"}


def test_all_that_remains_runs_at_once(client: Client) -> None:
    loop = client.step_through(published(client, "sdk-remaining", *marks(3)), {"e0": "a"})
    next(loop)
    loop.run_remaining()
    assert [step.ran for step in loop] == [["n1", "n2"]]
    assert loop.result().values == {"e3": "a+++"}


def test_a_flow_that_is_published_anew_meanwhile_is_told_of(client: Client) -> None:
    flow = published(client, "sdk-stale", *marks(2))
    loop = client.step_through(flow, {"e0": "a"})
    next(loop)
    published(client, flow, *marks(3))
    with pytest.raises(StaleTree):
        next(loop)
