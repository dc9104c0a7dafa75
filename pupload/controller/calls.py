"""Runs by request: of a flow that is kept or posted, and the wait for how they end."""

import asyncio
import logging
from dataclasses import dataclass, replace

from pupload.controller.flows import Flows
from pupload.controller.ground import Ground
from pupload.controller.preparation import duration_of
from pupload.controller.sessions import Sessions
from pupload.controller.signals import run_topic
from pupload.controller.submission import Definition, Start, Submission
from pupload.db.runs import no_such_run
from pupload.db.sql import SQL
from pupload.errors import DatabaseUnavailable, InvalidRequest
from pupload.flow.load import PostedRun
from pupload.flow.request import RunRequest
from pupload.run.state import RunID, RunStatus

_LOG = logging.getLogger(__name__)
_LOOK_S = 15.0
_AGAIN_S = 0.5


@dataclass(frozen=True, slots=True)
class Call:
    """Who calls, and how the same call is known again. `key` is the stored form of an Idempotency-Key."""

    account: str = ""
    key: str | None = None
    sha256: bytes = b""


class Calls:
    """Makes runs of requests."""

    def __init__(self, ground: Ground, flows: Flows, sessions: Sessions, submission: Submission) -> None:
        self._config, self._service, self._signals = ground.config, ground.service, ground.signals
        self._flows, self._sessions, self._submission = flows, sessions, submission

    async def start(self, flow: str, request: RunRequest, call: Call) -> RunID:
        """The run of a flow that is kept.

        Errors: as `Flows.resolve` and `Submission.start`.
        """
        # First: the flow, or the session, may be gone since.
        earlier = await self.earlier(call)
        return earlier or await self._start(
            await self._flows.resolve(call.account, flow, request.version), request, call
        )

    async def start_posted(self, posted: PostedRun, call: Call) -> RunID:
        """The run of the flow that the request brings.

        Errors: as `Submission.start`.
        """
        if posted.version is not None:
            raise InvalidRequest("Version picks one of a flow that is kept; leave it out beside Flow")
        if earlier := await self.earlier(call):
            return earlier
        defs = await self._flows.complete(call.account, posted.flow, posted.node_defs)
        return await self._start(Definition(posted.flow, defs), posted, call)

    async def _start(self, definition: Definition, request: RunRequest, call: Call) -> RunID:
        return await self.begin(Start(definition, request, called=True), call)

    async def earlier(self, call: Call) -> RunID | None:
        """The run that the same call made before.

        Errors: Conflict when its key came with another request.
        """
        return await self._service.earlier(call.key, call.sha256)

    async def begin(self, start: Start, call: Call) -> RunID:
        """The run of this start, for who calls, in the session that the request names or in a new one.

        Errors: NotFound for a session; as `Submission.start`.
        """
        session = await self._sessions.of_call(start.request.session_id, call.account)
        begun = replace(
            start,
            session_id=session.id,
            session_is_new=not session.named,
            account=call.account,
            idempotency_key=call.key,
            sha256=call.sha256,
        )
        return await self._submission.start(begun)

    def wait_s(self, request: RunRequest) -> float:
        """How long a synchronous call waits.

        Errors: InvalidRequest for what is no duration, or longer than this server waits.
        """
        most_s = self._config.sync_wait_s
        if request.wait is None:
            return most_s
        wait_s = duration_of("Wait", request.wait).total_seconds()
        if wait_s > most_s:
            raise InvalidRequest(f"Wait is at most {most_s:g}s here; start the run without waiting, and ask for it")
        return wait_s

    async def settle(self, run_id: RunID, wait_s: float) -> None:
        """Returns when the run is over, or only an outside act can move it, or when the wait is.

        Errors: NotFound for a run that was removed meanwhile.
        """
        clock = asyncio.get_running_loop().time
        until = clock() + wait_s
        with self._signals.listen(run_topic(run_id)) as heard:
            while await self._moves(run_id) and (left_s := until - clock()) > 0:
                await self._signals.wait(heard, min(left_s, _LOOK_S))

    async def _moves(self, run_id: RunID) -> bool:
        try:
            async with self._service.database.connection() as connection:
                header = await connection.fetchrow(SQL["run_header"], run_id)
        except DatabaseUnavailable as error:
            # The run goes on by itself, and so does the wait for it.
            _LOG.warning("the wait for run %s goes on without the database: %s", run_id, error)
            await asyncio.sleep(_AGAIN_S)
            return True
        if header is None:
            raise no_such_run(run_id)
        return bool(header["status"] == RunStatus.RUNNING.value)
