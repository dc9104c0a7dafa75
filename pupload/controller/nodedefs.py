"""Node definitions that are kept: by account, publisher, name and version. One with a version never changes."""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence

import asyncpg

from pupload.answers.flows import NodeDefAnswer, NodeDefPage, NodeDefSummary
from pupload.config import ControllerConfig
from pupload.db.pool import Connection, Database
from pupload.db.sql import SQL
from pupload.errors import Conflict, InvalidFlow, InvalidRequest, NotFound
from pupload.flow.callee import names_a_flow
from pupload.flow.check import check, errors_in
from pupload.flow.model import Flow
from pupload.flow.names import FLOW_NAME, VERSION_NAME
from pupload.flow.nodedef import NodeDef
from pupload.flow.rules.rule import Finding
from pupload.flow.survey import version_order
from pupload.tiers import Tier


class NodeDefRegistry:
    """The definitions that flows need not bring."""

    def __init__(self, config: ControllerConfig, database: Database, tiers: Mapping[str, Tier]) -> None:
        self._config, self._database, self._tiers = config, database, tiers

    async def complete(self, account: str, flow: Flow, defs: Sequence[NodeDef]) -> Sequence[NodeDef]:
        """`defs`, and those that the flow's nodes use and `defs` lacks, as far as the account may use them."""
        missing = _missing(flow, defs)
        if not missing:
            return defs
        names = sorted({_split(use)[:2] for use in missing})
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                SQL["nodedefs_of"], account, [each[0] for each in names], [each[1] for each in names]
            )
        return [*defs, *_chosen(missing, [_read(row) for row in rows])]

    async def put(
        self, account: str, publisher: str, name: str, version: str, given: NodeDef
    ) -> tuple[NodeDefAnswer, bool]:
        """The account's definition as it is kept now, and whether it is new.

        Errors: InvalidRequest for names that do not fit; InvalidFlow with all findings; Conflict for a version that
        there is already, with other content.
        """
        nodedef = _named(publisher, name, version, given)
        findings = await asyncio.to_thread(self._errors, nodedef)
        if findings:
            raise InvalidFlow("the node definition cannot be used", code="INVALID_NODEDEF", details=findings)
        document = json.dumps(nodedef.model_dump(mode="json", by_alias=True, exclude_unset=True), ensure_ascii=False)
        key = (account, nodedef.publisher, nodedef.name, nodedef.version)

        async def write(connection: Connection) -> bool:
            if await connection.fetchrow(SQL["insert_nodedef"], *key, document):
                return True
            if not nodedef.version:
                await connection.execute(SQL["replace_nodedef"], *key, document)
            elif (await self._fetch(connection, *key)).wire() != nodedef.wire():
                raise Conflict(
                    f"{_reference(*key[1:])} is there with other content, and a version never changes; give another",
                    code="NODEDEF_EXISTS",
                )
            return False

        fresh = await self._database.transact(write)
        return await self.get(*key), fresh

    async def get(self, account: str, publisher: str, name: str, version: str) -> NodeDefAnswer:
        """The definition; without a version the newest.

        Errors: NotFound.
        """
        async with self._database.connection() as connection:
            return _answer(await self._row(connection, account, publisher, name, version))

    async def _fetch(self, connection: Connection, account: str, publisher: str, name: str, version: str) -> NodeDef:
        return _read(await self._row(connection, account, publisher, name, version))

    async def _row(
        self, connection: Connection, account: str, publisher: str, name: str, version: str
    ) -> asyncpg.Record:
        rows = await connection.fetch(SQL["nodedefs_of"], account, [publisher], [name])
        wanted = [row for row in rows if not version or row["version"] == version]
        if not wanted:
            raise NotFound(
                f"there is no node definition {_reference(publisher, name, version)[:300]!r}", code="NODEDEF_NOT_FOUND"
            )
        return max(wanted, key=lambda row: version_order(row["version"]))

    async def page(self, account: str, publisher: str | None, cursor: str | None, limit: int) -> NodeDefPage:
        """Definitions in the order of their names, after the one that `cursor` names."""
        after = _split(cursor) if cursor else (None, None, None)
        async with self._database.connection() as connection:
            rows = await connection.fetch(SQL["list_nodedefs"], account, publisher, *after, limit + 1)
        found = [NodeDefSummary(**_summary(row)) for row in rows[:limit]]
        last = found[-1] if len(rows) > limit else None
        return NodeDefPage(
            node_defs=found, next_cursor=_reference(last.publisher, last.name, last.version) if last else ""
        )

    def _errors(self, nodedef: NodeDef) -> list[Finding]:
        """What is wrong with the definition alone: the findings on it, beside a flow that does not use it."""
        found = check(Flow(), [nodedef], tiers=self._tiers, stores=())
        prefix = "$.NodeDefs[0]"
        return [
            finding.model_copy(update={"path": "$" + finding.path.removeprefix(prefix)})
            for finding in errors_in(found)
            if finding.path.startswith(prefix)
        ]


def _missing(flow: Flow, defs: Sequence[NodeDef]) -> set[str]:
    """What nodes use and no def says. A reference without a publisher, or to a flow, is nothing of ours."""
    brought = {each.reference for each in defs}
    brought |= {f"{each.reference}@{each.version}" for each in defs if each.version}
    uses = {node.uses for node in flow.nodes} - brought
    return {use for use in uses if "/" in use and not names_a_flow(use)}


def _chosen(uses: set[str], kept: Sequence[NodeDef]) -> Iterator[NodeDef]:
    """The def that each reference means, once: of its version, else the newest."""
    newest = sorted(kept, key=lambda each: version_order(each.version))
    by_use = {each.reference: each for each in newest}
    by_use |= {f"{each.reference}@{each.version}": each for each in kept if each.version}
    chosen = {id(by_use[use]): by_use[use] for use in sorted(uses) if use in by_use}
    yield from chosen.values()


def _split(reference: str) -> tuple[str, str, str]:
    """Publisher, name and version of `publisher/name@version`."""
    publisher, _, rest = reference.partition("/")
    name, _, version = rest.partition("@")
    return publisher, name, version


def _reference(publisher: str, name: str, version: str) -> str:
    return f"{publisher}/{name}@{version}" if version else f"{publisher}/{name}"


def _named(publisher: str, name: str, version: str, given: NodeDef) -> NodeDef:
    """`given` under the names that the path and it agree on."""
    wanted = {
        "Publisher": (publisher, given.publisher),
        "Name": (name, given.name),
        "Version": (version, given.version),
    }
    for member, (by_path, by_document) in wanted.items():
        if by_path and by_document and by_path != by_document:
            raise InvalidRequest(
                f"the document's {member} is {by_document!r}, the path's {by_path!r}; make them one, or leave it out",
                code="NAME_MISMATCH",
            )
    chosen = {member.lower(): by_path or by_document for member, (by_path, by_document) in wanted.items()}
    _require_names(**chosen)
    return given.model_copy(update=chosen)


def _require_names(publisher: str, name: str, version: str) -> None:
    rule = "letters, digits, '_', '-' and '.', the first a letter or digit"
    for text in (publisher, name):
        if not FLOW_NAME.fullmatch(text):
            raise InvalidRequest(f"{text[:200]!r} is no name: {rule}, at most 128", code="INVALID_NAME")
    if version and not VERSION_NAME.fullmatch(version):
        raise InvalidRequest(f"{version[:80]!r} is no version: {rule}, also '+', at most 63", code="INVALID_VERSION")


def _read(row: asyncpg.Record) -> NodeDef:
    return NodeDef.model_validate_json(row["document"])


def _summary(row: asyncpg.Record) -> dict[str, object]:
    document = json.loads(row["document"])
    return {
        "publisher": row["publisher"],
        "name": row["name"],
        "version": row["version"],
        "description": document.get("Description", ""),
        "image": document.get("Image", ""),
        "updated_at": row["updated_at"],
    }


def _answer(row: asyncpg.Record) -> NodeDefAnswer:
    return NodeDefAnswer(**_summary(row), node_def=json.loads(row["document"]))
