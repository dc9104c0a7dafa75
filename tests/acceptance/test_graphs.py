"""Shapes of flows: chains, fans, diamonds, several ports, optional ones."""

import pytest

from tests.support.shell_steps import a_chain, a_fan, a_request, a_source, a_step
from tests.support.visitor import Visitor, statuses

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]

MAYBE = {"Outputs": [{"Name": "main"}, {"Name": "extra", "Required": False}]}
"""A def's ports, of which the second may stay without a file."""


def test_a_chain_of_ten_hands_its_file_on(visitor: Visitor) -> None:
    run = visitor.complete(a_chain(10), e0=b"handed on")
    assert visitor.artifact(run["ID"], "e10") == b"handed on"
    starts = [state["StartedAt"] for state in run["NodeState"].values()]
    assert starts == sorted(starts)
    assert set(run["Artifacts"]) == {f"e{i}" for i in range(11)}


def test_a_fan_of_twenty_is_joined(visitor: Visitor) -> None:
    run = visitor.complete(a_fan(20), **{"in": b"part "})
    assert visitor.artifact(run["ID"], "out").decode().split() == [word for i in range(20) for word in ("part", str(i))]
    assert {state["Attempt"] for state in run["NodeState"].values()} == {1}
    queued = [frame.node for frame in visitor.events(run["ID"], "?types=node_queued")[:-1]]
    assert queued == [*(f"n{i}" for i in range(20)), "join"]
    assert run["Counts"] == {"Total": 21, "Executed": 21, "Running": 0, "Remaining": 0, "Skipped": 0}


def test_a_diamond_joins_what_it_split(visitor: Visitor) -> None:
    run = visitor.complete(
        a_request(
            a_step("split", 'head -c 2 "$INPUT_IN" > "$OUTPUT_L"; tail -c 2 "$INPUT_IN" > "$OUTPUT_R"',
                   writes={"l": "left", "r": "right"}),
            a_step("upper", 'tr a-z A-Z < "$INPUT_IN" > "$OUTPUT_OUT"', reads={"in": "left"}, writes={"out": "big"}),
            a_step("twice", 'cat "$INPUT_IN" "$INPUT_IN" > "$OUTPUT_OUT"',
                   reads={"in": "right"}, writes={"out": "pair"}),
            a_step("join", 'cat "$INPUT_A" "$INPUT_B" "$INPUT_C" > "$OUTPUT_OUT"',
                   reads={"a": "big", "b": "pair", "c": "in"}),
        ),
        **{"in": b"abcd"},
    )  # fmt: skip
    assert visitor.artifact(run["ID"], "out") == b"ABcdcdabcd"


def test_one_edge_may_feed_two_ports_of_a_node(visitor: Visitor) -> None:
    both = a_step(script='cat "$INPUT_A" "$INPUT_B" > "$OUTPUT_OUT"', reads={"a": "in", "b": "in"})
    run = visitor.complete(a_request(both), **{"in": b"x"})
    assert visitor.artifact(run["ID"], "out") == b"xx"


def test_hundreds_of_ports_are_handed_in_and_out(visitor: Visitor) -> None:
    number = 200
    ports = {f"p{i}": f"e{i}" for i in range(number)}
    run = visitor.complete(
        a_request(
            a_source("scatter", f"for i in $(seq 0 {number - 1}); do echo $i > /pup/out/p$i; done", writes=ports),
            a_step("gather", 'cat /pup/in/* | sort -n > "$OUTPUT_OUT"', reads=ports),
        )
    )
    assert visitor.artifact(run["ID"], "out").decode().split() == [str(i) for i in range(number)]


def test_names_of_every_allowed_kind_are_taken(visitor: Visitor) -> None:
    long = a_step("n" * 63, writes={"out": "e" * 128})
    dotted = a_step(
        "a.b_c-d", 'cat "$INPUT_P_1_X" > "$OUTPUT_O_U_T"', reads={"p.1-x": "e" * 128}, writes={"o.u-t": "out"}
    )
    wells = [{"Edge": "out", "Key": "k/${FLOW_NAME}/${RUN_ID}"}]
    run = visitor.complete(a_request(long, dotted, Name="flöw \U0001f600", DataWells=wells), **{"in": b"abc"})
    assert visitor.artifact(run["ID"], "out") == b"abc"


def test_a_flow_without_inputs_starts_at_once(visitor: Visitor) -> None:
    run = visitor.submit(a_request(a_source("source", 'echo made > "$OUTPUT_OUT"')))
    assert (run["Status"], run["WaitingURLs"]) == ("RUNNING", [])
    visitor.ended(run["ID"])
    assert visitor.artifact(run["ID"], "out") == b"made\n"


def test_nodes_that_need_nothing_of_each_other_run_at_once(visitor: Visitor) -> None:
    both = [a_source(name, "sleep 60", writes={}) for name in ("left", "right")]
    run_id = visitor.start(a_request(*both))
    visitor.until(run_id, lambda run: set(statuses(run).values()) == {"RUNNING"})
    visitor.cancel(run_id)
    assert visitor.ended(run_id)["Status"] == "STOPPED"


def test_a_consumer_with_an_optional_input_runs_without_an_absent_output(visitor: Visitor) -> None:
    inputs = [{"Name": "main"}, {"Name": "extra", "Required": False}]
    run = visitor.complete(
        a_request(
            a_source("maybe", 'echo main > "$OUTPUT_MAIN"', writes={"main": "main", "extra": "extra"}, **MAYBE),
            a_step("use", 'echo "${INPUT_EXTRA:-none}" > "$OUTPUT_OUT"', reads={"main": "main", "extra": "extra"},
                   Inputs=inputs, Outputs=[{"Name": "out"}]),
        )
    )  # fmt: skip
    assert set(run["Artifacts"]) == {"main", "out"}
    assert visitor.artifact(run["ID"], "out") == b"none\n"


def test_a_consumer_with_a_required_input_is_skipped_with_all_after_it(visitor: Visitor) -> None:
    run = visitor.complete(
        a_request(
            a_source("maybe", 'echo main > "$OUTPUT_MAIN"', writes={"main": "main", "extra": "extra"}, **MAYBE),
            a_step("use", reads={"in": "extra"}, writes={"out": "used"}),
            a_step("after", reads={"in": "used"}, writes={"out": "last"}),
        )
    )
    assert statuses(run) == {"maybe": "COMPLETE", "use": "SKIPPED", "after": "SKIPPED"}
    assert run["Counts"]["Skipped"] == 2
    assert set(run["Artifacts"]) == {"main"}


def test_an_optional_output_that_is_there_is_an_artifact(visitor: Visitor) -> None:
    both = 'echo main > "$OUTPUT_MAIN"; echo extra > "$OUTPUT_EXTRA"'
    run = visitor.complete(a_request(a_source("maybe", both, writes={"main": "main", "extra": "extra"}, **MAYBE)))
    assert set(run["Artifacts"]) == {"main", "extra"}


def test_progress_only_grows_and_is_100_at_the_end_alone(visitor: Visitor) -> None:
    seen: list[tuple[str, float]] = []
    run_id = visitor.start(a_chain(4), e0=b"abc")

    def ended(run: dict[str, object]) -> bool:
        assert isinstance(run["Progress"], float)
        seen.append((str(run["Status"]), run["Progress"]))
        return run["Status"] == "COMPLETE"

    visitor.until(run_id, ended)
    values = [value for _, value in seen]
    assert values == sorted(values)
    assert len(set(values)) > 2, seen
    assert [(status, value) for status, value in seen if value == 100] == [("COMPLETE", 100)]


def test_a_node_tells_its_own_progress(visitor: Visitor) -> None:
    script = 'echo "::progress 37%"; sleep 1; echo "::progress 3/4"; sleep 1; cat "$INPUT_IN" > "$OUTPUT_OUT"'
    run_id = visitor.start(a_request(a_step(script=script)), **{"in": b"abc"})
    told = [frame.data["Data"]["Progress"] for frame in visitor.events(run_id, "?types=node_progress")[:-1]]
    assert told == [37, 75]
    assert visitor.run(run_id)["NodeState"]["copy"]["Progress"] == 100
