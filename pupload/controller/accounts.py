"""What runs cost: a balance for each account, spent by the second of each tier.

Nothing of this is done while no tier has a price. An attempt is charged in the transaction that ends it; what still
runs counts as spent for the look that ends runs whose money is gone.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from pupload.answers.server import AccountAnswer
from pupload.config import ControllerConfig
from pupload.controller.reconcile import alone
from pupload.controller.service import Service
from pupload.db.pool import Connection
from pupload.db.sql import SQL
from pupload.errors import InsufficientCredits
from pupload.flow.plan import NodeID, Plan
from pupload.run.commands import Step
from pupload.run.events import RunExhausted
from pupload.run.state import NodeStatus, RunID
from pupload.tiers import Tier

ANY_TIER = "*"


class Prices:
    """What a second of each tier costs."""

    def __init__(self, config: ControllerConfig, tiers: Mapping[str, Tier]) -> None:
        given = {name: Decimal(str(price)) for name, price in config.prices.items()}
        self.by_tier = {name: given.get(name, given.get(ANY_TIER, Decimal(0))) for name in tiers}

    def __bool__(self) -> bool:
        return any(self.by_tier.values())

    def least(self, plan: Plan) -> Decimal:
        """What the plan costs at least: a second of each of its nodes."""
        return sum((self.of(plan, node) for node in plan.nodes), Decimal(0))

    def of(self, plan: Plan, node: NodeID) -> Decimal:
        """What a second of the node costs."""
        return self.by_tier.get(plan.nodes[node].tier.name, Decimal(0))


async def charge(prices: Prices, connection: Connection, step: Step) -> None:
    """Charge the attempts that the step has ended. A follower of the service."""
    ended = [node for node in step.changed if node.attempt and node.status is not NodeStatus.RUNNING]
    if ended:
        await connection.execute(
            SQL["charge_attempts"],
            step.run.id,
            [node.id for node in ended],
            [node.attempt for node in ended],
            [prices.of(step.run.plan, node.id) for node in ended],
        )


class Accounts:
    """Balances."""

    def __init__(self, service: Service, prices: Prices) -> None:
        self._service, self._prices = service, prices

    async def require(self, account: str, plan: Plan) -> None:
        """Return when the account can pay for the least that the plan costs.

        Errors: InsufficientCredits.
        """
        if not self._prices:
            return
        least = self._prices.least(plan)
        balance = await self._balance(account)
        if balance is not None and (balance <= 0 or balance < least):
            raise InsufficientCredits(f"the run costs at least {least} credits, the account has {balance}")

    async def answer(self, account: str) -> AccountAnswer:
        """The account as its owner sees it."""
        prices = {name: float(price) for name, price in self._prices.by_tier.items() if price}
        balance = await self._balance(account)
        return AccountAnswer(id=account, balance=None if balance is None else float(balance), prices=prices)

    async def _balance(self, account: str) -> Decimal | None:
        async with self._service.database.connection() as connection:
            found: Decimal | None = await connection.fetchval(SQL["account"], account)
        return found

    async def end_exhausted(self) -> None:
        """End the runs whose money is gone."""
        if not self._prices:
            return
        tiers = self._prices.by_tier
        async with self._service.database.connection() as connection:
            rows = await connection.fetch(SQL["exhausted_runs"], list(tiers), list(tiers.values()))
        for row in rows:
            with alone("end of the credits of run", row["id"]):
                exhausted = _over_budget if row["over_budget"] else _without_credits
                await self._service.apply(RunID(row["id"]), exhausted)


def _over_budget(at: datetime) -> RunExhausted:
    return RunExhausted(at, "BUDGET_EXHAUSTED", "the run has cost what its Budget allows; replay it with a larger one")


def _without_credits(at: datetime) -> RunExhausted:
    return RunExhausted(at, "CREDITS_EXHAUSTED", "the account's balance is used up; add credits, then replay the run")


async def add_credit(connection: Connection, account: str, amount: Decimal) -> Decimal:
    """The balance, after `amount` was added to it."""
    balance: Decimal = await connection.fetchval(SQL["credit_account"], account, amount)
    return balance


async def free(connection: Connection, account: str) -> None:
    """Let the account's runs cost what they like."""
    await connection.execute(SQL["free_account"], account)
