"""Publishing: a draft becomes a version that never changes."""

import asyncio
import json
from dataclasses import replace

import asyncpg

from pupload.answers.flows import FlowVersionAnswer, FlowVersionPage, FlowVersionSummary
from pupload.controller.digests import FoundImages, exact
from pupload.controller.documents import KeptDocuments, keep
from pupload.controller.flows import DRAFT, Flows, no_such_flow, no_such_version
from pupload.controller.secrets import SecretBox
from pupload.controller.submission import Definition
from pupload.controller.supply import Supply, Used, images_used
from pupload.db.pool import Connection, Database
from pupload.db.sql import SQL
from pupload.errors import Conflict, InvalidFlow
from pupload.flow.callee import Callees, exact_reference, pinned
from pupload.flow.rules.rule import Severity


class Publishing:
    """Versions of flows."""

    def __init__(self, database: Database, flows: Flows, supply: Supply, box: SecretBox) -> None:
        self._database, self._flows, self._supply, self._box = database, flows, supply, box

    async def publish(self, account: str, name: str) -> tuple[FlowVersionAnswer, bool]:
        """The version that holds the draft as it is now, and whether it is new.

        A draft that is as the newest version, to the image, is that version.
        A flow that it names is named at one version from now on.
        Errors: NotFound; InvalidFlow with all findings; Conflict where a flow that it names is not published.
        """
        draft = await self._flows.resolve(account, name, DRAFT)
        await self._require_valid(account, draft)
        callees = await self._flows.named.callees(account, draft.flow, kept=True)
        _require_published(callees)
        draft = replace(draft, flow=pinned(draft.flow, callees)) if callees else draft
        callees = {exact_reference(callee): callee for callee in callees.values()}
        found = await self._found(images_used(draft.flow, draft.defs))
        exactly = Definition(draft.flow, exact(draft.defs, found.images))
        digest = await asyncio.to_thread(self._flows.digest, exactly, callees)
        kept = keep(draft.flow, draft.defs, self._box)

        async def write(connection: Connection) -> tuple[int, bool]:
            if await connection.fetchrow(SQL["lock_flow"], account, name) is None:
                raise no_such_flow(name)
            newest = await connection.fetchrow(SQL["newest_version"], account, name)
            if newest is not None and self._is_same(newest, kept, found.images):
                return newest["n"], False
            n = newest["n"] + 1 if newest else 1
            frozen = (kept.documents, kept.secrets, digest, json.dumps(found.images), json.dumps(found.warnings))
            await connection.execute(SQL["insert_version"], account, name, n, *frozen)
            return n, True

        n, fresh = await self._database.transact(write)
        return await self.version(account, name, n), fresh

    async def _found(self, used: Used) -> FoundImages:
        """The exact images of a version.

        Errors: InvalidRequest for images that this server's rules refuse, by their names or by what these mean.
        """
        self._supply.require_allowed(used)
        found = await self._supply.find(used)
        self._supply.require_allowed({node: found.images.get(image, image) for node, image in used.items()})
        return found

    async def _require_valid(self, account: str, draft: Definition) -> None:
        findings = await self._flows.findings(account, draft.flow, draft.defs)
        wrong = sum(finding.severity is Severity.ERROR for finding in findings)
        if wrong:
            raise InvalidFlow(f"the draft has {wrong} {'error' if wrong == 1 else 'errors'}", details=findings)

    def _is_same(self, newest: asyncpg.Record, kept: KeptDocuments, images: dict[str, str]) -> bool:
        published = KeptDocuments(newest["documents"], newest["secrets"])
        return (
            published.documents == kept.documents
            and json.loads(newest["images"]) == images
            and published.opened(self._box) == kept.opened(self._box)
        )

    async def promote(self, account: str, name: str, n: int) -> FlowVersionAnswer:
        """The version, which is now what a call runs that asks for none.

        Errors: NotFound.
        """

        async def write(connection: Connection) -> None:
            if await connection.fetchrow(SQL["lock_flow"], account, name) is None:
                raise no_such_flow(name)
            if await connection.fetchrow(SQL["get_version"], account, name, n) is None:
                raise no_such_version(name, str(n))
            await connection.execute(SQL["promote_version"], account, name, n)

        await self._database.transact(write)
        return await self.version(account, name, n)

    async def version(self, account: str, name: str, n: int) -> FlowVersionAnswer:
        """One version with its documents.

        Errors: NotFound.
        """
        async with self._database.connection() as connection:
            owner = await _owner(connection, account, name)
            row = await connection.fetchrow(SQL["get_version"], owner, name, n)
        if row is None:
            raise no_such_version(name, str(n))
        shown = KeptDocuments(row["documents"]).shown()
        return FlowVersionAnswer(**_summary(row), flow=shown["Flow"], node_defs=shown.get("NodeDefs", []))

    async def page(self, account: str, name: str, before: int | None, limit: int) -> FlowVersionPage:
        """Versions, newest first, older than `before`.

        Errors: NotFound.
        """
        async with self._database.connection() as connection:
            owner = await _owner(connection, account, name)
            rows = await connection.fetch(SQL["list_versions"], owner, name, before, limit + 1)
        found = [FlowVersionSummary(**_summary(row)) for row in rows[:limit]]
        return FlowVersionPage(versions=found, next_cursor=str(found[-1].version) if len(rows) > limit else "")


async def _owner(connection: Connection, account: str, name: str) -> str:
    """Whose flow the name means to the account: its own, or the operator's.

    Errors: NotFound.
    """
    header = await connection.fetchrow(SQL["flow_header"], account, name)
    if header is None:
        raise no_such_flow(name)
    return str(header["account"])


def _require_published(callees: Callees) -> None:
    drafts = sorted(callee.name for callee in callees.values() if callee.version == DRAFT)
    if drafts:
        raise Conflict(f"it names the draft of flow {drafts[0]}, which may change; publish that", code="NAMES_DRAFT")


def _summary(row: asyncpg.Record) -> dict[str, object]:
    return {
        "name": row["flow"],
        "version": row["n"],
        "definition": row["digest"],
        "production": row["is_production"],
        "images": json.loads(row["images"]),
        "warnings": json.loads(row["warnings"]),
        "published_at": row["published_at"],
    }
