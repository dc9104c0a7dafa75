"""The files by which a program asks the client for something, and finds what it was told.

`/pup/tools.json` says what is on offer, `/pup/tool_calls.json` is the program's to write, `/pup/tool_results.json` is
there once the client has answered. What the program writes is opened as its outputs are: it may be anything.
"""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from pupload.containers.archive import fetch_file, send_sheets
from pupload.containers.spec import FILES_DIR, Sheet
from pupload.containers.state import ContainerState
from pupload.flow.plan import Reason
from pupload.protocol import Assignment, ToolSheet
from pupload.units import format_size
from pupload.worker.failure import NodeFailure
from pupload.worker.outputs import NotPlain, plain_file
from pupload.worker.shop import Attempt, Shop, placed
from pupload.worker.workdir import WorkDir

TOOLS, CALLS, RESULTS, STATE = "tools.json", "tool_calls.json", "tool_results.json", "state"
MAX_CALLS_BYTES = 256 * 1024


def lay_out(place: WorkDir, sheet: ToolSheet) -> None:
    """The files, as the container is to find them."""
    _write(place.root / TOOLS, sheet.tools)
    if sheet.results is not None:
        _write(place.root / RESULTS, sheet.results)
    place.asked.mkdir(mode=0o700)
    calls = place.asked / CALLS
    calls.touch(mode=0o600)
    if os.geteuid() == 0:
        os.chown(calls, *place.owner)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o444)


def sheets_of(place: WorkDir, assignment: Assignment) -> tuple[Sheet, ...]:
    """What of it is given to the container, one file each."""
    if assignment.tools is None:
        return ()
    read = [TOOLS] if assignment.tools.results is None else [TOOLS, RESULTS]
    return (
        *(Sheet(name, str(place.root / name), read_only=True) for name in read),
        Sheet(CALLS, str(place.asked / CALLS), read_only=False),
    )


def tool_environment(assignment: Assignment) -> Mapping[str, str]:
    """How the program finds them; nothing for one that has no business with tools."""
    if assignment.tools is None:
        return {}
    names = {"PUP_TOOLS": TOOLS, "PUP_TOOL_CALLS": CALLS, "PUP_TOOL_RESULTS": RESULTS, "PUP_STATE": STATE}
    return {name: f"{FILES_DIR}/{file}" for name, file in names.items()}


async def hand_in_sheets(shop: Shop, attempt: Attempt) -> None:
    """The files into the container, where the engine does not see our directory."""
    place = placed(attempt)
    sheets = sheets_of(place, attempt.assignment)
    if sheets:
        within_s = shop.config.transfer_timeout_s
        await send_sheets(shop.engine, attempt.container, sheets, owner=place.owner, within_s=within_s)


def asks(attempt: Attempt, state: ContainerState | None) -> bool:
    """True when the program has ended by itself, and by its exit code to ask the client."""
    sheet = attempt.assignment.tools
    if sheet is None or state is None or state.missed or attempt.killed:
        return False
    return state.exit_code == sheet.exit_code


async def read_calls(shop: Shop, attempt: Attempt) -> str:
    """What the program asks, as it wrote it.

    Errors: NodeFailure for what is no plain text of a bearable size.
    """
    place = placed(attempt)
    if not shop.mounts:
        await _hand_out(shop, attempt, place)
    return await asyncio.to_thread(_read, place, attempt.exit_code)


async def _hand_out(shop: Shop, attempt: Attempt, place: WorkDir) -> None:
    target = place.asked / CALLS
    target.unlink()
    await fetch_file(
        shop.engine,
        attempt.container,
        f"{FILES_DIR}/{CALLS}",
        target=target,
        limit_bytes=MAX_CALLS_BYTES,
        within_s=shop.config.transfer_timeout_s,
    )


def _read(place: WorkDir, exit_code: int | None) -> str:
    try:
        with plain_file(place.asked, CALLS, place.out_device, MAX_CALLS_BYTES) as fd:
            return os.pread(fd, MAX_CALLS_BYTES, 0).decode("utf-8")
    except FileNotFoundError:
        why = "is not there"
    except NotPlain as error:
        why = f"is {error}"
    except UnicodeDecodeError:
        why = "is not UTF-8"
    text = f"the program asked for tools, but {FILES_DIR}/{CALLS} {why}; it may hold {format_size(MAX_CALLS_BYTES)}"
    raise NodeFailure(Reason.POLICY, text, final=True, exit_code=exit_code)
