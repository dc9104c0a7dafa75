"""New runs that are followed, whole or by their nodes."""

import pytest

from pupload.client import Client
from tests.acceptance.sdk.conftest import marks
from tests.support.shell_steps import a_request

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]


def test_a_new_run_tells_its_whole_story(client: Client) -> None:
    stream = client.stream(a_request(*marks(2)), {"e0": "a"})
    events = list(stream)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert (events[0].type, events[-1].type) == ("run_started", "run_completed")
    assert {event.run_id for event in events} == {stream.run_id}
    assert stream.result().values == {"e2": "a++"}
    late = list(client.events(stream.run_id, after=events[-3].seq))
    assert [event.seq for event in late] == [event.seq for event in events[-2:]]


def test_steps_are_one_for_each_node(client: Client) -> None:
    assert [event.node_id for event in client.steps(a_request(*marks(3)), {"e0": "a"})] == ["n0", "n1", "n2"]


def test_log_lines_come_with_a_followed_node(client: Client) -> None:
    run = client.run(a_request(*marks(1)), {"e0": "a"}, trace=True)
    assert list(client.logs(run.id, "n0", follow=True)) == list(client.logs(run.id, "n0"))
