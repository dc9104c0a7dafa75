"""Step by step through a flow: the client holds the place and the outputs, the server nothing."""

from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import SETTINGS
from tests.support.shell_steps import a_request, a_step
from tests.support.system import a_system
from tests.support.visitor import Frame, Json, Visitor, frames_of

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

ADD = 'cat "$INPUT_IN" > "$OUTPUT_OUT"; printf "$FLAG_MARK" >> "$OUTPUT_OUT"'


def a_marking_chain(mark: str = "+") -> Json:
    """Three nodes in a row, each adding its mark to what it reads."""
    flags = {"Flags": [{"Name": "mark", "Value": mark}]}
    steps = [a_step(f"n{i}", ADD, reads={"in": f"e{i}"}, writes={"out": f"e{i + 1}"}, node=flags) for i in range(3)]
    return a_request(*steps, Name="")


def publish(visitor: Visitor, flow: str, draft: Json) -> None:
    visitor.ask("PUT", flow, json=draft)
    visitor.post(f"{flow}/versions", status=201)


def step(visitor: Visitor, flow: str, body: Json) -> list[Frame]:
    """The events of one step."""
    with visitor.ask("POST", f"{flow}/runs/step", json=body, stream=True) as answer:
        visitor.made.append(answer.headers["X-Run-ID"])
        return list(frames_of(answer))


def following(frames: list[Frame], **members: Any) -> Json:
    """The body of the call after the step of these events."""
    assert frames[-1].event == "step_paused", frames[-1]
    state = frames[-1].data["Data"]
    held = {name: state[name] for name in ("RunID", "StepIndex", "Definition", "AccumulatedOutputs")}
    return held | members


def started(frames: list[Frame]) -> list[str]:
    return [frame.node for frame in frames if frame.event == "node_started"]


def refused(visitor: Visitor, flow: str, body: Json, status: int) -> str:
    return str(visitor.post(f"{flow}/runs/step", body, status=status)["Error"]["Code"])


@pytest.fixture
def flow(visitor: Visitor, request: pytest.FixtureRequest) -> str:
    """The path of a published flow that no other test has."""
    path = f"/api/v1/flows/{request.node.name}"
    publish(visitor, path, a_marking_chain())
    return path


def test_a_loop_of_three_steps_with_edits(visitor: Visitor, flow: str) -> None:
    first = step(visitor, flow, {"Message": "a"})
    assert started(first) == ["n0"]
    assert first[-1].data["Data"]["NextNode"] == "n1"
    root = first[-1].data["Data"]["RunID"]
    edited = step(visitor, flow, following(first, InputOverrides={"e1": "b"}))
    assert started(edited) == ["n1"]
    assert visitor.artifact(edited[-1].data["RunID"], "e2") == b"b+"
    assert visitor.artifact(root, "e1") == b"a+"
    again = step(visitor, flow, following(first, Overrides={"n1": {"Flags": {"mark": "-"}}}))
    last = step(visitor, flow, following(again))
    assert (started(last), last[-1].event) == (["n2"], "run_completed")
    run = visitor.run(last[-1].data["RunID"])
    assert visitor.artifact(run["ID"], "e3") == b"a+-+"
    assert (run["RootRunID"], run["Progress"]) == (root, 100.0)


def test_all_that_remains_runs_in_one_stream(visitor: Visitor, flow: str) -> None:
    rest = step(visitor, flow, following(step(visitor, flow, {"Message": "a"}), RunRemaining=True))
    assert (started(rest), rest[-1].event) == (["n1", "n2"], "run_completed")
    assert visitor.artifact(rest[-1].data["RunID"], "e3") == b"a+++"


def test_what_is_no_place_in_the_loop_is_refused(visitor: Visitor, flow: str) -> None:
    first = following(step(visitor, flow, {"Message": "a"}))
    assert refused(visitor, flow, first | {"StepIndex": 7}, 400) == "INVALID_STEP_INDEX"
    assert refused(visitor, flow, first | {"AccumulatedOutputs": {}}, 400) == "STEP_OUTPUTS_MISSING"
    assert refused(visitor, flow, first | {"Version": "draft"}, 400) == "DRAFT_NOT_STEPPABLE"


def test_outputs_that_the_server_did_not_give_are_refused(visitor: Visitor, flow: str) -> None:
    first, other = (following(step(visitor, flow, {"Message": "a"})) for _ in range(2))
    foreign = first | {"AccumulatedOutputs": other["AccumulatedOutputs"]}
    assert refused(visitor, flow, foreign, 403) == "REFERENCE_OF_ANOTHER_RUN"
    reference = first["AccumulatedOutputs"]["n0"]["e1"]
    edited = {**first["AccumulatedOutputs"], "n0": {"e1": reference.swapcase()}}
    assert refused(visitor, flow, first | {"AccumulatedOutputs": edited}, 403) == "BAD_REFERENCE"
    long = {**first["AccumulatedOutputs"], "n0": {"e1": reference * 50}}
    assert refused(visitor, flow, first | {"AccumulatedOutputs": long}, 413) == "TOO_LARGE"


def test_a_flow_published_anew_in_the_middle_is_told_of(visitor: Visitor, flow: str) -> None:
    first = step(visitor, flow, {"Message": "a"})
    publish(visitor, flow, a_marking_chain("*"))
    assert refused(visitor, flow, following(first), 409) == "STALE_TREE"
    pinned = step(visitor, flow, following(first, Version="1"))
    assert visitor.artifact(pinned[-1].data["RunID"], "e2") == b"a++"


def test_the_loop_goes_on_after_a_restart_of_everything(place: Path, busybox: str) -> None:
    flow = "/api/v1/flows/chain"
    with a_system(place / "data", SETTINGS) as system, Visitor(system.url) as visitor:
        publish(visitor, flow, a_marking_chain())
        first = step(visitor, flow, {"Message": "a"})
        system.stop()
        system.start()
        second = step(visitor, flow, following(first))
        assert visitor.artifact(second[-1].data["RunID"], "e2") == b"a++"
