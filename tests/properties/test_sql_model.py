"""Four controllers and four workers at once on a real PostgreSQL: whatever each does, the rows stay true.

A script says what each of four players does, one thing after the other; the four play at the same time, each with a
controller of its own. What interleaves is the database's choice, what is done is hypothesis's.

More scripts: `SQL_SCRIPTS=1000 python -m pytest tests/properties/test_sql_model.py --hypothesis-seed=7`.
"""

import asyncio
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pupload.controller.leasing import KnownWorker
from pupload.controller.lines import record_lines
from pupload.controller.tools import ToolAnswers
from pupload.errors import Conflict, LostLease
from pupload.flow.plan import Plan, Reason, Retry, ToolOffer
from pupload.flow.tools import ToolResult
from pupload.protocol import Assignment, Beat, Finish, InputFound, Line, Lines, Outcome
from pupload.run.state import TERMINAL, RunID, RunStatus
from tests.properties.test_transition import plans
from tests.support.parts import ROOMY, Desk, a_desk, a_success, deadlocks
from tests.support.postgres import a_database
from tests.support.rows import RESTING, RunRows, everything_claimable_is_queued_once, fetch_rows
from tests.support.runs import BEGINNING, sources

pytestmark = pytest.mark.integration

SCRIPTS = int(os.environ.get("SQL_SCRIPTS", "60"))
PLAYERS = 4
ROUNDS = 40

OFFER = ToolOffer({"look": {"name": "look", "parameters": {}}})
ANSWER = ToolResult(tool_call_id="1", content="there")

_numbers = itertools.count(1)

T = TypeVar("T")


@dataclass(frozen=True)
class Move:
    """What a player does next; `choice` picks among those that it can be done to."""

    act: str
    choice: int


ACTS = {
    "upload": 5,
    "claim": 8,
    "succeed": 7,
    "fail": 4,
    "release": 1,
    "ask": 3,
    "answer": 4,
    "overwrite": 3,
    "beat": 2,
    "tell": 4,
    "repeat": 2,
    "restart": 1,
    "expire": 1,
    "cancel": 1,
    "time_out": 1,
    "reconcile": 1,
    "forget_job": 1,
    "create": 1,
}
MOVES = st.builds(
    Move, st.sampled_from([act for act, weight in ACTS.items() for _ in range(weight)]), st.integers(0, 1000)
)


@dataclass(frozen=True)
class Script:
    """The flows that are run, and what each player does."""

    plans: list[Plan]
    moves: list[list[Move]]


SCRIPT = st.builds(
    Script,
    st.lists(plans(), min_size=1, max_size=2),
    st.lists(st.lists(MOVES, min_size=5, max_size=25), min_size=PLAYERS, max_size=PLAYERS),
)


@dataclass
class Table:
    """What all players see: the runs, and every attempt that anybody was ever given."""

    runs: dict[str, tuple[RunID, Plan]]
    given: list[Assignment] = field(default_factory=list)
    accepted: Counter[str] = field(default_factory=Counter)
    told: set[str] = field(default_factory=set)


@dataclass
class Player:
    """A worker and a client in one, with a controller that nobody else uses."""

    desk: Desk
    worker: KnownWorker
    table: Table
    held: list[Assignment] = field(default_factory=list)
    instance: int = 0

    async def play(self, moves: list[Move]) -> None:
        for move in moves:
            await getattr(self, move.act)(move.choice)

    async def create(self, choice: int) -> None:
        """Again, under the key of a run that is there."""
        key, (run_id, plan) = self._any(list(self.table.runs.items()), choice)
        found, new = await self.desk.create(f"run_{next(_numbers)}", plan, key)
        assert (found, new) == (run_id, False)

    async def upload(self, choice: int) -> None:
        run_id, plan = self._run(choice)
        if awaited := [edge for edge in sources(plan) if plan.edges[edge].source == "upload"]:
            await self.desk.receive(run_id, self._any(awaited, choice // 7))

    async def claim(self, choice: int) -> None:
        await self._let_time_pass()
        claimed = await self.desk.claim(self.worker, self._name, most=1 + choice % 3)
        self.held += claimed
        self.table.given += claimed

    async def succeed(self, choice: int) -> None:
        if self.held:
            assignment = self._take(choice)
            absent = [out.edge for out in assignment.outputs if not out.required and choice % 2]
            await self._finish(a_success(assignment, absent))

    async def fail(self, choice: int) -> None:
        if self.held:
            ref, reason = (
                self._take(choice).ref,
                self._any([Reason.EXIT, Reason.OOM, Reason.INFRA, Reason.TYPE], choice),
            )
            await self._finish(
                Finish(ref=ref, outcome=Outcome.FAILED, reason=reason, message="no", final=not choice % 9)
            )

    async def release(self, choice: int) -> None:
        if self.held:
            await self._finish(Finish(ref=self._take(choice).ref, outcome=Outcome.RELEASED))

    async def ask(self, choice: int) -> None:
        """An attempt ends with a question; one in five asks for what is not on offer."""
        if self.held:
            calls = json.dumps([{"id": "1", "name": "look" if choice % 5 else "listen"}])
            finish = Finish(ref=self._take(choice).ref, outcome=Outcome.ASKED, exit_code=85, tool_calls=calls)
            await self._finish(finish)

    async def answer(self, choice: int) -> None:
        """Any node may be answered, whether it has asked or not."""
        run_id, plan = self._run(choice)
        answers = ToolAnswers(tool_results=[ANSWER], node_id=self._any(list(plan.nodes), choice // 7))
        with suppress(Conflict):
            await self.desk.parts.tools.resume(run_id, answers)

    async def answer_all(self) -> None:
        """Whatever waits is answered."""
        for run_id, plan in self.table.runs.values():
            for node in plan.nodes:
                with suppress(Conflict):
                    await self.desk.parts.tools.resume(run_id, ToolAnswers(tool_results=[ANSWER], node_id=node))

    async def overwrite(self, choice: int) -> None:
        """Finish well, having read other bytes than who read them before."""
        if self.held:
            assignment = self._take(choice)
            read = [
                InputFound(edge=each.edge, size_bytes=3, sha256=str(choice % 2), content_type="text/plain")
                for each in assignment.inputs
                if each.content is not None
            ]
            await self._finish(a_success(assignment).model_copy(update={"inputs": read}))

    async def beat(self, _choice: int) -> None:
        beat = Beat(instance=self._name, attempts=[each.ref for each in self.held], free=ROOMY, wait_s=0)
        answer = await self.desk.parts.claims.beat(self.worker, beat)
        lost = {ref.lease for ref in answer.lost}
        self.held = [each for each in self.held if each.ref.lease not in lost]

    async def tell(self, choice: int) -> None:
        if self.held:
            text = f"line {next(_numbers)}"
            line = Line(at=BEGINNING, stream="stdout", text=text)
            lines = Lines(ref=self._any(self.held, choice).ref, lines=[line], progress=choice % 100)
            try:
                await record_lines(self.desk.database, lines)
                self.table.told.add(text)
            except LostLease:
                pass

    async def repeat(self, choice: int) -> None:
        """Report of any attempt that there ever was, as a call that is sent twice does."""
        if self.table.given:
            await self._finish(a_success(self._any(self.table.given, choice)))

    async def restart(self, _choice: int) -> None:
        """The worker is killed and begins anew; what it held is lost."""
        self.instance += 1
        self.held.clear()
        await self.desk.greet(self.worker, self._name)
        await self.desk.reconciler.lost_attempts()

    async def expire(self, choice: int) -> None:
        """A lease runs out, and is looked for while its worker may still speak."""
        if self.table.given:
            ref = self._any(self.table.given, choice).ref
            async with self.desk.database.connection() as connection:
                await connection.execute(
                    "UPDATE attempts SET lease_until = now() - interval '1 s' WHERE run_id = $1 AND lease = $2",
                    ref.run_id,
                    ref.lease,
                )
            await self.desk.reconciler.lost_attempts()

    async def cancel(self, choice: int) -> None:
        await self.desk.parts.service.cancel(self._run(choice)[0])

    async def time_out(self, choice: int) -> None:
        if choice % 3 == 0:
            async with self.desk.database.connection() as connection:
                late = "UPDATE runs SET deadline = now() - interval '1 s' WHERE id = $1"
                await connection.execute(late, self._run(choice)[0])
            await self.desk.reconciler.overdue_runs()

    async def reconcile(self, _choice: int) -> None:
        await self.desk.reconciler.lost_attempts()
        await self.desk.reconciler.overdue_runs()
        await self.desk.reconciler.unqueued_nodes()

    async def forget_job(self, _choice: int) -> None:
        """A row of the queue is lost, which nothing of ours does."""
        async with self.desk.database.connection() as connection:
            await connection.execute(
                "DELETE FROM pgqueuer WHERE id IN (SELECT id FROM pgqueuer ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)"
            )

    async def _let_time_pass(self) -> None:
        """Retries fall due at once."""
        async with self.desk.database.connection() as connection:
            await connection.execute(
                "UPDATE pgqueuer SET execute_after = now() - interval '1 s' WHERE id IN"
                " (SELECT id FROM pgqueuer WHERE execute_after > now() - interval '1 s' FOR UPDATE SKIP LOCKED)"
            )

    async def _finish(self, finish: Finish) -> bool:
        try:
            await self.desk.parts.reports.finish(finish)
        except LostLease:
            return False
        self.table.accepted[finish.ref.lease] += 1
        return True

    @property
    def _name(self) -> str:
        return str(self.instance)

    def _run(self, choice: int) -> tuple[RunID, Plan]:
        return self._any(list(self.table.runs.values()), choice)

    def _take(self, choice: int) -> Assignment:
        return self.held.pop(choice % len(self.held))

    @staticmethod
    def _any(among: Sequence[T], choice: int) -> T:
        return among[choice % len(among)]


class Stage:
    """Four desks on one database, kept over all scripts; each script has runs of its own."""

    def __init__(self, server_dsn: str, folder: Path) -> None:
        self._server_dsn, self._folder = server_dsn, folder
        self._runner = asyncio.Runner()
        self._open = AsyncExitStack()
        self.desks: list[Desk] = []
        self.workers: list[KnownWorker] = []

    def __enter__(self) -> "Stage":
        self._runner.run(self._set_up())
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._open.aclose())
        self._runner.close()

    async def _set_up(self) -> None:
        dsn = await self._open.enter_async_context(a_database(self._server_dsn))
        for number in range(PLAYERS):
            desk = await self._open.enter_async_context(a_desk(dsn, self._folder))
            self.desks.append(desk)
            self.workers.append(await desk.worker(f"worker-{number}", "0"))

    def play(self, script: Script) -> list[RunRows]:
        """The rows of the script's runs at their end; every promise was kept on the way."""
        return self._runner.run(self._play(script))

    async def _play(self, script: Script) -> list[RunRows]:
        await self._clear()
        table = Table({})
        for plan in script.plans:
            table.runs |= await self._create(plan)
        players = [Player(desk, worker, table) for desk, worker in zip(self.desks, self.workers, strict=True)]
        async with asyncio.TaskGroup() as group:
            for player, moves in zip(players, script.moves, strict=True):
                group.create_task(player.play(moves))
        await self._check(table)
        for player in players:
            await player.restart(0)
        await self._play_to_the_end(players[0])
        return await self._check(table)

    async def _clear(self) -> None:
        async with self.desks[0].database.connection() as connection:
            await connection.execute("TRUNCATE runs CASCADE")
            await connection.execute("TRUNCATE pgqueuer")
            await connection.execute("UPDATE workers SET instance = '0'")

    async def _create(self, plan: Plan) -> dict[str, tuple[RunID, Plan]]:
        """One run, asked for by all four at once under one key (I10)."""
        quick = {
            node_id: replace(node, retry=Retry(delay_s=0.001), ask_exit_code=85) for node_id, node in plan.nodes.items()
        }
        plan, key = replace(plan, nodes=quick, tools=OFFER), f"key {next(_numbers)}"
        made = await asyncio.gather(*(desk.create(f"run_{next(_numbers)}", plan, key) for desk in self.desks))
        assert len({run_id for run_id, _ in made}) == 1
        assert [new for _, new in made].count(True) == 1
        return {key: (made[0][0], plan)}

    async def _check(self, table: Table) -> list[RunRows]:
        await asyncio.gather(*(desk.reconciler.unqueued_nodes() for desk in self.desks[:2]))
        async with self.desks[0].database.connection() as connection:
            found = [await fetch_rows(connection, run_id) for run_id, _ in table.runs.values()]
        for rows in found:
            for holds in (*RESTING, everything_claimable_is_queued_once):
                holds(rows)
        assert set(table.accepted.values()) <= {1}
        ended = {each["lease"] for rows in found for each in rows.attempts if each["state"] not in {"running", "lost"}}
        assert ended == set(table.accepted)
        assert Counter(line for rows in found for line in rows.lines) == Counter(table.told)
        assert await deadlocks(self.desks[0]) == 0, "locks were not taken in one order"
        return found

    async def _play_to_the_end(self, player: Player) -> None:
        """With every upload there and a worker that fails no more, every run ends (I1)."""
        for run_id, plan in player.table.runs.values():
            for edge in sources(plan):
                await player.desk.receive(run_id, edge)
        for _ in range(ROUNDS):
            if not await self._unfinished():
                return
            await player.reconcile(0)
            await player.answer_all()
            await player.claim(2)
            while player.held:
                await player.succeed(0)
        assert not await self._unfinished()

    async def _unfinished(self) -> list[str]:
        async with self.desks[0].database.connection() as connection:
            rows = await connection.fetch("SELECT id FROM runs WHERE finished_at IS NULL")
        return [row["id"] for row in rows]


@pytest.fixture(scope="module")
def stage(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(postgres, tmp_path_factory.mktemp("stage")) as stage:
        yield stage


# Not shrunk: what four players do at once is never quite the same again, and each script takes a while.
@settings(
    max_examples=SCRIPTS,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(SCRIPT)
def test_rows_stay_true_whatever_four_controllers_do_at_once(stage: Stage, script: Script) -> None:
    for rows in stage.play(script):
        assert RunStatus(rows.header["status"]) in TERMINAL
