"""Builders of plans and runs, and a driver that tells a run what happened in the words of a story.

A node is one line: `"join: left, right? -> out, log?"`. Order is topological, `?` marks an optional port, and an edge
that no line writes comes from outside. Any edge may be bound twice; ports are named by their place.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from pupload.flow.plan import Binding, Edge, EdgePlan, NodeID, NodePlan, Plan, Reason, Retry, Source
from pupload.run.commands import Command, DispatchNode, Record, RecordType, Step, StopAttempt
from pupload.run.events import (
    Event,
    NodeAsked,
    NodeClaimed,
    NodeFailed,
    NodeReleased,
    NodeSucceeded,
    RunCancelled,
    RunCreated,
    RunExhausted,
    RunTimedOut,
    ToolsAnswered,
    UploadReceived,
)
from pupload.run.state import TERMINAL, Artifact, End, Node, NodeStatus, Run, RunID, RunStatus, new_run, status_of
from pupload.run.transition import transition
from pupload.tiers import Tier

SMALL = Tier("c-small", cpu=2, memory_bytes=2 * 1024**3, disk_bytes=20 * 1024**3)
BEGINNING = datetime(2030, 1, 1, tzinfo=UTC)

DIAMOND = ("top: in -> a, b", "left: a -> c", "right: b -> d", "bottom: c, d -> out")


def chain(length: int) -> tuple[str, ...]:
    """`n0` to `n<length-1>`, each taking what the one before wrote; the first takes `in`."""
    edges = ["in", *(f"e{place}" for place in range(length))]
    return tuple(f"n{place}: {edges[place]} -> {edges[place + 1]}" for place in range(length))


def fan(width: int) -> tuple[str, ...]:
    """`split`, then `p0` to `p<width-1>` side by side, then `join` of all of them."""
    parts = [f"p{place}: shared -> part{place}" for place in range(width)]
    joined = ", ".join(f"part{place}" for place in range(width))
    return ("split: in -> shared", *parts, f"join: {joined} -> out")


def at(seconds: float = 0.0) -> datetime:
    """A moment, so many seconds after the beginning of time."""
    return BEGINNING + timedelta(seconds=seconds)


def a_plan(
    *lines: str,
    fail_fast: bool = True,
    max_attempts: int = 3,
    max_restarts: int = 3,
    retry: Retry | None = None,
    static: Iterable[str] = (),
) -> Plan:
    """The plan of the nodes that `lines` describe."""
    nodes = [
        NodePlan(
            NodeID(line.partition(":")[0].strip()),
            position=position,
            uses="test/node",
            image="test/node:1",
            tier=SMALL,
            inputs=_bindings("in", line.partition(":")[2].partition("->")[0]),
            outputs=_bindings("out", line.partition("->")[2]),
            max_attempts=max_attempts,
            retry=retry or Retry(),
        )
        for position, line in enumerate(lines)
    ]
    return Plan(
        "test-flow",
        nodes={node.id: node for node in nodes},
        edges=_edges(nodes, frozenset(static)),
        fail_fast=fail_fast,
        max_restarts=max_restarts,
    )


def _bindings(prefix: str, text: str) -> tuple[Binding, ...]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    return tuple(
        Binding(f"{prefix}{place}", Edge(name.rstrip("?")), required=not name.endswith("?"))
        for place, name in enumerate(names)
    )


def _edges(nodes: Sequence[NodePlan], static: frozenset[str]) -> dict[Edge, EdgePlan]:
    producers = {output.edge: node.id for node in nodes for output in node.outputs}
    consumers: dict[Edge, list[NodeID]] = {edge: [] for edge in producers}
    for node in nodes:
        for binding in node.inputs:
            consumers.setdefault(binding.edge, []).append(node.id)
    return {
        edge: EdgePlan(
            edge,
            producer=producers.get(edge),
            consumers=tuple(readers),
            source=None if edge in producers else Source.STATIC if edge in static else Source.UPLOAD,
        )
        for edge, readers in consumers.items()
    }


def sources(plan: Plan) -> list[Edge]:
    """The edges that are fed from outside, in the order of their first reader."""
    return [edge.name for edge in plan.edges.values() if edge.source is not None]


def distinct_inputs(plan: Plan, node: NodeID) -> set[Edge]:
    """The edges that the node takes, each once."""
    return {binding.edge for binding in plan.nodes[node].inputs}


def an_artifact(edge: str, node: str | None = None, attempt: int = 0) -> Artifact:
    """A small object on `edge`; an upload unless a node is named."""
    by = NodeID(node) if node else None
    return Artifact(Edge(edge), "default", f"run/{edge}/{attempt}", size_bytes=3, node=by, attempt=attempt)


def a_run(plan: Plan, end: End | None = None, present: Iterable[str] = (), **statuses: NodeStatus) -> Run:
    """A started run whose nodes are where `statuses` says, by decree; one that is not named is IDLE.

    Every node has made two attempts that asked, so that there are older ones. The run is over where its nodes say so.
    """
    nodes = {}
    for node in plan.nodes:
        status = statuses.get(node, NodeStatus.IDLE)
        missing = len(distinct_inputs(plan, node) - {Edge(edge) for edge in present})
        unresolved = missing if status is NodeStatus.IDLE else 0
        nodes[node] = Node(node, status, unresolved=unresolved, attempt=2, rounds=2, asked=2)
    run = Run(
        RunID("run_1"),
        plan,
        counts=Counter(node.status for node in nodes.values()),
        nodes=nodes,
        present=frozenset(Edge(edge) for edge in present),
        end=end,
        started_at=at(),
    )
    return replace(run, finished_at=at()) if status_of(run) in TERMINAL else run


@dataclass(frozen=True, slots=True)
class Scene:
    """One event of a story: the run before it, and the step that it made."""

    before: Run
    event: Event
    step: Step


@dataclass
class Story:
    """A run from its beginning, and everything that happened to it. Each telling is a second after the one before."""

    run: Run
    scenes: list[Scene] = field(default_factory=list)

    def tell(self, event: Event) -> Step:
        """The step that the event makes; the run is where it leads."""
        step = transition(self.run, event)
        self.scenes.append(Scene(self.run, event, step))
        self.run = step.run
        return step

    @property
    def plan(self) -> Plan:
        """What the run executes."""
        return self.run.plan

    @property
    def steps(self) -> list[Step]:
        """Every step so far, the stale ones too."""
        return [scene.step for scene in self.scenes]

    @property
    def now(self) -> datetime:
        """The moment of the next event."""
        return at(len(self.scenes))

    def status(self) -> RunStatus:
        """Where the run is."""
        return status_of(self.run)

    @property
    def commands(self) -> list[Command]:
        """Everything commanded so far, in order."""
        return [command for step in self.steps for command in step.commands]

    @property
    def records(self) -> list[Record]:
        """The public stream so far."""
        return [record for step in self.steps for record in step.records]

    @property
    def record_types(self) -> list[RecordType]:
        """The types of the public stream so far."""
        return [record.type for record in self.records]

    def node(self, node: str) -> Node:
        """What is known of the node."""
        return self.run.nodes[NodeID(node)]

    def statuses(self) -> dict[str, NodeStatus]:
        """Where each node is."""
        return {node.id: node.status for node in self.run.nodes.values()}

    def counts_of(self, status: NodeStatus) -> int:
        """How many nodes are there."""
        return self.run.counts.get(status, 0)

    def create(
        self, *present: str, kept: Iterable[str] = (), skipped: Iterable[str] = (), absent: Iterable[str] = ()
    ) -> Step:
        """The run is accepted; the objects of these edges exist from the start."""
        return self.tell(
            RunCreated(
                self.now,
                tuple(an_artifact(edge, self.plan.edges[Edge(edge)].producer) for edge in present),
                frozenset(map(NodeID, kept)),
                frozenset(map(NodeID, skipped)),
                frozenset(map(Edge, absent)),
            )
        )

    def upload(self, edge: str) -> Step:
        """The object of an edge arrives."""
        return self.tell(UploadReceived(self.now, an_artifact(edge)))

    def claim(self, node: str, attempt: int | None = None) -> Step:
        """A worker takes the node's next attempt."""
        number = self.node(node).attempt + 1 if attempt is None else attempt
        return self.tell(NodeClaimed(self.now, NodeID(node), number, "worker-1"))

    def succeed(self, node: str, attempt: int | None = None, absent: Iterable[str] = ()) -> Step:
        """The attempt ends well, with an object on every output edge but the absent ones."""
        number = self.node(node).attempt if attempt is None else attempt
        return self.tell(a_success(self.plan, node, number, absent, self.now))

    def fail(
        self,
        node: str,
        reason: Reason = Reason.EXIT,
        *,
        attempt: int | None = None,
        final: bool = False,
        jitter: float = 0.5,
        message: str = "exit 3",
    ) -> Step:
        """The attempt ends badly."""
        number = self.node(node).attempt if attempt is None else attempt
        code = 3 if reason is Reason.EXIT else None
        return self.tell(NodeFailed(self.now, NodeID(node), number, reason, message, code, final, jitter))

    def release(self, node: str, attempt: int | None = None) -> Step:
        """The worker gives the attempt back."""
        number = self.node(node).attempt if attempt is None else attempt
        return self.tell(NodeReleased(self.now, NodeID(node), number))

    def ask(self, node: str, attempt: int | None = None) -> Step:
        """The attempt ends and wants an answer of the client."""
        number = self.node(node).attempt if attempt is None else attempt
        return self.tell(NodeAsked(self.now, NodeID(node), number, ({"ID": "1", "Name": "look"},), 85))

    def answer(self, node: str, number: int | None = None) -> Step:
        """The client answers what the node asked."""
        return self.tell(ToolsAnswered(self.now, NodeID(node), self.node(node).rounds if number is None else number))

    def cancel(self) -> Step:
        """Somebody stops the run."""
        return self.tell(RunCancelled(self.now))

    def time_out(self) -> Step:
        """The run's deadline passes."""
        return self.tell(RunTimedOut(self.now))

    def exhaust(self) -> Step:
        """What the run may cost is used up."""
        return self.tell(RunExhausted(self.now, "CREDITS_EXHAUSTED", "no credits are left"))

    def complete(self, *nodes: str) -> None:
        """Each node in turn is claimed and succeeds."""
        for node in nodes:
            self.claim(node)
            self.succeed(node)


def a_story(*lines: str, fail_fast: bool = True, max_attempts: int = 3, max_restarts: int = 3) -> Story:
    """A run of these nodes that has not begun."""
    plan = a_plan(*lines, fail_fast=fail_fast, max_attempts=max_attempts, max_restarts=max_restarts)
    return Story(new_run(RunID("run_1"), plan))


def a_started_story(*lines: str, fail_fast: bool = True, max_attempts: int = 3, max_restarts: int = 3) -> Story:
    """A run of these nodes with every object from outside there at its start."""
    story = a_story(*lines, fail_fast=fail_fast, max_attempts=max_attempts, max_restarts=max_restarts)
    story.create(*sources(story.plan))
    return story


def a_success(
    plan: Plan, node: str, attempt: int, absent: Iterable[str] = (), when: datetime = BEGINNING
) -> NodeSucceeded:
    """The attempt's good end, with an object on every output edge but the absent ones."""
    missing = tuple(Edge(edge) for edge in absent)
    made = tuple(
        an_artifact(output.edge, node, attempt)
        for output in plan.nodes[NodeID(node)].outputs
        if output.edge not in missing
    )
    return NodeSucceeded(when, NodeID(node), attempt, made, missing)


def dispatched(step: Step) -> list[tuple[str, int]]:
    """(node, attempt) of what the step queues, in order."""
    return [(command.node, command.attempt) for command in step.commands if isinstance(command, DispatchNode)]


def stopped(step: Step) -> list[tuple[str, int]]:
    """(node, attempt) of what the step tells workers to stop, in order."""
    return [(command.node, command.attempt) for command in step.commands if isinstance(command, StopAttempt)]
