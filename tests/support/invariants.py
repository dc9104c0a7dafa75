"""What must hold for every story of a run, whatever happened in it; each function is one sentence about one story."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from pupload.flow.plan import Edge, NodeID, NodePlan, Plan
from pupload.run.commands import TERMINAL_RECORDS, DispatchNode, Record, RecordType, StopAttempt
from pupload.run.events import NodeAsked, NodeClaimed, NodeReleased, RunCancelled, RunCreated, UploadReceived
from pupload.run.scope import scope_of
from pupload.run.state import ENDED, STOPPABLE, TERMINAL, NodeStatus, Run, RunStatus, status_of, status_reason, tries
from pupload.run.transition import transition
from tests.support.runs import Scene, Story, at, distinct_inputs

T = TypeVar("T")


def counts_are_the_histogram_of_the_nodes(story: Story) -> None:
    """`counts` speaks of all nodes, without zeros."""
    for scene in story.scenes:
        assert dict(scene.step.run.counts) == dict(Counter(node.status for node in scene.step.run.nodes.values()))


def unresolved_is_what_an_idle_node_still_waits_for(story: Story) -> None:
    """Recomputed from the artifacts so far and from what the producers became."""
    for run, existing in _after_each(story):
        gone = _absent(run, existing) | _beginning(story).absent
        for node in run.nodes.values():
            if node.status is NodeStatus.IDLE:
                assert node.unresolved == len(distinct_inputs(run.plan, node.id) - existing - gone)
                assert node.unresolved > 0 or run.started_at is None


def no_node_begins_before_all_its_inputs_are_resolved(story: Story) -> None:
    """What has begun has every required object, and knows of each optional one whether it exists (I4)."""
    kept = _beginning(story).kept
    for run, existing in _after_each(story):
        resolved = existing | _absent(run, existing) | _beginning(story).absent
        for node in run.nodes.values():
            if node.id in kept:
                assert not node.attempt
            elif node.attempt or node.status in {NodeStatus.READY, NodeStatus.COMPLETE}:
                assert _required(run.plan.nodes[node.id]) <= existing
                assert distinct_inputs(run.plan, node.id) <= resolved


def only_a_node_that_misses_a_required_input_is_skipped(story: Story) -> None:
    """And every such node is, as soon as that is known; so is what was not asked for, and never what was kept."""
    beginning = _beginning(story)
    for run, existing in _after_each(story):
        gone = _absent(run, existing) | beginning.absent
        for node in run.nodes.values():
            misses = bool(_required(run.plan.nodes[node.id]) & gone) and node.id not in beginning.kept
            misses |= node.id in beginning.skipped and run.started_at is not None
            assert misses == (node.status is NodeStatus.SKIPPED)
            assert not (misses and node.attempt)


def every_dispatch_has_a_number_that_was_never_dispatched(story: Story) -> None:
    """And it is the number that the node's next claim must have."""
    seen: set[tuple[NodeID, int]] = set()
    for scene in story.scenes:
        for command in _of(scene.step.commands, DispatchNode):
            assert (command.node, command.attempt) not in seen
            assert command.attempt == scene.step.run.nodes[command.node].attempt + 1
            assert command.delay_s >= 0
            seen.add((command.node, command.attempt))


def whatever_can_be_claimed_has_been_dispatched(story: Story) -> None:
    """Nothing that is ready or to be retried is forgotten, and nothing else was queued in this step."""
    queued: dict[NodeID, int] = {}
    for scene in story.scenes:
        queued |= {command.node: command.attempt for command in _of(scene.step.commands, DispatchNode)}
        for node in scene.step.run.nodes.values():
            if node.status in {NodeStatus.READY, NodeStatus.RETRYING}:
                assert queued[node.id] == node.attempt + 1
        for command in _of(scene.step.commands, DispatchNode):
            assert scene.step.run.nodes[command.node].status in {NodeStatus.READY, NodeStatus.RETRYING}


def dispatches_of_a_step_are_in_topological_order(story: Story) -> None:
    """Ties by the place in the flow; so are the changed nodes and the attempts to stop."""
    for scene in story.scenes:
        _assert_ordered(story.plan, [command.node for command in _of(scene.step.commands, DispatchNode)])
        _assert_ordered(story.plan, [command.node for command in _of(scene.step.commands, StopAttempt)])
        _assert_ordered(story.plan, [node.id for node in scene.step.changed])


def attempts_have_no_gap_and_no_repeat(story: Story) -> None:
    """The accepted claims of a node are numbered from one (I3)."""
    for node_id, claims in _claims(story).items():
        assert claims == list(range(1, len(claims) + 1))
        assert story.run.nodes[node_id].attempt == len(claims)


def claims_stay_within_the_two_budgets(story: Story) -> None:
    """An attempt that was released or asked charges neither; infrastructure never eats the user's (I3)."""
    free = Counter(
        scene.event.node
        for scene in story.scenes
        if isinstance(scene.event, NodeReleased | NodeAsked) and not scene.step.stale
    )
    for node_id, claims in _claims(story).items():
        plan, node = story.plan.nodes[node_id], story.run.nodes[node_id]
        assert len(claims) - free[node_id] <= plan.max_attempts + story.plan.max_restarts
        assert node.charged <= plan.max_attempts
        assert node.restarts <= story.plan.max_restarts + 1


def rounds_are_the_questions_that_were_asked(story: Story) -> None:
    """And a user's count of tries leaves out what only went on after an answer."""
    asks: dict[NodeID, list[int]] = {node: [] for node in story.plan.nodes}
    for scene in story.scenes:
        if isinstance(scene.event, NodeAsked) and not scene.step.stale and scene.before.end is None:
            asks[scene.event.node].append(scene.event.attempt)
        for node in scene.step.run.nodes.values():
            asked = asks[node.id]
            assert (node.rounds, node.asked) == (len(asked), max(asked, default=0))
            gone_on = [attempt for attempt in asked if attempt < node.attempt]
            assert tries(node.attempt, node.rounds, node.asked) == node.attempt - len(gone_on)


def only_a_question_makes_a_node_wait(story: Story) -> None:
    """And its run is told to wait for uploads only where nothing waits for an answer."""
    for scene in story.scenes:
        for node in scene.step.run.nodes.values():
            assert node.status is not NodeStatus.WAITING or node.asked == node.attempt
        if any(record.type is RecordType.WAITING_UPLOADS for record in scene.step.records):
            assert status_reason(scene.step.run) == "uploads"


def a_stale_step_changes_and_commands_nothing(story: Story) -> None:
    """The very same run, and empty hands."""
    for scene in story.scenes:
        step = scene.step
        if step.stale:
            assert step.run is scene.before
            assert (step.changed, step.artifacts, step.commands, step.records) == ((), (), (), ())


def changed_are_exactly_the_nodes_that_differ(story: Story) -> None:
    """The rows to save are these and no others."""
    for scene in story.scenes:
        after = scene.step.run.nodes
        assert after.keys() == scene.before.nodes.keys()
        assert {node.id: node for node in scene.step.changed} == {
            node_id: node for node_id, node in after.items() if node != scene.before.nodes[node_id]
        }


def a_node_that_has_ended_never_changes_again(story: Story) -> None:
    """In nothing: not its status, not its error, not its times."""
    for scene in story.scenes:
        for node in scene.before.nodes.values():
            assert node.status not in ENDED or scene.step.run.nodes[node.id] == node
            assert (node.status in ENDED) <= (node.finished_at is not None)


def an_edge_has_at_most_one_artifact(story: Story) -> None:
    """And it is of the attempt that its producer completed with, or of none (I2). What was kept had its own."""
    kept = _beginning(story).kept
    artifacts = [artifact for scene in story.scenes for artifact in scene.step.artifacts]
    assert len({artifact.edge for artifact in artifacts}) == len(artifacts)
    for artifact in artifacts:
        assert artifact.node == story.plan.edges[artifact.edge].producer
        if artifact.node is not None:
            node = story.run.nodes[artifact.node]
            assert node.status is NodeStatus.COMPLETE
            assert node.attempt == artifact.attempt or node.id in kept


def nothing_starts_in_a_run_that_is_ending(story: Story) -> None:
    """And its end, once decided, stays."""
    for scene in story.scenes:
        if scene.step.run.end is not None:
            assert not list(_of(scene.step.commands, DispatchNode))
            assert not scene.step.artifacts or scene.before.end is None
        if scene.before.end is not None:
            assert scene.step.run.end is scene.before.end
            assert scene.step.run.failure == scene.before.failure


def an_early_end_tells_every_running_attempt_to_stop_once(story: Story) -> None:
    """Nothing else stops an attempt."""
    for scene in story.scenes:
        stopped = [(command.node, command.attempt) for command in _of(scene.step.commands, StopAttempt)]
        ends_here = scene.before.end is None and scene.step.run.end is not None
        running = [
            (node.id, node.attempt)
            for node in scene.step.run.nodes.values()
            if node.status is NodeStatus.RUNNING and ends_here
        ]
        assert sorted(stopped) == sorted(running)


def an_ending_run_keeps_nothing_that_waits(story: Story) -> None:
    """Only attempts that still run hold it back."""
    for scene in story.scenes:
        if scene.step.run.end is not None:
            waiting = STOPPABLE - {NodeStatus.RUNNING}
            assert not [node for node in scene.step.run.nodes.values() if node.status in waiting]


def an_accepted_cancel_never_becomes_a_success(story: Story) -> None:
    """STOPPED is the only end after it (I10)."""
    cancelled = False
    for scene in story.scenes:
        cancelled |= isinstance(scene.event, RunCancelled) and not scene.step.stale
        if cancelled:
            assert status_of(scene.step.run) in {RunStatus.RUNNING, RunStatus.STOPPED}


def the_end_is_recorded_once_and_nothing_follows_it(story: Story) -> None:
    """The terminal record is the last, in the step in which the run is over."""
    for scene in story.scenes:
        over = scene.step.run.finished_at is not None
        assert over == (status_of(scene.step.run) in TERMINAL)
        assert scene.before.finished_at is None or scene.step.stale
        terminal = [record.type in TERMINAL_RECORDS for record in scene.step.records]
        assert not any(terminal[:-1])
        assert any(terminal) == (over and not scene.step.stale)


def the_records_tell_where_every_node_is(story: Story) -> None:
    """A client that knows the plan and reads the public stream knows the state in the rows (I7).

    Between the decision to end early and the end itself the stream still shows as active what was stopped already.
    """
    records: list[Record] = []
    for scene in story.scenes:
        records.extend(scene.step.records)
        run = scene.step.run
        if run.finished_at is not None or run.end is None:
            assert fold(story.plan, records) == {node.id: node.status for node in run.nodes.values()}


def the_scope_of_an_event_is_enough_to_decide_it(story: Story) -> None:
    """The step with only the scope's nodes loaded is the step with all of them."""
    for scene in story.scenes:
        narrow = transition(_narrowed(scene), scene.event)
        merged = {**scene.before.nodes, **{node.id: node for node in narrow.changed}}
        assert merged == scene.step.run.nodes
        assert replace(narrow.run, nodes={}, present=frozenset()) == replace(
            scene.step.run, nodes={}, present=frozenset()
        )
        assert replace(narrow, run=scene.step.run) == scene.step


def a_step_is_the_same_each_time_it_is_asked_for(story: Story) -> None:
    """No clock, no chance, no memory."""
    for scene in story.scenes:
        assert transition(scene.before, scene.event) == scene.step


INVARIANTS: tuple[Callable[[Story], None], ...] = (
    counts_are_the_histogram_of_the_nodes,
    unresolved_is_what_an_idle_node_still_waits_for,
    no_node_begins_before_all_its_inputs_are_resolved,
    only_a_node_that_misses_a_required_input_is_skipped,
    every_dispatch_has_a_number_that_was_never_dispatched,
    whatever_can_be_claimed_has_been_dispatched,
    dispatches_of_a_step_are_in_topological_order,
    attempts_have_no_gap_and_no_repeat,
    claims_stay_within_the_two_budgets,
    rounds_are_the_questions_that_were_asked,
    only_a_question_makes_a_node_wait,
    a_stale_step_changes_and_commands_nothing,
    changed_are_exactly_the_nodes_that_differ,
    a_node_that_has_ended_never_changes_again,
    an_edge_has_at_most_one_artifact,
    nothing_starts_in_a_run_that_is_ending,
    an_early_end_tells_every_running_attempt_to_stop_once,
    an_ending_run_keeps_nothing_that_waits,
    an_accepted_cancel_never_becomes_a_success,
    the_end_is_recorded_once_and_nothing_follows_it,
    the_records_tell_where_every_node_is,
    the_scope_of_an_event_is_enough_to_decide_it,
    a_step_is_the_same_each_time_it_is_asked_for,
)


_TOLD = {
    RecordType.NODE_QUEUED: NodeStatus.READY,
    RecordType.NODE_STARTED: NodeStatus.RUNNING,
    RecordType.NODE_RETRYING: NodeStatus.RETRYING,
    RecordType.TOOL_CALLS_REQUIRED: NodeStatus.WAITING,
    RecordType.NODE_COMPLETED: NodeStatus.COMPLETE,
    RecordType.NODE_FAILED: NodeStatus.ERROR,
}


def fold(plan: Plan, records: Iterable[Record]) -> dict[NodeID, NodeStatus]:
    """Where every node is, as far as the public stream tells."""
    statuses = dict.fromkeys(plan.nodes, NodeStatus.IDLE)
    written: set[Edge] = set()
    absent: set[Edge] = set()
    for record in records:
        if record.type is RecordType.RUN_STARTED:
            statuses |= dict.fromkeys(_nodes(record, "Kept"), NodeStatus.COMPLETE)
            statuses |= dict.fromkeys(_nodes(record, "Skipped"), NodeStatus.SKIPPED)
            written |= _edges(record, "Kept")
            absent |= _edges(record, "Absent")
        elif record.type is RecordType.NODE_OUTPUT:
            written.add(Edge(str(record.data["Edge"])))
        elif record.type in TERMINAL_RECORDS:
            stopped = {node for node, status in statuses.items() if status in STOPPABLE}
            statuses |= dict.fromkeys(stopped, NodeStatus.STOPPED)
        elif record.node is not None:
            statuses[record.node] = _TOLD[record.type]
    for node in plan.nodes.values():
        gone = absent | _never_written(plan, statuses, written)
        if statuses[node.id] is NodeStatus.IDLE and _required(node) & gone:
            statuses[node.id] = NodeStatus.SKIPPED
    return statuses


def _nodes(record: Record, member: str) -> list[NodeID]:
    """The nodes that a member of the first record names, as a list or by name."""
    return list(record.data.get(member, ()))  # type: ignore[call-overload, no-any-return]


def _edges(record: Record, member: str) -> set[Edge]:
    """The edges in a member of the first record, which is a list of them or has such lists by node."""
    named = record.data.get(member, ())
    return {edge for edges in named.values() for edge in edges} if isinstance(named, dict) else set(named)  # type: ignore[call-overload]


def _never_written(plan: Plan, statuses: dict[NodeID, NodeStatus], written: set[Edge]) -> set[Edge]:
    """Output edges of nodes that ended without writing them. A failure that ends the run skips nothing."""
    ended = {NodeStatus.COMPLETE, NodeStatus.SKIPPED} | (set() if plan.fail_fast else {NodeStatus.ERROR})
    return {
        output.edge
        for node in plan.nodes.values()
        if statuses[node.id] in ended
        for output in node.outputs
        if output.edge not in written
    }


def _absent(run: Run, existing: set[Edge]) -> set[Edge]:
    """The edges of which it is known that nothing will come on them."""
    return _never_written(run.plan, {node.id: node.status for node in run.nodes.values()}, existing)


def _beginning(story: Story) -> RunCreated:
    """With what the run began; with nothing as long as it did not."""
    created = (scene.event for scene in story.scenes if isinstance(scene.event, RunCreated) and not scene.step.stale)
    return next(created, RunCreated(at()))


def _required(node: NodePlan) -> set[Edge]:
    return {binding.edge for binding in node.inputs if binding.required}


def _after_each(story: Story) -> Iterable[tuple[Run, set[Edge]]]:
    """The run after each scene, and the edges that have an object by then."""
    existing: set[Edge] = set()
    for scene in story.scenes:
        existing |= {artifact.edge for artifact in scene.step.artifacts}
        yield scene.step.run, existing


def _claims(story: Story) -> dict[NodeID, list[int]]:
    """The accepted attempt numbers of each node, in the order of their claims."""
    claims: dict[NodeID, list[int]] = {node: [] for node in story.plan.nodes}
    for scene in story.scenes:
        if isinstance(scene.event, NodeClaimed) and not scene.step.stale:
            claims[scene.event.node].append(scene.event.attempt)
    return claims


def _of(commands: Iterable[object], kind: type[T]) -> Iterable[T]:
    return (command for command in commands if isinstance(command, kind))


def _assert_ordered(plan: Plan, nodes: list[NodeID]) -> None:
    positions = [plan.nodes[node].position for node in nodes]
    assert positions == sorted(set(positions))


def _narrowed(scene: Scene) -> Run:
    """The run as the database layer loads it for the event: its scope, in no order that anybody promised.

    Of what is present it knows only the edge at hand.
    """
    run, scope = scene.before, scope_of(scene.before.plan, scene.event)
    loaded = {
        node.id: node
        for node in reversed(list(run.nodes.values()))
        if node.id in scope.nodes or (scope.stoppable and node.status in STOPPABLE)
    }
    edges = {scene.event.artifact.edge} if isinstance(scene.event, UploadReceived) else frozenset[Edge]()
    return replace(run, nodes=loaded, present=run.present & edges)
