"""Whatever is left of whatever run: what a replay keeps is enough for what it runs, and the replay ends."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from pupload.flow.plan import NodeID, Plan
from pupload.run.events import RunCreated
from pupload.run.replay import Earlier, kept_edges, kept_nodes, to_run_again
from pupload.run.scope import descendants
from pupload.run.state import Artifact, Node, NodeStatus, RunID, new_run
from pupload.run.transition import transition
from tests.properties.test_transition import plans
from tests.support.runs import at

LEFT = st.sampled_from([NodeStatus.COMPLETE] * 4 + [NodeStatus.ERROR, NodeStatus.STOPPED, NodeStatus.IDLE])


@st.composite
def leftovers(draw: st.DrawFn) -> tuple[Plan, Earlier]:
    """A plan, and a run of it that ended somehow, some of its objects gone by now."""
    plan = draw(plans())
    statuses, written = dict[NodeID, NodeStatus](), {each.name for each in plan.edges.values() if each.producer is None}
    for node in plan.nodes.values():
        starved = any(binding.required and binding.edge not in written for binding in node.inputs)
        statuses[node.id] = NodeStatus.SKIPPED if starved else draw(LEFT)
        if statuses[node.id] is NodeStatus.COMPLETE:
            written |= {each.edge for each in node.outputs if each.required or draw(st.booleans())}
    lost = draw(st.sets(st.sampled_from(sorted(written)))) if written else set()
    return plan, Earlier(statuses, frozenset(written), frozenset(written - lost))


@st.composite
def replays(draw: st.DrawFn) -> tuple[Plan, Earlier, frozenset[NodeID]]:
    """What is left of a run, and where its replay is to begin."""
    plan, earlier = draw(leftovers())
    roots = draw(st.sets(st.sampled_from(sorted(plan.nodes)), max_size=2))
    return plan, earlier, to_run_again(plan, earlier, roots)


@given(replays())
def test_every_input_of_a_node_that_runs_is_there_or_will_be_told_of(
    replay: tuple[Plan, Earlier, frozenset[NodeID]],
) -> None:
    plan, earlier, again = replay
    kept = kept_nodes(plan, earlier, again)
    edges = kept_edges(plan, earlier, kept, ())
    for node in plan.nodes.values():
        for binding in node.inputs if node.id not in kept else ():
            edge = plan.edges[binding.edge]
            left_out = edge.name not in earlier.named and edge.producer in kept
            assert edge.name in edges or edge.producer not in kept or left_out


@given(replays())
def test_nothing_is_kept_that_is_to_run_again_or_was_not_through(
    replay: tuple[Plan, Earlier, frozenset[NodeID]],
) -> None:
    plan, earlier, again = replay
    kept = kept_nodes(plan, earlier, again)
    assert not kept & again
    assert all(earlier.statuses[node] is NodeStatus.COMPLETE for node in kept)


@given(replays())
def test_what_hangs_on_a_node_that_is_to_run_again_does_too(replay: tuple[Plan, Earlier, frozenset[NodeID]]) -> None:
    plan, _, again = replay
    assert all(descendants(plan, node) <= again for node in again)


@given(plans())
def test_nothing_runs_of_a_run_that_was_through_and_has_all_its_objects(plan: Plan) -> None:
    through = dict.fromkeys(plan.nodes, NodeStatus.COMPLETE)
    whole = Earlier(through, frozenset(plan.edges), frozenset(plan.edges))
    assert kept_nodes(plan, whole, to_run_again(plan, whole, ())) == plan.nodes.keys()


@given(replays())
def test_a_replay_ends_when_what_it_runs_succeeds(replay: tuple[Plan, Earlier, frozenset[NodeID]]) -> None:
    plan, earlier, again = replay
    kept = kept_nodes(plan, earlier, again)
    edges = kept_edges(plan, earlier, kept, ()) | {each.name for each in plan.edges.values() if each.producer is None}
    present = tuple(Artifact(edge, "default", f"run_0/{edge}/0", 1, origin="run_0") for edge in sorted(edges))
    run = transition(new_run(RunID("run_1"), plan), RunCreated(at(), present, kept)).run
    idle = [node for node in run.nodes.values() if node.status is NodeStatus.IDLE]
    assert all(_waits_for_one_that_moves(plan, run.nodes, node) for node in idle)


def _waits_for_one_that_moves(plan: Plan, nodes: Mapping[NodeID, Node], node: Node) -> bool:
    producers = (plan.edges[binding.edge].producer for binding in plan.nodes[node.id].inputs)
    return any(
        nodes[producer].status in {NodeStatus.IDLE, NodeStatus.READY} for producer in producers if producer is not None
    )
