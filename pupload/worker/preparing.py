"""Steps 2 to 5 of an attempt: a place, the files, the image, and the container, each as soon as it can be."""

import asyncio
import re
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from pupload.containers.archive import send_files
from pupload.containers.docker import Refused
from pupload.containers.spec import ContainerSpec
from pupload.failpoints import reach
from pupload.flow.plan import Reason
from pupload.protocol import Assignment
from pupload.worker.attachments import hand_in_attachments, room_for_attachments, stage_attachments
from pupload.worker.container import container_spec, owner_of, ports_of
from pupload.worker.egress import ensure_walled
from pupload.worker.failure import NodeFailure
from pupload.worker.folders import hand_in_folders, room_for, stage_folders
from pupload.worker.image import require_image
from pupload.worker.outputs import file_name
from pupload.worker.shop import Attempt, Shop, placed, stage_of
from pupload.worker.snapshots import of_inputs
from pupload.worker.staging import Names, stage_inputs
from pupload.worker.tools import hand_in_sheets, lay_out
from pupload.worker.workdir import WorkDir, lacking, make_work_dir

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


async def prepare(shop: Shop, attempt: Attempt) -> None:
    """The attempt's container, created, and with all that it is to find.

    Errors: NodeFailure; Stopped; LostLease; EngineUnavailable.
    """
    hold = attempt.hold
    await _make_room(shop, attempt)
    names = Names(attempt.assignment.inputs)
    files = asyncio.create_task(_gather(shop, attempt, names))
    try:
        await hold.unless_told(_find_image(shop, attempt, files))
        if _mounts_more(attempt.assignment):
            await hold.unless_told(files)
        likely = await hold.unless_told(_unless_failed(names.known(), files))
        await _create(shop, attempt, likely)
        await hold.unless_told(files)
    finally:
        files.cancel()
        await asyncio.wait({files})
    found = {staged.port: staged.path.name for staged in attempt.staged}
    if found != likely:
        await _create(shop, attempt, found)
    await hold.unless_told(_hand_in(shop, attempt))


def _mounts_more(assignment: Assignment) -> bool:
    """True where the container mounts what must be there before it is made; the rest is told by names alone."""
    return bool(assignment.folders or assignment.attachments)


async def _unless_failed(asked: Coroutine[None, None, T], files: "asyncio.Future[None]") -> T:
    """What is asked for, which is no longer looked for once the files are known not to come."""
    asking = asyncio.ensure_future(asked)
    either: set[asyncio.Future[Any]] = {asking, files}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if files.done():
            files.result()
        return await asking
    finally:
        asking.cancel()
        await asyncio.wait({asking})


async def _make_room(shop: Shop, attempt: Attempt) -> None:
    """Step 2: a directory for the files, and room for them. It is not cut short: its thread would go on, unseen."""
    assignment = attempt.assignment
    _require_plain_names(attempt)
    needed = sum(spec.content.size_bytes for spec in assignment.inputs if spec.content) + room_for(assignment.folders)
    needed += room_for_attachments(assignment)
    parent, owner = shop.config.work_dir, owner_of(shop, assignment)

    def make() -> WorkDir:
        problem = lacking(parent, needed)
        if problem:
            raise NodeFailure(Reason.INFRA, problem)
        place = make_work_dir(parent, attempt.name, owner)
        if assignment.tools:
            lay_out(place, assignment.tools)
        return place

    attempt.place = await asyncio.to_thread(make)
    await reach("attempt.placed")


def _require_plain_names(attempt: Attempt) -> None:
    """Return when nothing that becomes a path leads out of its folder: not even a controller says what else is written.

    Errors: NodeFailure.
    """
    assignment = attempt.assignment
    files = [attempt.name, *ports_of(assignment), *(file_name(spec) for spec in assignment.outputs)]
    for name in (*files, *(each.name for each in assignment.attachments)):
        if not _NAME.fullmatch(name):
            raise NodeFailure(Reason.POLICY, f"{name[:200]!r} is no name for a file", final=True)


async def _gather(shop: Shop, attempt: Attempt, names: Names) -> None:
    """Step 3: inputs, attachments and kept folders at once."""
    assignment = attempt.assignment
    stage, folder = stage_of(shop, attempt), placed(attempt).inputs
    inputs = asyncio.ensure_future(stage_inputs(stage, assignment.inputs, folder, names))
    folders = asyncio.ensure_future(stage_folders(shop, attempt))
    attachments = asyncio.ensure_future(stage_attachments(shop, attempt))
    try:
        with attempt.step("gather"):
            await asyncio.gather(inputs, folders, attachments)
    finally:
        for each in (inputs, folders, attachments):
            each.cancel()
        await asyncio.gather(inputs, folders, attachments, return_exceptions=True)
        # Also where something else was not to be had: what has come in is reported.
        attempt.staged = [] if inputs.cancelled() or inputs.exception() else inputs.result()
    if assignment.snapshot_bytes:
        attempt.snapshots = await asyncio.to_thread(of_inputs, attempt.staged, assignment.snapshot_bytes)


async def _find_image(shop: Shop, attempt: Attempt, files: "asyncio.Future[None]") -> None:
    """Step 4."""
    with attempt.step("image"):
        attempt.image = await _unless_failed(require_image(shop, attempt), files)


async def _create(shop: Shop, attempt: Attempt, names: Mapping[str, str]) -> None:
    """Step 5. It is not cut short: what the engine has begun it would finish, unseen."""
    spec = container_spec(shop, attempt, names)
    if spec.egress:
        await ensure_walled(shop.egress)
    with attempt.step("create"):
        try:
            if attempt.container:
                # Made when an input was taken for something else than it is.
                await shop.engine.remove(attempt.container)
            await reach("container.creating")
            attempt.container = await _created(shop, attempt, spec, names)
            await reach("container.created")
        except Refused as refused:
            if refused.status == 400:
                text = f"the engine refuses this container: {refused}"
                raise NodeFailure(Reason.POLICY, text, final=True) from refused
            raise


async def _created(shop: Shop, attempt: Attempt, spec: ContainerSpec, names: Mapping[str, str]) -> str:
    try:
        return await shop.engine.create(spec)
    except Refused as refused:
        shop.images.forget(spec.image)
        if refused.status != 404:
            raise
    # Somebody has removed the image since it was looked for.
    attempt.image = await attempt.hold.unless_told(require_image(shop, attempt))
    return await shop.engine.create(container_spec(shop, attempt, names))


async def _hand_in(shop: Shop, attempt: Attempt) -> None:
    """Step 5, where the engine does not see our directory: the inputs by a stream."""
    if shop.mounts:
        return
    paths, within_s = [staged.path for staged in attempt.staged], shop.config.transfer_timeout_s
    with attempt.step("hand_in"):
        await send_files(shop.engine, attempt.container, paths, owner=placed(attempt).owner, within_s=within_s)
        await hand_in_attachments(shop, attempt)
        await hand_in_folders(shop, attempt)
        await hand_in_sheets(shop, attempt)
