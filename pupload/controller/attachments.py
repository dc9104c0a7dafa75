"""Files that come with a run's request: judged before there is a run, named to workers, stored nowhere.

What is kept is where to fetch them, encrypted: such a URL may be what a file is secret by.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import unquote

from yarl import URL

from pupload.config import ControllerConfig
from pupload.controller.secrets import SecretBox
from pupload.db.pool import Connection, Database
from pupload.db.sql import SQL
from pupload.errors import CallerError, InvalidRequest
from pupload.flow.mime import UNKNOWN, is_concrete, is_known, normal, overlap, type_of_name
from pupload.flow.plan import AttachmentPlan, NodePlan, Plan
from pupload.flow.request import Attachment
from pupload.protocol import AttachmentSpec
from pupload.web.guarded import Web

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Attachments:
    """Takes attachments in, and gives them out."""

    def __init__(self, config: ControllerConfig, web: Web, box: SecretBox) -> None:
        self._config, self._web, self._box = config, web, box

    def accept(self, plan: Plan, given: Sequence[Attachment]) -> tuple[Plan, Mapping[str, bytes]]:
        """The plan with the attachments in it, and their URLs encrypted, by name.

        Errors: InvalidRequest for a URL, name or type that cannot be; CallerError `NODE_MIME_INCOMPATIBLE` for one that
        no node takes.
        """
        found: dict[str, AttachmentPlan] = {}
        sealed: dict[str, bytes] = {}
        for place, each in enumerate(given, 1):
            self._web.check(each.uri)
            name = _name_of(each, place, found)
            found[name] = AttachmentPlan(name, _type_of(each, name))
            sealed[name] = self._box.seal(each.uri)
        for attachment in found.values():
            _require_taker(plan, attachment)
        return replace(plan, attachments=tuple(found.values())) if found else plan, sealed

    async def of_node(self, database: Database, run_id: str, plan: Plan, node: NodePlan) -> list[AttachmentSpec]:
        """What an attempt of the node is to fetch."""
        wanted = [attachment for attachment in plan.attachments if takes(node, attachment)]
        if not wanted:
            return []
        async with database.connection() as connection:
            urls = await _urls(connection, self._box, run_id)
        limit = self._config.max_fetch_bytes
        return [
            AttachmentSpec(name=w.name, url=urls[w.name], content_type=w.content_type, limit_bytes=limit)
            for w in wanted
        ]


async def attachments_of(connection: Connection, box: SecretBox, run_id: str, plan: Plan) -> list[Attachment]:
    """The attachments of a run as they were given, for another that repeats it."""
    urls = await _urls(connection, box, run_id)
    return [
        Attachment(uri=urls[each.name], name=each.name, content_type=each.content_type) for each in plan.attachments
    ]


async def _urls(connection: Connection, box: SecretBox, run_id: str) -> dict[str, str]:
    rows = await connection.fetch(SQL["attachments_of_run"], run_id)
    return {row["name"]: box.open(row["sealed"]) for row in rows}


def takes(node: NodePlan, attachment: AttachmentPlan) -> bool:
    """True for a node whose def asks for attachments, or that has an input of the attachment's type."""
    if node.calls is not None:
        return False
    return node.attachments or any(overlap([attachment.content_type], binding.types) for binding in node.inputs)


def _name_of(given: Attachment, place: int, taken: Mapping[str, object]) -> str:
    """The name that it was given, else the last part of its URL, else a number."""
    if not given.name:
        last = unquote(URL(given.uri, encoded=True).raw_path.rpartition("/")[2])
        return last if _NAME.fullmatch(last) and last not in taken else f"attachment-{place}"
    if not _NAME.fullmatch(given.name):
        raise InvalidRequest(
            f"attachment {given.name!r}: a name has letters, digits, '.', '_' and '-', at most 128, and begins with a "
            "letter or digit",
            code="ATTACHMENT_NAME_INVALID",
        )
    if given.name in taken:
        raise InvalidRequest(f"two attachments are named {given.name!r}", code="ATTACHMENT_NAME_INVALID")
    return given.name


def _type_of(given: Attachment, name: str) -> str:
    """The type that it was given, else what its name tells, else that of bytes that nothing is known of."""
    told = given.content_type or type_of_name(name) or UNKNOWN
    if not (is_known(told) and is_concrete(told)):
        raise InvalidRequest(f"attachment {name!r}: {told!r} is no media type", code="ATTACHMENT_TYPE_INVALID")
    return normal(told)


def _require_taker(plan: Plan, attachment: AttachmentPlan) -> None:
    if not any(takes(node, attachment) for node in plan.nodes.values()):
        raise CallerError(
            f"attachment {attachment.name!r} is {attachment.content_type}, which no node takes; give a file of an "
            "input's type, or let a def say Attachments: true",
            code="NODE_MIME_INCOMPATIBLE",
        )
