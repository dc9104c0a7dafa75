"""Overrides, parameters, some nodes only, and replays."""

import pytest

from pupload.client import Client, Override, Unprocessable
from tests.acceptance.sdk.conftest import marks, published
from tests.support.shell_steps import a_request, a_source, a_step

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]


def test_one_run_is_different(client: Client) -> None:
    flow = published(client, "sdk-overrides", *marks(2))
    result = client.run(flow, {"e0": "a"}, overrides={"n0": Override(flags={"mark": "-"}), "n1.mark": "*"})
    assert (result.values, result.run.overrides["n1"]) == ({"e2": "a-*"}, {"Flags": {"mark": "*"}})
    with pytest.raises(Unprocessable) as raised:
        client.run(flow, {"e0": "a"}, overrides={"nobody.mark": "?"})
    assert raised.value.code == "INVALID_OVERRIDE"


def test_parameters_are_given_by_name(client: Client) -> None:
    flags = {"Flags": [{"Name": "word", "Value": "${PARAM.word}"}]}
    say = a_source("say", 'printf "%s" "$FLAG_WORD" > "$OUTPUT_OUT"', node=flags)
    request = a_request(say, Parameters=[{"Name": "word", "Required": True}])
    assert client.run(request, parameters={"word": "spoken"}).values == {"out": "spoken"}


def test_only_some_nodes_run(client: Client) -> None:
    run = client.run(a_request(*marks(3)), {"e0": "a"}, only_nodes=["n1"]).run
    assert {node: state.status for node, state in run.node_state.items()} == {
        "n0": "COMPLETE",
        "n1": "COMPLETE",
        "n2": "SKIPPED",
    }


def test_a_run_is_run_again_from_where_it_failed(client: Client) -> None:
    picky = 'test "$FLAG_OK" = yes && cat "$INPUT_IN" > "$OUTPUT_OUT"'
    steps = [*marks(1), a_step("picky", picky, reads={"in": "e1"}, MaxAttempts=1)]
    failed = client.run(a_request(*steps), {"e0": "a"})
    assert failed.status == "ERROR"
    again = client.replay(failed.id, failed_only=True, overrides={"picky.OK": "yes"}).wait(90).raise_for_status()
    assert (again.values, again.run.replay_of) == ({"out": "a+"}, failed.id)
    assert again.run.node_state["n0"].attempt == 0
    whole = client.replay(again.id, {"e0": "b"}, from_node="picky").wait(90)
    assert whole.values == {"out": "b+"}
