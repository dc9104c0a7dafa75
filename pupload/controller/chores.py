"""What controllers do themselves, soon after a commit: start a called run, stop it, tell of its end, evaluate.

A chore is queued in the transaction that makes it necessary, and gone from the queue once somebody has it. What is to
be done stands in the rows all the same, so that a chore which is lost with its controller is found by a look; and
whatever is done is right when it is done twice.
"""

import asyncio
import logging
from datetime import timedelta
from typing import assert_never

from pupload.config import ControllerConfig
from pupload.controller.children import Children
from pupload.controller.evaluations import Evaluations
from pupload.controller.reconcile import alone
from pupload.controller.service import Service
from pupload.controller.signals import CHORES, Signals
from pupload.db.creation import Caller
from pupload.db.pool import Connection
from pupload.db.sql import SQL
from pupload.errors import PuploadError
from pupload.failpoints import reach
from pupload.flow.plan import NodeID
from pupload.queue import Chore, ChoreKind, call_controllers, enqueue_chores, next_due_s, take_chore
from pupload.run.commands import DispatchNode, Step, StopAttempt
from pupload.run.state import RunID, status_of

_LOG = logging.getLogger(__name__)
_HANDS = 4
_LONGEST_WAIT_S = 30.0
_JUST_AFTER_S = 0.005
_AGAIN_S = 1.0


async def follow(connection: Connection, step: Step) -> None:
    """Queue the chores that the step makes. A follower of the service."""
    chores = _stops(step)
    if step.run.finished_at is not None:
        chores += await _ends(connection, step)
    await enqueue_chores(connection, chores)
    if chores or _calls(step):
        await call_controllers(connection)


def _calls(step: Step) -> bool:
    nodes = step.run.plan.nodes
    return any(isinstance(each, DispatchNode) and nodes[each.node].calls is not None for each in step.commands)


def _stops(step: Step) -> list[Chore]:
    run = step.run
    stops = (each for each in step.commands if isinstance(each, StopAttempt))
    return [Chore(ChoreKind.STOP, run.id, stop.node, stop.attempt) for stop in stops if run.plan.nodes[stop.node].calls]


async def _ends(connection: Connection, step: Step) -> list[Chore]:
    run = step.run
    chores = [Chore(ChoreKind.ENDED, run.id)] if run.called else []
    if run.plan.evals:
        status = status_of(run).value
        states = ["pending" if status in each.on else "skipped" for each in run.plan.evals]
        await connection.execute(SQL["insert_evaluations"], run.id, [each.name for each in run.plan.evals], states)
        chores += [Chore(ChoreKind.EVALUATE, run.id)] if "pending" in states else []
    return chores


class Chores:
    """Does the chores of all runs, side by side with every other controller."""

    def __init__(
        self,
        config: ControllerConfig,
        service: Service,
        signals: Signals,
        children: Children,
        evaluations: Evaluations,
    ) -> None:
        self._config, self._service, self._signals = config, service, signals
        self._children, self._evaluations = children, evaluations

    async def run(self) -> None:
        """Do what there is to do, for ever."""
        # Anew each time: whatever ended this before may have kept some.
        hands = asyncio.Semaphore(_HANDS)
        async with asyncio.TaskGroup() as group:
            with self._signals.listen(CHORES) as heard:
                while True:
                    await hands.acquire()
                    group.create_task(self._do_and_let_go(await self._next(heard), hands))

    async def _next(self, heard: asyncio.Event) -> Chore:
        while True:
            try:
                chore = await self.take()
                if chore is not None:
                    return chore
                await self._signals.wait(heard, await self._next_due_s())
            except PuploadError as error:
                _LOG.warning("cannot look for chores: %s", error)
                await asyncio.sleep(_AGAIN_S)

    async def _next_due_s(self) -> float:
        async with self._service.database.connection() as connection:
            due_s = await next_due_s(connection, [kind.value for kind in ChoreKind])
        return _LONGEST_WAIT_S if due_s is None else due_s + _JUST_AFTER_S

    async def take(self) -> Chore | None:
        """The next chore; the attempt of one that calls a flow has begun with it."""

        async def take(connection: Connection) -> tuple[Chore | None, bool]:
            chore = await take_chore(connection)
            if chore is None or chore.kind is not ChoreKind.CALL:
                return chore, True
            return chore, await self._children.claim_in(connection, _caller(chore))

        while True:
            chore, wanted = await self._service.database.transact(take)
            if wanted:
                return chore

    async def _do_and_let_go(self, chore: Chore, hands: asyncio.Semaphore) -> None:
        try:
            with alone(f"{chore.kind} of run", chore.run_id):
                await reach("chore.taken")
                await self.do(chore)
                await reach("chore.done")
        except PuploadError as error:
            _LOG.warning("%s of run %s: %s", chore.kind, chore.run_id, error)
        finally:
            hands.release()

    async def do(self, chore: Chore) -> None:
        """Do the chore.

        Errors: Unavailable when it cannot be done now; a look finds it then.
        """
        match chore.kind:
            case ChoreKind.CALL:
                await self._children.start(_caller(chore))
            case ChoreKind.STOP:
                await self._children.stop(_caller(chore))
            case ChoreKind.ENDED:
                await self._tell(RunID(chore.run_id))
            case ChoreKind.EVALUATE:
                await self._evaluations.begin(RunID(chore.run_id))
            case _:
                assert_never(chore.kind)

    async def _tell(self, run_id: RunID) -> None:
        """Who waits for the run is a node where it has an attempt, and else an evaluation."""
        async with self._service.database.connection() as connection:
            header = await connection.fetchrow(SQL["run_header"], run_id)
        if header is not None and header["parent_attempt"]:
            await self._children.tell(header)
        elif header is not None:
            await self._evaluations.settle(header)

    async def missed(self) -> None:
        """Calls without a run, ends that nobody heard of, runs that nobody wants, evaluations that were not begun."""
        grace = timedelta(seconds=self._config.reconcile_s)
        async with self._service.database.connection() as connection:
            calls = await connection.fetch(SQL["calls_without_run"], grace)
            ended = await connection.fetch(SQL["calls_with_ended_run"], grace)
            unwanted = await connection.fetch(SQL["unwanted_children"])
            unjudged = await connection.fetch(SQL["evaluations_without_run"], grace)
            judged = await connection.fetch(SQL["evaluations_with_ended_run"], grace)
        for row in calls:
            with alone("call of run", row["run_id"]):
                await self._children.start(Caller(RunID(row["run_id"]), NodeID(row["node_id"]), row["attempt"]))
        for row in (*ended, *judged):
            with alone("end of called run", row["id"]):
                await self._tell(RunID(row["id"]))
        for row in unwanted:
            with alone("unwanted run", row["id"]):
                await self._service.cancel(RunID(row["id"]))
        for row in unjudged:
            with alone("evaluations of run", row["run_id"]):
                await self._evaluations.begin(RunID(row["run_id"]))


def _caller(chore: Chore) -> Caller:
    return Caller(RunID(chore.run_id), NodeID(chore.node_id), chore.attempt)
