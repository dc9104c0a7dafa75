"""Flows by name: drafts, and what a call of a flow runs."""

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import asyncpg

from pupload.answers.flows import DifferenceAnswer, FlowAnswer, FlowComparison, FlowPage, FlowSummary
from pupload.controller.callees import NamedFlows
from pupload.controller.digests import exact
from pupload.controller.documents import KeptDocuments, keep, lacks_secrets, with_known_secrets
from pupload.controller.ground import Ground
from pupload.controller.nodedefs import NodeDefRegistry
from pupload.controller.secrets import SecretBox
from pupload.controller.submission import Definition
from pupload.db.pool import Connection
from pupload.db.sql import SQL
from pupload.errors import InvalidRequest, NotFound
from pupload.flow.callee import Callees
from pupload.flow.check import check
from pupload.flow.compare import Compared, compare
from pupload.flow.compile import open_plan
from pupload.flow.model import Flow
from pupload.flow.names import FLOW_NAME
from pupload.flow.nodedef import NodeDef
from pupload.flow.rules.rule import Finding

DRAFT = "draft"
PRODUCTION = "production"
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class AskedVersion:
    """A version as it was asked for: `kind` is production, draft, number, or any for none."""

    kind: str
    number: int | None = None

    @classmethod
    def of(cls, version: str | None) -> "AskedVersion":
        """What the text means.

        Errors: InvalidRequest.
        """
        if version is None:
            return cls("any")
        if version in {DRAFT, PRODUCTION}:
            return cls(version)
        if _NUMBER.fullmatch(version):
            return cls("number", int(version))
        raise InvalidRequest(
            f"{version[:80]!r} is no version; write draft, production, or a number from 1", code="INVALID_VERSION"
        )

    def __str__(self) -> str:
        return str(self.number or self.kind)


class Flows:
    """Flows that are kept: each account's own, and the operator's for all."""

    def __init__(self, ground: Ground, registry: NodeDefRegistry) -> None:
        self._config, self._database, self._stores = ground.config, ground.database, ground.stores
        self._registry, self._box, self._tiers = registry, ground.box, ground.tiers
        self.named = NamedFlows(self.resolve, ground.stores, ground.tiers)

    async def resolve(self, account: str, name: str, version: str | None = None) -> Definition:
        """What the account's call of the flow runs: without a version production, else the newest, else the draft.

        Shape: `digest` is "" for a draft; the defs of a published one already name its exact images.
        Errors: NotFound (FLOW_NOT_FOUND, VERSION_NOT_FOUND); InvalidRequest (INVALID_VERSION).
        """
        definition = await self._kept(account, name, AskedVersion.of(version))
        return replace(definition, defs=exact(definition.defs, definition.images))

    async def _kept(self, account: str, name: str, asked: AskedVersion) -> Definition:
        """The definition as it is written, with the images as its defs name them."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(SQL["resolve_flow"], account, name, asked.kind, asked.number)
        if row is None:
            raise no_such_flow(name)
        if row["n"] is not None:
            return await asyncio.to_thread(_published, row, self._box)
        if row["draft"] is None or asked.kind not in {"any", DRAFT}:
            raise no_such_version(name, str(asked))
        flow, defs = await asyncio.to_thread(KeptDocuments(row["draft"], row["draft_secrets"]).read, self._box)
        return Definition(flow, await self.complete(account, flow, defs), DRAFT)

    async def complete(self, account: str, flow: Flow, defs: Sequence[NodeDef]) -> Sequence[NodeDef]:
        """`defs`, and those that the flow's nodes use, that are not among them, and that the account may use."""
        return await self._registry.complete(account, flow, defs)

    async def put(self, account: str, name: str, flow: Flow, defs: Sequence[NodeDef]) -> FlowAnswer:
        """The flow with this draft.

        Errors: InvalidRequest for a name that none may have, or that is not the document's.
        """
        given = named(name, flow)

        async def write(connection: Connection) -> None:
            row = await connection.fetchrow(SQL["lock_flow"], account, name) if lacks_secrets(given) else None
            flow = given
            if row is not None and row["secrets"] is not None:
                earlier, _ = KeptDocuments(row["draft"], row["secrets"]).read(self._box)
                flow = with_known_secrets(given, earlier)
            kept = await asyncio.to_thread(keep, flow, defs, self._box)
            await connection.execute(SQL["put_draft"], account, name, kept.documents, kept.secrets)

        await self._database.transact(write)
        return await self.get(account, name)

    async def get(self, account: str, name: str) -> FlowAnswer:
        """The flow with its draft.

        Errors: NotFound.
        """
        async with self._database.connection() as connection:
            row = await connection.fetchrow(SQL["flow_header"], account, name)
        if row is None:
            raise no_such_flow(name)
        shown = KeptDocuments(row["draft"]).shown() if row["draft"] is not None else {}
        return FlowAnswer(**_summary(row), flow=shown.get("Flow"), node_defs=shown.get("NodeDefs", []))

    async def page(self, account: str, cursor: str | None, limit: int) -> FlowPage:
        """Flows by name, after the one that `cursor` names."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(SQL["list_flows"], account, cursor, limit + 1)
        flows = [FlowSummary(**_summary(row)) for row in rows[:limit]]
        return FlowPage(flows=flows, next_cursor=flows[-1].name if len(rows) > limit else "")

    async def delete(self, account: str, name: str) -> None:
        """Forget the draft, and the flow with it when no version of it was published.

        Errors: NotFound.
        """

        async def drop(connection: Connection) -> None:
            if await connection.fetchrow(SQL["lock_flow"], account, name) is None:
                raise no_such_flow(name)
            published = await connection.fetchrow(SQL["newest_version"], account, name)
            await connection.execute(SQL["drop_flow"] if published is None else SQL["drop_draft"], account, name)

        await self._database.transact(drop)

    async def compare(self, account: str, name: str, before: str | None, after: str | None) -> FlowComparison:
        """Where two versions differ. None before is what a call without a version runs, None after the draft.

        Errors: NotFound; InvalidRequest.
        """
        old = await self._kept(account, name, AskedVersion.of(before))
        new = await self._kept(account, name, AskedVersion.of(after or DRAFT))
        found = await asyncio.to_thread(compare, _compared(old), _compared(new))
        differences = [DifferenceAnswer(path=each.path, from_=each.before, to=each.after) for each in found]
        return FlowComparison(name=name, from_=old.version, to=new.version, differences=differences)

    async def findings(self, account: str, flow: Flow, defs: Sequence[NodeDef]) -> list[Finding]:
        """Everything that is wrong with these documents, on this server, for the account."""
        callees = await self.named.callees(account, flow, kept=True)
        return await asyncio.to_thread(self._check, flow, await self.complete(account, flow, defs), callees)

    def _check(self, flow: Flow, defs: Sequence[NodeDef], callees: Callees) -> list[Finding]:
        names, most = self._stores.names(), self._config.max_nodes
        return check(flow, defs, tiers=self._tiers, stores=names, max_nodes=most, callees=callees)

    def digest(self, definition: Definition, callees: Callees) -> str:
        """The hash of a definition in which `findings` finds no error."""
        return open_plan(
            definition.flow,
            definition.defs,
            tiers=self._tiers,
            node_timeout_s=self._config.node_timeout_s,
            stores=self._stores.names(),
            callees=callees,
        ).digest


def _published(row: asyncpg.Record, box: SecretBox) -> Definition:
    flow, defs = KeptDocuments(row["documents"], row["secrets"]).read(box)
    return Definition(flow, defs, str(row["n"]), row["digest"], json.loads(row["images"]))


def _compared(definition: Definition) -> Compared:
    images = None if definition.version == DRAFT else definition.images
    return Compared(definition.flow, definition.defs, images)


def no_such_flow(name: str) -> NotFound:
    """The error for a flow that is not kept."""
    return NotFound(f"there is no flow {name[:200]!r}", code="FLOW_NOT_FOUND")


def no_such_version(name: str, version: str) -> NotFound:
    """The error for a version that the flow does not have."""
    what = {
        PRODUCTION: "no version in production; promote one",
        DRAFT: "no draft",
    }.get(version, f"no version {version}")
    return NotFound(f"flow {name!r} has {what}", code="VERSION_NOT_FOUND")


def named(name: str, flow: Flow) -> Flow:
    """`flow` under the name that it is kept by.

    Errors: InvalidRequest when it says another one, or no flow may be named so.
    """
    if not FLOW_NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name[:200]!r} is no name for a flow: letters, digits, '_', '-' and '.', at most 128, the first a letter "
            "or digit",
            code="INVALID_NAME",
        )
    if flow.name not in {"", name}:
        raise InvalidRequest(
            f"the document's Name is {flow.name!r}, the path's {name!r}; make them one, or leave out Name",
            code="NAME_MISMATCH",
        )
    return flow.model_copy(update={"name": name})


def _summary(row: asyncpg.Record) -> dict[str, object]:
    return {
        "name": row["name"],
        "draft": row["draft"] is not None,
        "versions": list(range(1, row["newest"] + 1)),
        "production": row["production"],
        "updated_at": row["updated_at"],
    }
