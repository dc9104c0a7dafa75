"""Client tools: a node asks, the run waits without holding anything, the client answers, the node goes on.

What a worker says that a program asks is weighed before it counts; an answer and the event that it makes are one
transaction, so that of two answers one wins.
"""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass

import asyncpg
from pydantic import Field

from pupload.config import ControllerConfig
from pupload.controller.folders import STATE, Archive, LentFolder, folder_key
from pupload.controller.service import Service
from pupload.db.pool import Connection
from pupload.db.runs import lock_run
from pupload.db.sql import SQL
from pupload.errors import Conflict, InvalidRequest, TooLarge
from pupload.failpoints import reach
from pupload.flow.given import Given, Text
from pupload.flow.load import MAX_VALUE, require_sane
from pupload.flow.plan import NodeID, NodePlan, Plan, Reason, ToolChoice
from pupload.flow.tools import Refusal, ToolCall, ToolResult, file_for_node, weigh_calls
from pupload.protocol import AttemptRef, Finish, Outcome, ToolSheet
from pupload.run.commands import Step
from pupload.run.events import ToolsAnswered
from pupload.run.state import NodeStatus, RunID

MAX_RESULTS = 1024 * 1024
"""Characters of all results of one answer, as JSON."""


class ToolAnswers(Given):
    """What the client answers; `node_id` where several nodes wait and this is for one of them."""

    tool_results: list[ToolResult] = Field(default_factory=list, max_length=10_000)
    node_id: Text | None = None


@dataclass(frozen=True, slots=True)
class Counted:
    """An attempt's end as it counts, for the attempt's row and for the run alike.

    `calls` are what it asks of the client; `code` is the run's error code, if it fails of this.
    """

    finish: Finish
    calls: tuple[ToolCall, ...] = ()
    code: str = ""


@dataclass(frozen=True, slots=True)
class Going:
    """What a node that may ask goes on with: the newest answers as JSON, and its state; None before there is one."""

    results: str | None = None
    state: Archive | None = None


FIRST_TIME = Going()
"""Of a node that has not asked yet."""


class Tools:
    """What nodes ask of clients."""

    def __init__(self, config: ControllerConfig, service: Service) -> None:
        self._config, self._service = config, service

    async def counted(self, connection: Connection, plan: Plan, finish: Finish) -> Counted:
        """The end that a worker reports of an attempt that it holds, judged by the rules for tools.

        Errors: InvalidRequest for a question of a node that may not ask.
        """
        node = plan.nodes[NodeID(finish.ref.node_id)]
        asked = finish.outcome is Outcome.ASKED
        if node.ask_exit_code is None and asked:
            raise InvalidRequest(f"node {node.id!r} may not ask")
        if node.ask_exit_code is None or not (asked or plan.tools.choice is ToolChoice.REQUIRED):
            return Counted(finish)
        rounds = await connection.fetchval(SQL["rounds_of_node"], finish.ref.run_id, node.id)
        if asked:
            return await self._weighed(plan, finish, rounds)
        return Counted(finish) if rounds else _refused(finish, _SILENT)

    async def _weighed(self, plan: Plan, finish: Finish, rounds: int) -> Counted:
        most = self._config.max_tool_rounds
        if rounds >= most:
            text = f"the node asked for tools more than {most} times"
            return _refused(finish, Refusal("TOOL_ITERATION_LIMIT", text))
        # On a thread: schemas and arguments may be large.
        weighed = await asyncio.to_thread(weigh_calls, plan.tools, finish.tool_calls)
        return _refused(finish, weighed) if isinstance(weighed, Refusal) else Counted(finish, weighed)

    async def record(self, connection: Connection, counted: Counted, step: Step) -> None:
        """Keep what was asked in the step's transaction, if the node waits for it now."""
        ref = counted.finish.ref
        if step.stale or not counted.calls or step.run.nodes[NodeID(ref.node_id)].status is not NodeStatus.WAITING:
            return
        state = next((found for found in counted.finish.folders if found.name == STATE), None)
        await connection.execute(
            SQL["insert_round"],
            ref.run_id,
            ref.node_id,
            step.run.nodes[NodeID(ref.node_id)].rounds,
            ref.attempt,
            json.dumps([call.wire() for call in counted.calls]),
            *((folder_key("", ref, STATE), state.size_bytes, state.sha256) if state else _NO_STATE),
        )

    async def resume(self, run_id: RunID, answers: ToolAnswers) -> None:
        """Let the nodes go on that wait for these answers.

        Errors: NotFound; Conflict when nothing waits for an answer; InvalidRequest when the answers are not exactly
        those that were asked for; TooLarge.
        """
        results = [result.wire() for result in answers.tool_results]
        require_sane({"ToolResults": results}, most_characters=MAX_VALUE)
        if len(json.dumps(results)) > MAX_RESULTS:
            raise TooLarge(f"all results of one answer have at most {MAX_RESULTS} characters")
        await self._service.database.transact(lambda connection: self._resume_in(connection, run_id, answers))
        await reach("resume.committed")

    async def _resume_in(self, connection: Connection, run_id: RunID, answers: ToolAnswers) -> None:
        locked = await lock_run(connection, run_id)
        waiting = await connection.fetch(SQL["open_rounds"], run_id) if locked.row["ending"] is None else []
        chosen = [row for row in waiting if answers.node_id in {None, row["node_id"]}]
        if not chosen:
            who = "the run" if answers.node_id is None else f"node {answers.node_id!r}"
            raise Conflict(f"{who} does not wait for tool results now", code="NOT_WAITING_FOR_TOOLS")
        asked = {row["node_id"]: [call["ID"] for call in json.loads(row["calls"])] for row in chosen}
        _require_exactly(asked, answers)
        given = {result.tool_call_id: result for result in answers.tool_results}
        for row in chosen:
            results = [_for_node(given[call_id]) for call_id in asked[row["node_id"]]]
            await self._answer(connection, run_id, row, json.dumps(results))
        await reach("resume.before_commit")

    async def _answer(self, connection: Connection, run_id: RunID, row: asyncpg.Record, results: str) -> None:
        await connection.execute(SQL["answer_round"], run_id, row["node_id"], row["round"], results)
        await self._service.apply_in(
            connection, run_id, lambda at: ToolsAnswered(at, NodeID(row["node_id"]), row["round"])
        )


_NO_STATE = (None, None, None)
_SILENT = Refusal("TOOL_CHOICE_VIOLATED", "the node ended without asking for a tool, but ToolChoice is required")


def _refused(finish: Finish, refusal: Refusal) -> Counted:
    failure = {"outcome": Outcome.FAILED, "reason": Reason.POLICY, "message": refusal.message, "final": True}
    return Counted(finish.model_copy(update=failure), code=refusal.code)


def _require_exactly(asked: dict[str, list[str]], answers: ToolAnswers) -> None:
    """Errors: InvalidRequest naming what is missing and what nobody asked for."""
    wanted = Counter(call_id for ids in asked.values() for call_id in ids)
    if answers.node_id is None and any(count > 1 for count in wanted.values()):
        raise _mismatch("several nodes wait for a call of the same id; answer each with its NodeID")
    given = Counter(result.tool_call_id for result in answers.tool_results)
    problems = [
        *(f"{call_id!r} is missing" for call_id in wanted - given),
        *(f"{call_id!r} was not asked for, or is given twice" for call_id in given - wanted),
    ]
    if problems:
        raise _mismatch("; ".join(problems[:20]))


def _mismatch(text: str) -> InvalidRequest:
    return InvalidRequest(f"the results do not match the calls: {text}", code="TOOL_RESULTS_MISMATCH")


def _for_node(result: ToolResult) -> dict[str, object]:
    return {"tool_call_id": result.tool_call_id, "content": result.content}


async def going(connection: Connection, ref: AttemptRef, rounds: int) -> Going:
    """What an attempt of a node goes on with that has asked `rounds` times."""
    row = await connection.fetchrow(SQL["newest_round"], ref.run_id, ref.node_id) if rounds else None
    if row is None:
        return FIRST_TIME
    key = row["state_key"]
    return Going(row["results"], Archive(key, row["state_bytes"], row["state_sha256"]) if key else None)


def sheet_for(plan: Plan, node: NodePlan, goes_on: Going) -> ToolSheet | None:
    """What the worker gives to the node's program; None for one that may not ask."""
    if node.ask_exit_code is None:
        return None
    return ToolSheet(tools=file_for_node(plan.tools), results=goes_on.results, exit_code=node.ask_exit_code)


def state_folder(node: NodePlan, goes_on: Going, config: ControllerConfig) -> tuple[LentFolder, ...]:
    """The folder that a node which may ask finds as it left it."""
    if node.ask_exit_code is None:
        return ()
    return (LentFolder(STATE, goes_on.state, config.session_bytes, config.session_files, until_done=True),)
