"""A whole installation in one thread on a virtual clock, with every fault at hand: the same seed is the same story.

What is real here is what decides: `transition`, `scope_of`, the lease rules, the fence, the reconcilers' questions.
PostgreSQL is rows in dictionaries with transactions, HTTP is a call that may be lost, late, doubled or unanswered,
Docker is a table of intervals, a process is a generator that may stop for ever at any `yield`.

Run one seed again, or many: `python -m tests.support.simulation 1234`, `python -m tests.support.simulation 0 5000`.
"""

import heapq
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from math import inf
from random import Random
from typing import NamedTuple, TypeVar

from pupload.flow.plan import Edge, NodeID, Plan, Reason, Source
from pupload.run.commands import DispatchNode, Record, Step, StopAttempt
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
from pupload.run.scope import scope_of
from pupload.run.state import STOPPABLE, Artifact, Node, NodeStatus, Run, RunID, RunStatus, new_run, status_of
from pupload.run.transition import transition
from tests.support.invariants import INVARIANTS
from tests.support.runs import Scene, Story, a_plan, at

BEAT_S, FENCE_S, LEASE_S = 5.0, 20.0, 30.0
CALL_TIMEOUT_S = 3.0
CRASH_RATE = 0.02
GRACE_S, KILL_S = 10.0, 5.0
NODE_TIMEOUT_S = 70.0
FAULTS_END_S = 90.0
RUN_TIMEOUT_S = 200.0
CATCH_UP_S = 15.0
"""The reconcilers have found everything that was lost this long after the last fault."""
PATIENCE_S = 60.0
"""Every run is over this long after its deadline or the last fault, whichever is later (I1)."""

T = TypeVar("T")
Life = Generator[float, None, None]
Wait = Generator[float, None, T]


class Unreachable(Exception):
    """No answer came; whether the call did its work nobody knows."""


class Crashed(Exception):
    """The controller died in the middle of a transaction."""


class LostLease(Exception):
    """The attempt is not the caller's any more."""


class Ref(NamedTuple):
    """One attempt."""

    run: RunID
    node: NodeID
    attempt: int


@dataclass
class Process:
    """Something that lives in time; a dead one never wakes again, a frozen one wakes late."""

    life: Life
    alive: bool = True
    frozen_until: float = 0.0


class Clock:
    """Virtual time: wakes processes in order, those of one moment in random order."""

    def __init__(self, chance: Random) -> None:
        self.now = 0.0
        self._chance = chance
        self._queue: list[tuple[float, float, int, Process]] = []
        self._spawned = 0

    def spawn(self, life: Life, after_s: float = 0.0) -> Process:
        """The process, which begins in `after_s` seconds."""
        process = Process(life)
        self._wake(process, self.now + after_s)
        return process

    def run(self, until: float) -> None:
        """Let everything happen that happens before `until`."""
        while self._queue and self._queue[0][0] < until:
            self.now, _, _, process = heapq.heappop(self._queue)
            if not process.alive:
                continue
            if process.frozen_until > self.now:
                self._wake(process, process.frozen_until)
                continue
            wait_s = next(process.life, None)
            if wait_s is not None:
                self._wake(process, self.now + wait_s)
        self.now = max(self.now, until)

    def _wake(self, process: Process, when: float) -> None:
        self._spawned += 1
        heapq.heappush(self._queue, (when, self._chance.random(), self._spawned, process))


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to speak for an attempt, until it runs out."""

    token: float
    worker: str
    instance: int
    expires: float
    stop: bool = False


class Database:
    """Tables of rows, changed all together or not at all. Its own clock decides leases."""

    def __init__(self, clock: Clock, chance: Random) -> None:
        self.clock, self._chance = clock, chance
        self.runs: dict[RunID, Run] = {}
        self.nodes: dict[tuple[RunID, NodeID], Node] = {}
        self.artifacts: dict[tuple[RunID, Edge], Artifact] = {}
        self.records: dict[tuple[RunID, int], Record] = {}
        self.jobs: dict[Ref, float] = {}
        self.leases: dict[Ref, Lease] = {}
        self.keys: dict[str, RunID] = {}
        self.deadlines: dict[RunID, float] = {}
        self.scenes: dict[tuple[RunID, int], Scene] = {}

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """BEGIN to COMMIT; whatever raises on the way leaves every table as it was."""
        tables = {name: dict(table) for name, table in vars(self).items() if isinstance(table, dict)}
        try:
            yield
            self.failpoint()
        except BaseException:
            vars(self).update(tables)
            raise
        running = {key for key, node in self.nodes.items() if node.status is NodeStatus.RUNNING}
        assert running == {(ref.run, ref.node) for ref in self.leases}, "a lease is held for exactly what runs"

    def apply(self, run_id: RunID, event: Event) -> Step:
        """The step of the event on the rows of its scope, saved; the caller's transaction commits it."""
        before = self.whole(run_id)
        step = transition(self._load(run_id, event), event)
        if not step.stale:
            self._save(run_id, step)
        after = before if step.stale else self.whole(run_id)
        self.scenes[run_id, len(self.story(run_id).scenes)] = Scene(before, event, replace(step, run=after))
        return step

    def insert(self, run: Run, key: str) -> None:
        """A new run with all its rows."""
        self.keys[key] = run.id
        self.deadlines[run.id] = self.clock.now + (run.plan.timeout_s or inf)
        self.runs[run.id] = replace(run, nodes={}, present=frozenset())
        self.nodes |= {(run.id, node.id): node for node in run.nodes.values()}

    def whole(self, run_id: RunID) -> Run:
        """The run with everything that the rows know of it."""
        run = self.runs[run_id]
        nodes = {node: self.nodes[run_id, node] for node in run.plan.nodes}
        return replace(run, nodes=nodes, present=self._present(run, run.plan.edges))

    def story(self, run_id: RunID) -> Story:
        """What happened to the run, as its rows saw it."""
        return Story(self.whole(run_id), [scene for (of, _), scene in self.scenes.items() if of == run_id])

    def _present(self, run: Run, edges: Iterable[Edge]) -> frozenset[Edge]:
        outside = (edge for edge in edges if run.plan.edges[edge].source is not None)
        return frozenset(edge for edge in outside if (run.id, edge) in self.artifacts)

    def _load(self, run_id: RunID, event: Event) -> Run:
        run, scope = self.runs[run_id], scope_of(self.runs[run_id].plan, event)
        loaded = {
            node_id: node
            for (of, node_id), node in self.nodes.items()
            if of == run_id and (node_id in scope.nodes or (scope.stoppable and node.status in STOPPABLE))
        }
        edges = [event.artifact.edge] if isinstance(event, UploadReceived) else []
        return replace(run, nodes=loaded, present=self._present(run, edges))

    def _save(self, run_id: RunID, step: Step) -> None:
        for node in step.changed:
            self.failpoint()
            self.nodes[run_id, node.id] = node
        for artifact in step.artifacts:
            assert (run_id, artifact.edge) not in self.artifacts, "two results on one edge"
            self.artifacts[run_id, artifact.edge] = artifact
        self.failpoint()
        self.runs[run_id] = replace(step.run, nodes={}, present=frozenset())
        for command in step.commands:
            self._carry_out(run_id, command)
        number = sum(of == run_id for of, _ in self.records)
        self.records |= {(run_id, number + place): record for place, record in enumerate(step.records, 1)}
        self.failpoint()

    def _carry_out(self, run_id: RunID, command: DispatchNode | StopAttempt) -> None:
        ref = Ref(run_id, command.node, command.attempt)
        match command:
            case DispatchNode(delay_s=delay_s):
                self.jobs[ref] = self.clock.now + delay_s
            case StopAttempt():
                self.leases[ref] = replace(self.leases[ref], stop=True)

    def failpoint(self) -> None:
        """Errors: Crashed, now and then."""
        if self.clock.now < FAULTS_END_S and self._chance.random() < CRASH_RATE:
            raise Crashed


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker needs for one attempt."""

    ref: Ref
    token: float
    inputs: tuple[Artifact, ...]
    outputs: tuple[Edge, ...]
    optional: tuple[Edge, ...]


@dataclass(frozen=True, slots=True)
class BeatAnswer:
    """Which attempts are to stop, and which are lost already."""

    stop: frozenset[Ref]
    lost: frozenset[Ref]


class Beginning(NamedTuple):
    """What an earlier run has done: the kept nodes with the edges that have an object. And what nobody wants."""

    kept: dict[NodeID, list[Edge]]
    skipped: frozenset[NodeID]


WHOLE = Beginning({}, frozenset())


class Controller:
    """The service over the rows: each public method is one transaction, each reconciler one question asked for ever."""

    lease_s = LEASE_S

    def __init__(self, database: Database, store: dict[str, str], chance: Random) -> None:
        self.database, self.store, self.chance = database, store, chance

    @property
    def now(self) -> float:
        """The database's time."""
        return self.database.clock.now

    def create(self, key: str, plan: Plan, beginning: Beginning = WHOLE) -> RunID:
        """The run of this idempotency key, which is made on the first call."""
        with self.database.transaction():
            if key in self.database.keys:
                return self.database.keys[key]
            run_id = RunID(f"run_{len(self.database.runs)}")
            self.database.insert(new_run(run_id, plan), key)
            present = [
                self._artifact(run_id, edge.name) for edge in plan.edges.values() if edge.source is Source.STATIC
            ]
            present += [self._earlier(run_id, node, edge) for node, edges in beginning.kept.items() for edge in edges]
            kept, skipped = frozenset(beginning.kept), beginning.skipped
            self.database.apply(run_id, RunCreated(at(self.now), tuple(present), kept, skipped))
            return run_id

    def uploaded(self, run_id: RunID, edge: Edge) -> None:
        """Take notice of the edge's object, if it is there."""
        with self.database.transaction():
            if upload_key(run_id, edge) in self.store:
                self.database.apply(run_id, UploadReceived(at(self.now), self._artifact(run_id, edge)))

    def cancel(self, run_id: RunID) -> bool:
        """True when the cancel won: the run will end STOPPED."""
        with self.database.transaction():
            return not self.database.apply(run_id, RunCancelled(at(self.now))).stale

    def resume(self, run_id: RunID, node: NodeID, answered: int) -> None:
        """Answer what the node asked in that round."""
        with self.database.transaction():
            self.database.apply(run_id, ToolsAnswered(at(self.now), node, answered))

    def exhaust(self, run_id: RunID) -> None:
        """What the run may cost is used up."""
        with self.database.transaction():
            self.database.apply(run_id, RunExhausted(at(self.now), "CREDITS_EXHAUSTED", "no credits are left"))

    def claim(self, worker: str, instance: int, most: int) -> list[Assignment]:
        """Attempts that are the worker's from now on."""
        with self.database.transaction():
            due = [ref for ref, when in self.database.jobs.items() if when <= self.now]
            return [given for ref in due[:most] for given in self._assign(ref, worker, instance)]

    def beat(self, worker: str, held: dict[Ref, float]) -> BeatAnswer:
        """Longer leases for what the worker holds, and what it must know."""
        with self.database.transaction():
            leases = self.database.leases
            mine = {ref for ref, token in held.items() if self._owns(ref, token)}
            for ref in mine:
                leases[ref] = replace(leases[ref], expires=self.now + self.lease_s)
            return BeatAnswer(frozenset(ref for ref in mine if leases[ref].stop), frozenset(held.keys() - mine))

    def finish(self, ref: Ref, token: float, report: Callable[[], Event]) -> None:
        """The attempt's end, recorded once. Errors: LostLease."""
        with self.database.transaction():
            if not self._owns(ref, token):
                raise LostLease
            self._end(ref, report())

    def hello(self, worker: str, instance: int) -> None:
        """Whatever an earlier instance of the worker held is lost."""
        with self.database.transaction():
            for ref, lease in list(self.database.leases.items()):
                if lease.worker == worker and lease.instance < instance:
                    self._lose(ref)

    def reconcile(self) -> Life:
        """Every question, every few seconds; between the question and the answer anything may happen."""
        while True:
            for act in [*self.ready_without_job(), *self.expired_leases(), *self.overdue_runs(), *self.new_uploads()]:
                yield self.chance.uniform(0, 0.2)
                try:
                    act()
                except Crashed:
                    yield self.chance.uniform(1, 5)
            yield self.chance.uniform(2, 5)

    def ready_without_job(self) -> Iterable[Callable[[], None]]:
        """Nodes that may start and that nobody was told of."""
        for (run_id, _), node in list(self.database.nodes.items()):
            ref = Ref(run_id, node.id, node.attempt + 1)
            if node.status in {NodeStatus.READY, NodeStatus.RETRYING} and ref not in self.database.jobs:
                yield partial(self._queue_again, ref)

    def expired_leases(self) -> Iterable[Callable[[], None]]:
        """Attempts whose worker has not been heard of for too long."""
        for ref, lease in list(self.database.leases.items()):
            if lease.expires < self.now:
                yield partial(self._reap, ref)

    def overdue_runs(self) -> Iterable[Callable[[], None]]:
        """Runs past their deadline."""
        for run_id, deadline in list(self.database.deadlines.items()):
            run = self.database.runs[run_id]
            if deadline < self.now and run.end is None and run.finished_at is None:
                yield partial(self._time_out, run_id)

    def new_uploads(self) -> Iterable[Callable[[], None]]:
        """Awaited objects that lie in the store."""
        for run in list(self.database.runs.values()):
            for edge in run.plan.edges.values():
                known = (run.id, edge.name) in self.database.artifacts or run.finished_at is not None
                if edge.source is Source.UPLOAD and not known and upload_key(run.id, edge.name) in self.store:
                    yield partial(self.uploaded, run.id, edge.name)

    def _assign(self, ref: Ref, worker: str, instance: int) -> Iterable[Assignment]:
        del self.database.jobs[ref]
        if self.database.apply(ref.run, NodeClaimed(at(self.now), ref.node, ref.attempt, worker)).stale:
            return
        token = self.chance.random()
        self.database.leases[ref] = Lease(token, worker, instance, self.now + self.lease_s)
        plan = self.database.runs[ref.run].plan.nodes[ref.node]
        inputs = {binding.edge: self.database.artifacts.get((ref.run, binding.edge)) for binding in plan.inputs}
        yield Assignment(
            ref,
            token,
            tuple(artifact for artifact in inputs.values() if artifact is not None),
            tuple(output.edge for output in plan.outputs),
            tuple(output.edge for output in plan.outputs if not output.required),
        )

    def _owns(self, ref: Ref, token: float) -> bool:
        lease = self.database.leases.get(ref)
        return lease is not None and lease.token == token

    def _end(self, ref: Ref, event: Event) -> None:
        del self.database.leases[ref]
        step = self.database.apply(ref.run, event)
        assert not step.stale, "whoever holds the lease speaks for the running attempt"

    def _lose(self, ref: Ref) -> None:
        jitter = self.chance.random()
        self._end(
            ref, NodeFailed(at(self.now), ref.node, ref.attempt, Reason.LOST, "the worker is gone", jitter=jitter)
        )

    def _reap(self, ref: Ref) -> None:
        with self.database.transaction():
            lease = self.database.leases.get(ref)
            if lease is not None and lease.expires < self.now:
                self._lose(ref)

    def _queue_again(self, ref: Ref) -> None:
        with self.database.transaction():
            node = self.database.nodes[ref.run, ref.node]
            if node.status in {NodeStatus.READY, NodeStatus.RETRYING} and node.attempt + 1 == ref.attempt:
                self.database.jobs.setdefault(ref, self.now)

    def _time_out(self, run_id: RunID) -> None:
        with self.database.transaction():
            self.database.apply(run_id, RunTimedOut(at(self.now)))

    def _artifact(self, run_id: RunID, edge: Edge) -> Artifact:
        key = upload_key(run_id, edge)
        content = self.store.setdefault(key, key)
        return Artifact(edge, "default", key, len(content), sha256=content)

    def _earlier(self, run_id: RunID, node: NodeID, edge: Edge) -> Artifact:
        """What the node of an earlier run wrote."""
        key = f"earlier/{run_id}/{edge}/3"
        content = self.store.setdefault(key, key)
        return Artifact(edge, "default", key, len(content), sha256=content, node=node, attempt=3, origin="earlier")


def upload_key(run_id: RunID, edge: Edge) -> str:
    """Where the object of an input edge lies."""
    return f"{run_id}/{edge}/0"


@dataclass
class Container:
    """One container: it lives from its start to its own end or its killing."""

    ref: Ref
    began: float
    ends: float
    killed: float = inf

    @property
    def gone(self) -> float:
        """When it was no more."""
        return min(self.ends, self.killed)


@dataclass(frozen=True, slots=True)
class Program:
    """What a node's program will do this time."""

    ending: str
    lasts_s: float
    spares: bool = False
    """True when it leaves its optional outputs out."""


@dataclass
class Held:
    """An attempt that a worker has in hand. `renewed` is when the call was sent that last secured the lease."""

    assignment: Assignment
    renewed: float
    process: Process | None = None
    container: Container | None = None
    stop: bool = False


class Worker:
    """A worker and its host: takes attempts, beats, fences itself, drops what it lost."""

    fence_s = FENCE_S

    def __init__(self, name: str, world: "World") -> None:
        self.name, self.world = name, world
        self.instance = 0
        self.containers: list[Container] = []
        self.held: dict[Ref, Held] = {}
        self.processes: list[Process] = []
        self.cut_until = 0.0

    def start(self) -> Life:
        """A new instance: the janitor first, then hello, then work."""
        yield 0.1
        self.instance += 1
        self.sweep()
        self.held = {}
        self.processes = [self.world.clock.spawn(life) for life in (self._beats(), self._fence(), self._claims())]

    def crash(self, *, host: bool, back_after_s: float) -> None:
        """kill -9 of the worker, or the end of its whole host; it comes back later."""
        for process in [*self.processes, *(held.process for held in self.held.values() if held.process)]:
            process.alive = False
        if host:
            self._end_containers()
        self.processes = []
        self.world.clock.spawn(self.start(), back_after_s)

    def freeze(self, for_s: float) -> None:
        """SIGSTOP: containers go on, nothing else does."""
        for process in [*self.processes, *(held.process for held in self.held.values() if held.process)]:
            process.frozen_until = self.world.clock.now + for_s

    def call(self, request: Callable[[], T]) -> Wait[T]:
        """The answer to a request over the network. Errors: Unreachable, LostLease."""
        if self.world.clock.now < self.cut_until:
            yield CALL_TIMEOUT_S
            raise Unreachable
        return (yield from self.world.call(request))

    def _beats(self) -> Life:
        yield from self._insist(partial(self.world.controller.hello, self.name, self.instance))
        while True:
            sent = self.world.clock.now
            tokens = {ref: held.assignment.token for ref, held in self.held.items()}
            try:
                answer = yield from self.call(partial(self.world.controller.beat, self.name, tokens))
            except Unreachable:
                continue
            for ref in tokens.keys() & self.held.keys():
                self._heed(ref, answer, sent)
            yield BEAT_S

    def _heed(self, ref: Ref, answer: BeatAnswer, sent: float) -> None:
        if ref in answer.lost:
            self._drop(ref)
        else:
            self.held[ref].renewed = sent
            self.held[ref].stop |= ref in answer.stop

    def _fence(self) -> Life:
        while True:
            for ref, held in list(self.held.items()):
                if self.world.clock.now - held.renewed > self.fence_s:
                    self._drop(ref)
            yield 1.0

    def _claims(self) -> Life:
        while True:
            sent, room = self.world.clock.now, 2 - len(self.held)
            if room > 0:
                try:
                    given = yield from self.call(partial(self.world.controller.claim, self.name, self.instance, room))
                except Unreachable:
                    given = []
                for assignment in given:
                    self._take(assignment, sent)
            yield self.world.chance.uniform(0.5, 2)

    def _take(self, assignment: Assignment, sent: float) -> None:
        if self.world.clock.now - sent <= self.fence_s:
            held = self.held[assignment.ref] = Held(assignment, renewed=sent)
            held.process = self.world.clock.spawn(self._attempt(held))

    def _drop(self, ref: Ref) -> None:
        held = self.held.pop(ref)
        if held.process:
            held.process.alive = False
        if held.container:
            dies = self.world.clock.now + self.world.chance.uniform(0, KILL_S)
            held.container.killed = min(held.container.killed, dies)

    def _attempt(self, held: Held) -> Life:
        """One try from its inputs to its accepted end."""
        given, world = held.assignment, self.world
        yield world.chance.uniform(0.1, 2)
        for artifact in given.inputs:
            assert world.store[artifact.key] == artifact.sha256, "an input is not what was recorded"
        program = world.program(given.ref)
        held.container = Container(given.ref, world.clock.now, world.clock.now + program.lasts_s)
        self.containers.append(held.container)
        report = yield from self._watch(held, held.container, program)
        yield from self._insist(lambda: world.controller.finish(given.ref, given.token, report))
        self.held.pop(given.ref, None)

    def _watch(self, held: Held, container: Container, program: Program) -> Wait[Callable[[], Event]]:
        if program.ending == "kills its worker":
            yield 0.4
            self.crash(host=False, back_after_s=self.world.chance.uniform(1, 10))
            yield 0.0
        while self.world.clock.now < container.gone:
            if held.stop or self.world.clock.now > container.began + NODE_TIMEOUT_S:
                yield self.world.chance.uniform(0, GRACE_S)
                container.killed = self.world.clock.now
                return self._failed(held, Reason.CANCELLED if held.stop else Reason.TIMEOUT)
            yield min(1.0, container.gone - self.world.clock.now)
        if program.ending == "release":
            return lambda: NodeReleased(self._moment, held.assignment.ref.node, held.assignment.ref.attempt)
        if program.ending == "asks":
            return lambda: NodeAsked(self._moment, held.assignment.ref.node, held.assignment.ref.attempt)
        if program.ending != "success":
            return self._failed(held, Reason(program.ending))
        return (yield from self._put_outputs(held, program, container))

    def _put_outputs(self, held: Held, program: Program, container: Container) -> Wait[Callable[[], Event]]:
        """Objects under keys of this attempt; a zombie of it could write them again."""
        ref, made = held.assignment.ref, []
        left_out = held.assignment.optional if program.spares else ()
        for edge in held.assignment.outputs:
            if edge not in left_out:
                yield self.world.chance.uniform(0.1, 1)
                key, content = f"{ref.run}/{edge}/{ref.attempt}", f"{ref} in {self.name} at {container.began}"
                self.world.store[key] = content
                made.append(
                    Artifact(edge, "default", key, len(content), sha256=content, node=ref.node, attempt=ref.attempt)
                )
        return lambda: NodeSucceeded(self._moment, ref.node, ref.attempt, tuple(made), left_out)

    def _failed(self, held: Held, reason: Reason) -> Callable[[], Event]:
        ref, jitter = held.assignment.ref, self.world.chance.random()
        return lambda: NodeFailed(self._moment, ref.node, ref.attempt, reason, f"ended by {reason}", jitter=jitter)

    def _insist(self, request: Callable[[], None]) -> Life:
        """Ask until there is an answer; a lost lease is one."""
        while True:
            try:
                return (yield from self.call(request))
            except LostLease:
                return None
            except Unreachable:
                yield 1.0

    @property
    def _moment(self) -> datetime:
        return at(self.world.clock.now)

    def sweep(self) -> None:
        """The janitor: no container of an earlier instance is left."""
        self._end_containers()

    def _end_containers(self) -> None:
        for container in self.containers:
            container.killed = min(container.killed, self.world.clock.now)


ENDINGS = {
    "success": 70,
    "exit": 8,
    "oom": 2,
    "type": 1,
    "transfer": 3,
    "infra": 2,
    "release": 5,
    "asks": 8,
    "hang": 4,
    "kills its worker": 3,
}


class World:
    """One installation, its clients and its nemesis, all decided by a seed.

    Every fourth world is calm: networks and controllers fail, but no worker is killed or frozen, so that the fence
    alone keeps two containers of one node apart.
    """

    def __init__(
        self,
        seed: int,
        controller: type[Controller] = Controller,
        worker: type[Worker] = Worker,
        database: type[Database] = Database,
    ) -> None:
        self.chance = Random(seed)
        self.calm = seed % 4 == 0
        self.clock = Clock(self.chance)
        self.store: dict[str, str] = {}
        self.database = database(self.clock, self.chance)
        self.controller = controller(self.database, self.store, self.chance)
        self.workers = [worker(f"worker-{number}", self) for number in range(self.chance.randint(1, 3))]
        self.away_until = 0.0
        self.acknowledged: dict[str, RunID] = {}
        self.won_cancels: set[RunID] = set()
        self.reconcilers = [self.clock.spawn(self.controller.reconcile()) for _ in range(2)]
        for each in self.workers:
            self.clock.spawn(each.start())
        for number in range(2):
            self.clock.spawn(self._client(f"key-{number}"))
        self.clock.spawn(self._nemesis())

    def live(self) -> None:
        """Run to the end: until everything is over, or patience is."""
        self.clock.run(FAULTS_END_S + CATCH_UP_S)
        nothing_waits_unseen(self)
        last = max([FAULTS_END_S, *self.database.deadlines.values()]) + PATIENCE_S
        while self.clock.now < last and not (self.is_over() and self.is_quiet()):
            self.clock.run(self.clock.now + 5)

    def is_over(self) -> bool:
        """True when every run has ended."""
        return all(run.finished_at is not None for run in self.database.runs.values())

    def is_quiet(self) -> bool:
        """True when no container lives."""
        return all(container.gone <= self.clock.now for container in self.containers())

    def containers(self) -> list[Container]:
        """Every container there ever was."""
        return [container for worker in self.workers for container in worker.containers]

    def call(self, request: Callable[[], T]) -> Wait[T]:
        """The answer to a request to the controller. Errors: Unreachable, LostLease."""
        yield self._delay()
        if self._strikes(0.04) or self.clock.now < self.away_until:
            yield CALL_TIMEOUT_S
            raise Unreachable
        if self._strikes(0.04):
            self.clock.spawn(self._repeat(request), self.chance.uniform(0.1, 10))
        try:
            answer = request()
        except Crashed:
            yield CALL_TIMEOUT_S
            raise Unreachable from None
        if self._strikes(0.04):
            yield CALL_TIMEOUT_S
            raise Unreachable
        yield self._delay()
        return answer

    def program(self, ref: Ref) -> Program:
        """What the attempt's program will do."""
        [ending] = self.chance.choices(list(ENDINGS), list(ENDINGS.values()))
        if self.calm and ending == "kills its worker":
            ending = "exit"
        lasts_s = self.chance.choice(
            [self.chance.uniform(0.5, 8), self.chance.uniform(0.5, 8), self.chance.uniform(15, 60)]
        )
        return Program(ending, inf if ending == "hang" else lasts_s, spares=self.chance.random() < 0.3)

    def _strikes(self, rate: float) -> bool:
        return self.clock.now < FAULTS_END_S and self.chance.random() < rate

    def _delay(self) -> float:
        return self.chance.uniform(0.5, 4) if self._strikes(0.1) else self.chance.uniform(0.01, 0.1)

    def _repeat(self, request: Callable[[], object]) -> Life:
        """The same request once more; nobody hears the answer."""
        try:
            request()
        except (Crashed, LostLease):
            return
        yield 0.0

    def _client(self, key: str) -> Life:
        """Creates a run, uploads (nearly) everything, and sometimes changes its mind."""
        yield self.chance.uniform(0, 15)
        plan = self._a_plan()
        beginning = self._a_beginning(plan)
        run_id = yield from self._insist(lambda: self.controller.create(key, plan, beginning))
        self.acknowledged[key] = run_id
        assert run_id in self.database.runs, "an acknowledged run is not there"
        if self.chance.random() < 0.2:
            self.clock.spawn(self._cancel(run_id), self.chance.uniform(0, 60))
        self.clock.spawn(self._answers(run_id))
        if self.chance.random() < 0.05:
            self.clock.spawn(self._exhaust(run_id), self.chance.uniform(0, 60))
        for edge in [edge.name for edge in plan.edges.values() if edge.source is Source.UPLOAD]:
            yield self.chance.uniform(0, 10)
            if self.chance.random() < 0.95:
                yield from self._upload(run_id, edge)

    def _upload(self, run_id: RunID, edge: Edge) -> Life:
        """The object, and perhaps the word that it is there."""
        key = upload_key(run_id, edge)
        self.store[key] = key
        if self.chance.random() < 0.5:
            try:
                yield from self.call(lambda: self.controller.uploaded(run_id, edge))
            except Unreachable:
                return

    def _answers(self, run_id: RunID) -> Life:
        """Nearly every question gets its answer, some of them twice."""
        while self.database.runs[run_id].finished_at is None:
            waiting = [
                node
                for (of, _), node in self.database.nodes.items()
                if of == run_id and node.status is NodeStatus.WAITING and self.chance.random() < 0.8
            ]
            for node in waiting:
                yield from self._insist(partial(self.controller.resume, run_id, node.id, node.rounds))
            yield self.chance.uniform(0.5, 5)

    def _exhaust(self, run_id: RunID) -> Life:
        yield from self._insist(lambda: self.controller.exhaust(run_id))

    def _cancel(self, run_id: RunID) -> Life:
        won = yield from self._insist(lambda: self.controller.cancel(run_id))
        if won:
            self.won_cancels.add(run_id)

    def _insist(self, request: Callable[[], T]) -> Wait[T]:
        while True:
            try:
                return (yield from self.call(request))
            except Unreachable:
                yield 1.0

    def _a_plan(self) -> Plan:
        """A small graph of any shape."""
        known, lines = ["s0", "s1"], []
        for place in range(self.chance.randint(1, 5)):
            inputs = [self._maybe_optional(edge) for edge in self.chance.choices(known, k=self.chance.randint(0, 3))]
            written = [f"n{place}x{number}" for number in range(self.chance.randint(0, 2))]
            outputs = [self._maybe_optional(edge) for edge in written]
            lines.append(f"n{place}: {', '.join(inputs)} -> {', '.join(outputs)}")
            known += written
        plan = a_plan(
            *lines,
            fail_fast=self.chance.random() < 0.5,
            max_attempts=self.chance.randint(1, 3),
            max_restarts=self.chance.randint(1, 3),
            static=self.chance.choice([(), ("s0",), ("s0", "s1")]),
        )
        return replace(plan, timeout_s=RUN_TIMEOUT_S)

    def _a_beginning(self, plan: Plan) -> Beginning:
        """Mostly nothing; at times some nodes are kept and some are not wanted."""
        share = self.chance.choice([0.0, 0.0, 0.4])
        nodes = [node for node in plan.nodes if self.chance.random() < share]
        kept = [node for node in nodes if self.chance.random() < 0.6]
        wrote = {
            node: [out.edge for out in plan.nodes[node].outputs if out.required or self.chance.random() < 0.5]
            for node in kept
        }
        return Beginning(wrote, frozenset(nodes) - frozenset(kept))

    def _maybe_optional(self, edge: str) -> str:
        return edge + self.chance.choice(["", "", "?"])

    def _nemesis(self) -> Life:
        """Something breaks every few seconds, until it heals."""
        while True:
            yield self.chance.uniform(3, 12)
            if self.clock.now > FAULTS_END_S:
                break
            self.chance.choice(self._gentle if self.calm else self._gentle + self._rough)(self)

    def _cut_a_worker_off(self) -> None:
        self.chance.choice(self.workers).cut_until = self.clock.now + self.chance.uniform(5, 50)

    def _stop_the_controllers(self) -> None:
        self.away_until = min(FAULTS_END_S, self.clock.now + self.chance.uniform(1, 25))
        for reconciler in self.reconcilers:
            reconciler.frozen_until = self.away_until

    def _lose_a_job(self) -> None:
        if self.database.jobs:
            del self.database.jobs[self.chance.choice(list(self.database.jobs))]

    def _kill_a_worker(self) -> None:
        for worker in self._victims():
            worker.crash(host=False, back_after_s=self.chance.uniform(1, 25))

    def _kill_a_host(self) -> None:
        for worker in self._victims():
            worker.crash(host=True, back_after_s=self.chance.uniform(1, 60))

    def _freeze_a_worker(self) -> None:
        for worker in self._victims():
            worker.freeze(self.chance.uniform(1, 30))

    def _victims(self) -> list[Worker]:
        """One worker that is up and not frozen, or none."""
        up = [worker for worker in self.workers if worker.processes]
        awake = [worker for worker in up if worker.processes[0].frozen_until <= self.clock.now]
        return [self.chance.choice(awake)] if awake else []

    _gentle = (_cut_a_worker_off, _stop_the_controllers, _lose_a_job)
    _rough = (_kill_a_worker, _kill_a_host, _freeze_a_worker)


def nothing_waits_unseen(world: World) -> None:
    """Whoever may start has a job, and whatever was uploaded is known: polling alone keeps everything right."""
    rows = world.database
    for (run_id, _), node in rows.nodes.items():
        claimable = node.status in {NodeStatus.READY, NodeStatus.RETRYING}
        assert not claimable or Ref(run_id, node.id, node.attempt + 1) in rows.jobs
    for run in rows.runs.values():
        for edge in run.plan.edges:
            overlooked = upload_key(run.id, edge) in world.store and (run.id, edge) not in rows.artifacts
            assert not overlooked or run.end is not None or run.finished_at is not None


def every_run_is_over(world: World) -> None:
    """Within its deadline, or some patience after the last fault (I1)."""
    for run in world.database.runs.values():
        assert run.finished_at is not None, f"{run.id} is {status_of(run)}: {world.database.whole(run.id).counts}"


def nothing_is_left(world: World) -> None:
    """No lease and no container (I5)."""
    assert not world.database.leases
    assert world.is_quiet()


def every_story_is_sound(world: World) -> None:
    """What the rows went through breaks no invariant of a run (I2, I3, I4, I7, I10)."""
    for run_id in world.database.runs:
        for holds in INVARIANTS:
            holds(world.database.story(run_id))


def every_artifact_is_what_its_maker_wrote(world: World) -> None:
    """No zombie has written over it (I2)."""
    for artifact in world.database.artifacts.values():
        assert world.store[artifact.key] == artifact.sha256


def records_are_numbered_without_a_gap(world: World) -> None:
    """From one, in each run (I7)."""
    for run_id in world.database.runs:
        numbers = [number for of, number in world.database.records if of == run_id]
        assert numbers == list(range(1, len(numbers) + 1))


def no_node_lives_twice_for_long(world: World) -> None:
    """Two containers of one node overlap less than the lease; in a calm world not at all (I6)."""
    allowed_s = 0.0 if world.calm else LEASE_S
    by_node: dict[tuple[RunID, NodeID], list[Container]] = {}
    for container in world.containers():
        by_node.setdefault((container.ref.run, container.ref.node), []).append(container)
    for containers in by_node.values():
        ordered = sorted(containers, key=lambda container: container.began)
        for place, early in enumerate(ordered):
            for late in ordered[place + 1 :]:
                overlap_s = min(early.gone, late.gone) - late.began
                assert overlap_s <= allowed_s, f"{early} and {late} live side by side for {overlap_s:.1f} s"


def one_key_is_one_run(world: World) -> None:
    """However often it was sent (I10)."""
    assert len(world.database.runs) == len(world.database.keys)
    for key, run_id in world.acknowledged.items():
        assert world.database.keys[key] == run_id


def a_cancel_that_won_has_won(world: World) -> None:
    """Never cancelled, later complete (I10)."""
    for run_id in world.won_cancels:
        assert status_of(world.database.runs[run_id]) is RunStatus.STOPPED


CHECKS: tuple[Callable[[World], None], ...] = (
    every_run_is_over,
    nothing_is_left,
    every_story_is_sound,
    every_artifact_is_what_its_maker_wrote,
    records_are_numbered_without_a_gap,
    no_node_lives_twice_for_long,
    one_key_is_one_run,
    a_cancel_that_won_has_won,
)


def simulate(
    seed: int,
    controller: type[Controller] = Controller,
    worker: type[Worker] = Worker,
    database: type[Database] = Database,
) -> World:
    """The world of the seed after its whole story. Errors: AssertionError that says how to see it again."""
    try:
        world = World(seed, controller, worker, database)
        world.live()
        for check in CHECKS:
            check(world)
    except Exception as fault:
        raise AssertionError(f"seed {seed}: again with python -m tests.support.simulation {seed}") from fault
    return world


def main() -> None:
    """Run the seeds that the command line names: the first, and how many."""
    first, count = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    ends: Counter[str] = Counter()
    for seed in range(first, first + count):
        ends.update(status_of(run).value for run in simulate(seed).database.runs.values())
    print(f"{count} worlds from seed {first}: {dict(ends)}")


if __name__ == "__main__":
    main()
