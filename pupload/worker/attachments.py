"""Files that came with a run's request, fetched from their owner into the attempt's directory, and stored nowhere."""

import asyncio
from pathlib import Path
from typing import IO

from pupload.containers.archive import send_attachments
from pupload.errors import InvalidRequest, TooLarge
from pupload.flow.digest import Digest
from pupload.flow.mime import UNKNOWN, matches
from pupload.flow.plan import Reason
from pupload.protocol import Assignment, AttachmentSpec
from pupload.web.guarded import Web
from pupload.worker.failure import NodeFailure
from pupload.worker.shop import Attempt, Shop, placed


def room_for_attachments(assignment: Assignment) -> int:
    """Bytes that they may take: nobody knows before they are here."""
    return sum(spec.limit_bytes for spec in assignment.attachments)


async def stage_attachments(shop: Shop, attempt: Attempt) -> None:
    """Every attachment, in the attempt's directory.

    Errors: NodeFailure.
    """
    if not attempt.assignment.attachments:
        return
    folder = placed(attempt).attachments
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    going = [asyncio.ensure_future(_fetch(shop.web, spec, folder)) for spec in attempt.assignment.attachments]
    try:
        await asyncio.gather(*going)
    finally:
        for each in going:
            each.cancel()
        await asyncio.gather(*going, return_exceptions=True)


async def _fetch(web: Web, spec: AttachmentSpec, folder: Path) -> None:
    path = folder / spec.name
    try:
        digest = await _written(web, spec, path)
    except (InvalidRequest, TooLarge) as error:
        forbidden = error.code == "URI_NOT_ALLOWED"
        reason, final = Reason.POLICY if forbidden else Reason.TRANSFER, error.code != "URI_NOT_FETCHED"
        raise NodeFailure(reason, f"attachment {spec.name} did not arrive: {error}", final=final) from error
    found = digest.content_type()
    if spec.content_type not in {"", UNKNOWN} and not matches(found, [spec.content_type]):
        text = f"attachment {spec.name} is {found}; the request says {spec.content_type}"
        raise NodeFailure(Reason.TYPE, text, final=True)
    path.chmod(0o444)


async def _written(web: Web, spec: AttachmentSpec, path: Path) -> Digest:
    digest = Digest()
    with path.open("xb") as file:
        async with web.fetch(spec.url, spec.limit_bytes) as found:
            async for piece in found.pieces:
                await asyncio.to_thread(_take, file, digest, piece)
    return digest


def _take(file: IO[bytes], digest: Digest, piece: bytes) -> None:
    file.write(piece)
    digest.take(piece)


async def hand_in_attachments(shop: Shop, attempt: Attempt) -> None:
    """Give them to a created container whose engine does not see our directory."""
    assignment = attempt.assignment
    if assignment.attachments:
        paths = [placed(attempt).attachments / spec.name for spec in assignment.attachments]
        await send_attachments(shop.engine, attempt.container, paths, within_s=shop.config.transfer_timeout_s)
