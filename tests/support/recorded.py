"""What must hold for the story of a run that ended well, however often everything died meanwhile."""

from collections import Counter

from tests.support.visitor import Json, Visitor


def assert_recorded_once(visitor: Visitor, run: Json, given: str = "e0") -> None:
    """Its events tell of one good end of each node, with nothing left out; `given` is the edge that no node wrote."""
    frames = visitor.events(run["ID"])
    assert [int(frame.id) for frame in frames] == list(range(1, len(frames) + 1))
    assert Counter(frame.node for frame in frames if frame.event == "node_completed") == Counter(list(run["NodeState"]))
    outputs = Counter(frame.data["Data"]["Edge"] for frame in frames if frame.event == "node_output")
    assert outputs == Counter(edge for edge in run["Artifacts"] if edge != given)
    assert [frame.event for frame in frames if frame.event.startswith("run_")] == ["run_started", "run_completed"]
    for node, state in run["NodeState"].items():
        attempts = [
            frame.data["Data"]["Attempt"] for frame in frames if frame.node == node and frame.event == "node_started"
        ]
        assert attempts == list(range(1, state["Attempt"] + 1))
