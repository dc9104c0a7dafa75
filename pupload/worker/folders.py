"""Folders that outlive their container: brought, lent to the program, and taken back when it has done well.

A folder lies in the store as a tar. What a program leaves in one is judged as its outputs are: plain files and folders
of their own, within their limits, or the attempt fails. One that has not changed is not stored again.
"""

import asyncio
import contextlib
import hashlib
import os
import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pupload.containers.archive import fetch_folder, send_folder
from pupload.containers.docker import Refused
from pupload.containers.janitor import remove_tree
from pupload.containers.trees import NotKept, Room, packed, unpack
from pupload.flow.plan import Reason
from pupload.protocol import FolderFound, KeptFolder, PutWish, Sign, SignedPut
from pupload.units import format_size
from pupload.worker.failure import NodeFailure
from pupload.worker.shop import Attempt, Shop, placed, stage_of
from pupload.worker.source import Source
from pupload.worker.staging import Stage
from pupload.worker.transfer import TransferFailed

CONTENT_TYPE = "application/x-tar"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_TAKEN = frozenset({"in", "out"})


@dataclass(frozen=True, slots=True)
class _Tar:
    """A folder as it was packed into the open file `fd`. `empty`: there is nothing in the folder."""

    fd: int
    size_bytes: int
    sha256: str
    md5: str
    empty: bool


def room_for(folders: Sequence[KeptFolder]) -> int:
    """Units: bytes of disk for what the folders begin as, packed and unpacked."""
    return sum(2 * folder.content.size_bytes for folder in folders if folder.content)


async def stage_folders(shop: Shop, attempt: Attempt) -> None:
    """Every kept folder in the attempt's directory, as the container is to find it.

    Errors: NodeFailure.
    """
    for folder in attempt.assignment.folders:
        if not _NAME.fullmatch(folder.name) or folder.name in _TAKEN:
            raise NodeFailure(Reason.POLICY, f"{folder.name!r} is no name for a kept folder", final=True)
        place = placed(attempt)
        path = await asyncio.to_thread(_make, place.folder(folder.name), place.owner)
        if folder.content is not None:
            tar = path.with_suffix(".tar")
            await _fetch(stage_of(shop, attempt), folder, tar)
            with _judged(folder):
                await asyncio.to_thread(_unpack, tar, path, _room(folder), place.owner)


def _make(path: Path, owner: tuple[int, int]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.parent.chmod(0o755)
    path.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(path, *owner)
    return path


async def _fetch(stage: Stage, folder: KeptFolder, tar: Path) -> None:
    async def renewed() -> str:
        # It is fetched right after the claim, when its URL was signed; the next claim signs another.
        raise NodeFailure(Reason.INFRA, f"the URL of folder /pup/{folder.name} is no longer good")

    assert folder.content is not None
    try:
        async with asyncio.timeout(stage.within_s):
            await stage.transfers.fetch(folder.content, tar, renewed)
    except (TransferFailed, TimeoutError) as error:
        text = f"folder /pup/{folder.name} did not arrive: {str(error) or 'it took too long'}"
        raise NodeFailure(Reason.INFRA, text) from error


def _unpack(tar: Path, path: Path, room: Room, owner: tuple[int, int]) -> None:
    with tar.open("rb") as file:
        unpack(file, path, room, owner=owner if os.geteuid() == 0 else None)
    tar.unlink()


async def hand_in_folders(shop: Shop, attempt: Attempt) -> None:
    """The folders into the container, where the engine does not see our directory."""
    place, within_s = placed(attempt), shop.config.transfer_timeout_s
    for folder in attempt.assignment.folders:
        path = place.folder(folder.name)
        with _judged(folder):
            await send_folder(
                shop.engine,
                attempt.container,
                path,
                name=folder.name,
                owner=place.owner,
                room=_room(folder),
                within_s=within_s,
            )


async def keep_folders(shop: Shop, attempt: Attempt) -> None:
    """Store the folders that the program has changed, and note them in `attempt.kept`.

    Errors: NodeFailure for one that holds what is not kept.
    """
    done = attempt.calls is None
    folders = [folder for folder in attempt.assignment.folders if not (done and folder.until_done)]
    if not folders:
        return
    with attempt.step("folders"):
        attempt.kept = [found for folder in folders if (found := await _keep(shop, attempt, folder)) is not None]


async def _keep(shop: Shop, attempt: Attempt, folder: KeptFolder) -> FolderFound | None:
    path = placed(attempt).folder(folder.name)
    with contextlib.ExitStack() as stack, _judged(folder):
        if not shop.mounts:
            await _hand_out(shop, attempt, folder, path)
        tar = await asyncio.to_thread(_pack, stack, path, _room(folder))
        if _is_unchanged(tar, folder):
            return None
        return await _store(stage_of(shop, attempt), folder, tar)


async def _hand_out(shop: Shop, attempt: Attempt, folder: KeptFolder, path: Path) -> None:
    await asyncio.to_thread(_make_anew, path, placed(attempt).owner)
    room, within_s = _room(folder), shop.config.transfer_timeout_s
    try:
        await fetch_folder(shop.engine, attempt.container, path, name=folder.name, room=room, within_s=within_s)
    except Refused as refused:
        if refused.status == 404:
            raise NotKept("the program has removed it") from refused
        raise


def _make_anew(path: Path, owner: tuple[int, int]) -> None:
    remove_tree(path)
    _make(path, owner)


def _pack(stack: contextlib.ExitStack, path: Path, room: Room) -> _Tar:
    entries = room.entries
    sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    file = stack.enter_context(path.with_suffix(".tar").open("x+b"))
    for piece in packed(path, room):
        sha256.update(piece)
        md5.update(piece)
        size += file.write(piece)
    file.flush()
    empty = room.entries == entries
    return _Tar(file.fileno(), size, sha256.hexdigest(), b64encode(md5.digest()).decode(), empty)


def _is_unchanged(tar: _Tar, folder: KeptFolder) -> bool:
    return tar.empty if folder.content is None else tar.sha256 == folder.content.sha256


async def _store(stage: Stage, folder: KeptFolder, tar: _Tar) -> FolderFound:
    wish = PutWish(edge=folder.name, size_bytes=tar.size_bytes, md5=tar.md5, content_type=CONTENT_TYPE)

    async def signed() -> SignedPut:
        return (await stage.sign(Sign(ref=stage.ref, folders=[wish]))).folders[0]

    first = await signed()
    try:
        async with asyncio.timeout(stage.within_s):
            await stage.transfers.put(Source(tar.fd, tar.size_bytes), first, signed)
    except (TransferFailed, TimeoutError) as error:
        text = f"folder /pup/{folder.name} could not be stored: {str(error) or 'it took too long'}"
        raise NodeFailure(Reason.TRANSFER, text) from error
    return FolderFound(name=folder.name, key=first.key, size_bytes=tar.size_bytes, sha256=tar.sha256)


def _room(folder: KeptFolder) -> Room:
    return Room(folder.max_size_bytes, folder.max_entries)


@contextlib.contextmanager
def _judged(folder: KeptFolder) -> Iterator[None]:
    try:
        yield
    except NotKept as error:
        limits = f"{format_size(folder.max_size_bytes)} in {folder.max_entries} files and folders"
        text = f"folder /pup/{folder.name} cannot be kept: {error} (at most {limits})"
        raise NodeFailure(Reason.POLICY, text, final=True) from error
