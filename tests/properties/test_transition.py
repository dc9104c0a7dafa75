"""Whatever happens to whatever run, in whatever order: the invariants hold, and the run ends."""

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
    """Graphs of one to seven nodes: several sources, several outputs, optional ports, edges bound twice."""
    known = list(SOURCES)
    lines = []
    for place in range(draw(st.sampled_from([1, 2, 3, 4, 5, 6, 7]))):
        ports = st.lists(st.tuples(st.sampled_from(known[-5:]), st.sampled_from(["", "", "?"])), max_size=3)
        inputs = [f"{edge}{mark}" for edge, mark in draw(ports)]
        written = [f"n{place}x{number}" for number in range(draw(st.sampled_from([0, 1, 1, 2])))]
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


ACTS = {
    "advance": 60,
    "upload": 4,
    "claim": 4,
    "succeed": 4,
    "fail": 6,
    "final": 1,
    "lose": 4,
    "infra": 2,
    "release": 3,
    "ask": 5,
    "answer": 3,
    "type": 1,
    "cancel": 0.7,
    "time out": 0.7,
    "exhaust": 0.7,
    "create": 1,
}
_ABLE = {"claim": {NodeStatus.READY, NodeStatus.RETRYING}, "answer": {NodeStatus.WAITING}}
REASONS = {"lose": Reason.LOST, "infra": Reason.INFRA, "type": Reason.TYPE}


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """A run that was created and lived through some moves; it may be over or not.

    The moves come from a seed, as lists of drawn ones stay too short and too alike to get anywhere.
    """
    plan, chance = draw(plans()), Random(draw(st.integers(0, 2**32)))
    story = Story(new_run(RunID("run_1"), plan))
    if chance.random() < 0.95:
        begin(story, chance)
    for act in chance.choices(list(ACTS), list(ACTS.values()), k=chance.randint(0, 60)):
        happen(story, act, chance)
    return story


def begin(story: Story, chance: Random) -> None:
    """Create the run: mostly whole, at times with nodes kept from another run and nodes that nobody asked for."""
    share = chance.choice([0, 0, 0.2, 0.5])
    nodes = [node for node in story.plan.nodes if chance.random() < share]
    kept = {node for node in nodes if chance.random() < 0.6}
    made = [out.edge for node in kept for out in story.plan.nodes[node].outputs if chance.random() < 0.8]
    given = [edge for edge in sources(story.plan) if chance.random() < 0.5]
    story.create(*made, *given, kept=kept, skipped=set(nodes) - kept)


def happen(story: Story, act: str, chance: Random) -> None:
    """Let something happen; one in five does not look at who is in a state for it, nor at the attempt's number."""
    wild = chance.random() < 0.2
    match act:
        case "advance":
            _advance(story, chance)
        case "upload":
            _upload(story, chance, wild=wild)
        case "create":
            story.create()
        case "cancel":
            story.cancel()
        case "time out":
            story.time_out()
        case "exhaust":
            story.exhaust()
        case _:
            _tell(story, act, chance, wild=wild)


def _advance(story: Story, chance: Random) -> None:
    if able := _possible(story):
        act, subject = chance.choice(able)
        if act == "succeed":
            story.succeed(subject, absent=_left_out(story.plan, NodeID(subject), chance))
        else:
            getattr(story, act)(subject)


def _possible(story: Story) -> list[tuple[str, str]]:
    """Each thing that may well happen next."""
    act = {
        NodeStatus.READY: "claim",
        NodeStatus.RETRYING: "claim",
        NodeStatus.RUNNING: "succeed",
        NodeStatus.WAITING: "answer",
    }
    uploads = [("upload", edge) for edge in sources(story.plan) if edge not in story.run.present]
    return uploads + [(act[node.status], node.id) for node in story.run.nodes.values() if node.status in act]


def _upload(story: Story, chance: Random, *, wild: bool) -> None:
    if missing := [edge for edge in sources(story.plan) if wild or edge not in story.run.present]:
        story.upload(chance.choice(missing))


def _tell(story: Story, act: str, chance: Random, *, wild: bool) -> None:
    """A claim or a report, of a node that is in a state for it or of any."""
    statuses = _ABLE.get(act, {NodeStatus.RUNNING})
    able = [node for node in story.run.nodes.values() if wild or node.status in statuses]
    if not able:
        return
    node = chance.choice(able)
    attempt = node.attempt + (act == "claim") + (chance.choice([-1, 0, 1]) if wild else 0)
    match act:
        case "claim":
            story.claim(node.id, attempt)
        case "succeed":
            story.succeed(node.id, attempt, absent=_left_out(story.plan, node.id, chance))
        case "release":
            story.release(node.id, attempt)
        case "ask":
            story.ask(node.id, attempt)
        case "answer":
            story.answer(node.id, node.rounds + (chance.choice([-1, 0, 1]) if wild else 0))
        case _:
            story.fail(node.id, REASONS.get(act, Reason.EXIT), attempt=attempt, final=act == "final")


def _left_out(plan: Plan, node: NodeID, chance: Random) -> list[str]:
    """Some of the node's optional outputs."""
    outputs = plan.nodes[node].outputs
    return [output.edge for output in outputs if not output.required and chance.random() < 0.5]


def drive_to_the_end(story: Story) -> None:
    """Everything that is awaited comes: uploads, claims, good results."""
    story.create()
    for edge in sources(story.plan):
        story.upload(edge)
    for _ in story.plan.nodes:
        for node in story.plan.nodes:
            story.answer(node)
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
