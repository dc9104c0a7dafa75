"""Whatever happens to whatever run, in whatever order: the invariants hold, and the run ends."""

from dataclasses import dataclass
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from pupload.flow.plan import NodeID, Plan, Reason, Retry, dump_plan, load_plan
from pupload.run.state import TERMINAL, NodeStatus, RunID, RunStatus, new_run
from tests.support.invariants import INVARIANTS
from tests.support.runs import Story, a_plan, sources

SOURCES = ("s0", "s1", "s2")


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Graphs of one to six nodes: several sources, several outputs, optional ports, edges bound twice."""
    known = list(SOURCES)
    lines = []
    for place in range(draw(st.integers(1, 6))):
        ports = st.lists(st.tuples(st.sampled_from(known), st.sampled_from(["", "", "?"])), max_size=3)
        inputs = [f"{edge}{mark}" for edge, mark in draw(ports)]
        written = [f"n{place}x{number}" for number in range(draw(st.integers(0, 2)))]
        outputs = [f"{edge}{draw(st.sampled_from(['', '?']))}" for edge in written]
        lines.append(f"n{place}: {', '.join(inputs)} -> {', '.join(outputs)}")
        known.extend(written)
    return a_plan(
        *lines,
        fail_fast=draw(st.booleans()),
        max_attempts=draw(st.integers(1, 3)),
        max_restarts=draw(st.integers(0, 2)),
        retry=Retry(on=draw(st.sampled_from([Retry().on, frozenset({Reason.OOM})]))),
        static=draw(st.sets(st.sampled_from(SOURCES))),
    )


@dataclass(frozen=True)
class Move:
    """What happens next, and to which of those that it can happen to.

    A `wild` one does not look at who is in a state for it, and `age` shifts its attempt number.
    """

    act: str
    choice: int
    wild: bool
    age: int


ORDINARY = ["upload", "claim", "claim", "claim", "succeed", "succeed", "succeed"]
MISHAPS = ["fail", "fail", "final", "lose", "infra", "release", "type"]
EARLY_ENDS = ["cancel", "time out", "create"]


def moves(acts: list[str]) -> st.SearchStrategy[Move]:
    """A move; one in four is wild."""
    return st.builds(
        Move,
        act=st.sampled_from(acts),
        choice=st.integers(0, 7),
        wild=st.sampled_from([False, False, False, True]),
        age=st.sampled_from([-1, 0, 0, 1]),
    )


SCRIPTS = st.lists(moves(ORDINARY * 4 + MISHAPS * 2 + EARLY_ENDS), max_size=60)


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """A run that was created and lived through a script; it may be over or not."""
    plan = draw(plans())
    story = Story(new_run(RunID("run_1"), plan))
    script = draw(SCRIPTS)
    if draw(st.sampled_from([True, True, True, True, False])):
        story.create(*(edge for edge in sources(plan) if draw(st.booleans())))
    for move in script:
        happen(story, move)
    return story


def happen(story: Story, move: Move) -> None:
    """Let the move happen, if there is anything that it can happen to."""
    match move.act:
        case "upload":
            _upload(story, move)
        case "create":
            story.create()
        case "cancel":
            story.cancel()
        case "time out":
            story.time_out()
        case "claim":
            _claim(story, move)
        case _:
            _report(story, move)


def _upload(story: Story, move: Move) -> None:
    missing = [edge for edge in sources(story.plan) if move.wild or edge not in story.run.present]
    if missing:
        story.upload(missing[move.choice % len(missing)])


def _claim(story: Story, move: Move) -> None:
    node = _one_of(story, move, NodeStatus.READY, NodeStatus.RETRYING)
    if node is not None:
        story.claim(node, story.node(node).attempt + 1 + (move.age if move.wild else 0))


def _report(story: Story, move: Move) -> None:
    node = _one_of(story, move, NodeStatus.RUNNING)
    if node is None:
        return
    attempt = story.node(node).attempt + (move.age if move.wild else 0)
    match move.act:
        case "succeed":
            story.succeed(node, attempt, absent=_left_out(story.plan, node, move.choice))
        case "release":
            story.release(node, attempt)
        case _:
            reasons = {"lose": Reason.LOST, "infra": Reason.INFRA, "type": Reason.TYPE}
            story.fail(node, reasons.get(move.act, Reason.EXIT), attempt=attempt, final=move.act == "final")


def _left_out(plan: Plan, node: NodeID, choice: int) -> list[str]:
    """Some of the node's optional outputs: the bits of `choice` say which."""
    optional = [output.edge for output in plan.nodes[node].outputs if not output.required]
    return [edge for place, edge in enumerate(optional) if choice >> place & 1]


def _one_of(story: Story, move: Move, *statuses: NodeStatus) -> NodeID | None:
    """A node in one of these statuses, or any node for a wild move."""
    able = [node.id for node in story.run.nodes.values() if move.wild or node.status in statuses]
    return able[move.choice % len(able)] if able else None


def drive_to_the_end(story: Story) -> None:
    """Everything that is awaited comes: uploads, claims, good results."""
    story.create()
    for edge in sources(story.plan):
        story.upload(edge)
    for _ in story.plan.nodes:
        for node in list(story.plan.nodes):
            story.claim(node)
            story.succeed(node)


@settings(max_examples=600, deadline=None)
@given(story=stories())
def test_every_invariant_holds_whatever_happens(story: Story) -> None:
    for holds in INVARIANTS:
        holds(story)


@settings(max_examples=300, deadline=None)
@given(story=stories())
def test_a_run_ends_once_everything_is_answered(story: Story) -> None:
    drive_to_the_end(story)
    assert story.status() in TERMINAL
    assert story.run.finished_at is not None
    for holds in INVARIANTS:
        holds(story)


@settings(max_examples=300, deadline=None)
@given(plan=plans(), order=st.randoms(use_true_random=False))
def test_a_run_in_which_nothing_fails_completes_in_any_order(plan: Plan, order: Random) -> None:
    story = Story(new_run(RunID("run_1"), plan))
    story.create()
    while story.run.finished_at is None:
        act, subject = order.choice(_possible(story))
        getattr(story, act)(subject)
    assert story.status() is RunStatus.COMPLETE
    assert set(story.statuses().values()) <= {NodeStatus.COMPLETE, NodeStatus.SKIPPED}
    assert story.counts_of(NodeStatus.SKIPPED) == 0


def _possible(story: Story) -> list[tuple[str, str]]:
    """Each thing that may well happen next."""
    act = {NodeStatus.READY: "claim", NodeStatus.RUNNING: "succeed"}
    uploads = [("upload", edge) for edge in sources(story.plan) if edge not in story.run.present]
    return uploads + [(act[node.status], node.id) for node in story.run.nodes.values() if node.status in act]


@settings(max_examples=200, deadline=None)
@given(story=stories())
def test_telling_everything_twice_changes_nothing(story: Story) -> None:
    twice = Story(story.scenes[0].before if story.scenes else story.run)
    for scene in story.scenes:
        twice.tell(scene.event)
        if not scene.step.stale:
            assert twice.tell(scene.event).stale
    assert twice.run == story.run


@settings(max_examples=200, deadline=None)
@given(plan=plans())
def test_a_plan_survives_its_journey_through_the_database(plan: Plan) -> None:
    assert load_plan(dump_plan(plan)) == plan
