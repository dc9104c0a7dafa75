"""Plans by run. A plan never changes, so a copy in memory is as good as the row."""

from collections import OrderedDict

from pupload.db.pool import Connection
from pupload.db.runs import fetch_plan
from pupload.flow.plan import Plan
from pupload.run.state import RunID

_MOST_NODES = 100_000


class PlanCache:
    """The plans used last, up to a bound on their nodes together."""

    def __init__(self) -> None:
        self._plans: OrderedDict[RunID, Plan] = OrderedDict()
        self._nodes = 0

    async def get(self, connection: Connection, run_id: RunID) -> Plan:
        """The plan of the run.

        Errors: NotFound.
        """
        if (known := self.known(run_id)) is not None:
            return known
        plan = await fetch_plan(connection, run_id)
        self.put(run_id, plan)
        return plan

    def known(self, run_id: RunID) -> Plan | None:
        """The plan, if it is in memory."""
        if run_id in self._plans:
            self._plans.move_to_end(run_id)
        return self._plans.get(run_id)

    def put(self, run_id: RunID, plan: Plan) -> None:
        """Keep the plan."""
        if run_id in self._plans:
            return
        self._plans[run_id] = plan
        self._nodes += len(plan.nodes)
        while self._nodes > _MOST_NODES and len(self._plans) > 1:
            _, dropped = self._plans.popitem(last=False)
            self._nodes -= len(dropped.nodes)
