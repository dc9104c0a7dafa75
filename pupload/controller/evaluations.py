"""Evaluations: flows that judge a run once it has ended. Whatever becomes of them, the judged run stays as it is."""

import asyncio
import json
import logging
from collections.abc import Sequence

import asyncpg
from pydantic import ValidationError

from pupload.answers.evals import EvalAnswer, EvalVerdict, RunEvals
from pupload.controller.children import Children, lent
from pupload.controller.service import Service
from pupload.controller.signals import Signals, run_topic
from pupload.controller.stores import Stores
from pupload.controller.submission import Start, Submission
from pupload.db.creation import Caller
from pupload.db.runs import artifact_of, failure_of, no_such_run
from pupload.db.sql import SQL
from pupload.errors import Malformed, PuploadError, TooLarge, Unavailable
from pupload.flow.load import read_json
from pupload.flow.plan import EvalPlan, NodeID, Plan
from pupload.flow.request import EvalsWish, RunRequest
from pupload.run.state import Artifact, RunID, RunStatus

_LOG = logging.getLogger(__name__)
_VERDICT_BYTES = 65_536
_LOOK_S = 15.0


class Evaluations:
    """Evaluations of ended runs."""

    def __init__(
        self, service: Service, stores: Stores, signals: Signals, submission: Submission, children: Children
    ) -> None:
        self._service, self._stores, self._signals = service, stores, signals
        self._submission, self._children = submission, children

    async def begin(self, judged: RunID) -> None:
        """Start the run of each evaluation that is pending; one that was started before stays as it is.

        Errors: Unavailable when it cannot be done now.
        """
        async with self._service.database.connection() as connection:
            plan = await self._service.plans.get(connection, judged)
            header = await connection.fetchrow(SQL["run_header"], judged)
            rows = await connection.fetch(SQL["evaluations_of_run"], judged)
            artifacts = [artifact_of(row) for row in await connection.fetch(SQL["artifacts_of_run"], judged)]
        pending = {row["name"] for row in rows if row["state"] == "pending" and not row["eval_run"]}
        for each in plan.evals:
            if header is not None and each.name in pending:
                await self._begin(each, header, artifacts)

    async def _begin(self, each: EvalPlan, judged: asyncpg.Record, artifacts: Sequence[Artifact]) -> None:
        try:
            run_id = await self._submission.start(await self._start_of(each, judged, artifacts))
        except Unavailable:
            raise
        except PuploadError as error:
            await self._settle(judged["id"], each.name, error=f"it cannot be run: {error}")
        except Exception as error:  # noqa: BLE001 - see below
            # It would come back for ever, and nobody would learn why nothing happens.
            _LOG.exception("evaluation %s of run %s cannot be run", each.name, judged["id"])
            await self._settle(judged["id"], each.name, error=f"it cannot be run: {error}")
        else:
            async with self._service.database.connection() as connection:
                await connection.execute(SQL["begin_evaluation"], judged["id"], each.name, run_id)

    async def _start_of(self, each: EvalPlan, judged: asyncpg.Record, artifacts: Sequence[Artifact]) -> Start:
        there = {artifact.edge: artifact for artifact in artifacts}
        run_id = RunID(judged["id"])
        return Start(
            await self._children.definition(judged["account"], each.flow),
            RunRequest(
                inputs={edge: given.value for edge, given in each.inputs.items() if given.edge is None},
                evals=EvalsWish(run_mode="skip"),
            ),
            present=lent(run_id, {e: there.get(given.edge) for e, given in each.inputs.items() if given.edge}),
            closed=True,
            caller=Caller(run_id, NodeID(each.name), 0),
            root=judged["root_run"] or run_id,
            account=judged["account"],
            idempotency_key=f"eval:{run_id}/{each.name}",
        )

    async def settle(self, run: asyncpg.Record) -> None:
        """Note what the run of an evaluation found. `run` is its own row.

        Errors: Unavailable when its verdict cannot be read now.
        """
        if run["finished_at"] is None:
            return
        judged, name = RunID(run["parent_run"]), run["parent_node"]
        if run["status"] != RunStatus.COMPLETE:
            failure = failure_of(run["failure"])
            why = failure.message if failure else f"its run is {run['status']}"
            await self._settle(judged, name, error=why, run_id=run["id"])
            return
        try:
            verdict = await self._verdict(judged, name, RunID(run["id"]))
        except Unavailable:
            raise
        except PuploadError as error:
            await self._settle(judged, name, error=str(error), run_id=run["id"])
        else:
            await self._settle(judged, name, verdict=verdict, run_id=run["id"])

    async def _verdict(self, judged: RunID, name: str, run_id: RunID) -> EvalVerdict:
        async with self._service.database.connection() as connection:
            plan = await self._service.plans.get(connection, judged)
            edge = next(each.verdict for each in plan.evals if each.name == name)
            rows = await connection.fetch(SQL["artifacts_of_edges"], run_id, [edge])
        if not rows:
            raise Malformed(f"its run wrote nothing on edge {edge!r}, which is to hold its verdict")
        artifact = artifact_of(rows[0])
        store = await self._stores.of_artifact(run_id, artifact)
        try:
            return read_verdict(await store.get(artifact.key, _VERDICT_BYTES))
        except TooLarge as error:
            raise Malformed(f"its verdict has more than {_VERDICT_BYTES} bytes; write the JSON object alone") from error

    async def _settle(
        self, judged: RunID, name: str, *, verdict: EvalVerdict | None = None, error: str = "", run_id: str = ""
    ) -> None:
        async with self._service.database.connection() as connection:
            await connection.execute(
                SQL["settle_evaluation"],
                judged,
                name,
                "failed" if verdict is None else "done",
                None if verdict is None else json.dumps(verdict.wire()),
                error,
                run_id,
            )

    async def of_run(self, judged: RunID) -> RunEvals:
        """What became of the run's evaluations by now.

        Errors: NotFound.
        """
        async with self._service.database.connection() as connection:
            plan = await self._service.plans.get(connection, judged)
            rows = await connection.fetch(SQL["evaluations_of_run"], judged) if plan.evals else []
            if not plan.evals and await connection.fetchrow(SQL["run_header"], judged) is None:
                raise no_such_run(judged)
        return RunEvals(evals=_answers(plan, rows))

    async def settled(self, judged: RunID, wait_s: float) -> RunEvals:
        """As `of_run`, once none is pending of a run that is over, or when the wait is."""
        clock = asyncio.get_running_loop().time
        until = clock() + wait_s
        with self._signals.listen(run_topic(judged)) as heard:
            while True:
                found = await self.of_run(judged)
                left_s = until - clock()
                if left_s <= 0 or not await self._are_coming(judged, found):
                    return found
                await self._signals.wait(heard, min(left_s, _LOOK_S))

    async def _are_coming(self, judged: RunID, found: RunEvals) -> bool:
        if all(each.status != "pending" for each in found.evals):
            return False
        async with self._service.database.connection() as connection:
            header = await connection.fetchrow(SQL["run_header"], judged)
        return header is not None and header["finished_at"] is not None


def _answers(plan: Plan, rows: Sequence[asyncpg.Record]) -> list[EvalAnswer]:
    by_name = {row["name"]: row for row in rows}
    return [_answer(each.name, by_name.get(each.name)) for each in plan.evals]


def _answer(name: str, row: asyncpg.Record | None) -> EvalAnswer:
    if row is None:
        return EvalAnswer(name=name, status="pending")
    verdict = EvalVerdict.model_validate_json(row["verdict"]) if row["verdict"] else None
    return EvalAnswer(name=name, status=row["state"], run_id=row["eval_run"], verdict=verdict, error=row["error"])


def read_verdict(content: bytes) -> EvalVerdict:
    """The verdict that an evaluation wrote.

    Errors: Malformed saying what is wrong with it.
    """
    try:
        return EvalVerdict.model_validate(read_json(content))
    except Malformed as error:
        raise Malformed("its verdict is not JSON; write one object {type, pass | score | category, reason}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the object"
        raise Malformed(f"its verdict is not one: {where}: {first['msg']}") from error
