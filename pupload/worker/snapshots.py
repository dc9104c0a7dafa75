"""What an attempt read and wrote, as far as it is text: the beginnings of its files, for whoever looks for a fault."""

import json
import os
from collections.abc import Iterable, Sequence

from pupload.protocol import Snapshot
from pupload.worker.outputs import Output
from pupload.worker.staging import Staged

MOST_FILES = 100
MOST_BYTES = 256 * 1024
"""As JSON, of all files of one side of an attempt together: they travel with its finish."""
_TEXT = ("application/json", "application/xml", "application/yaml", "application/x-ndjson")
_TEXT_ENDINGS = ("+json", "+xml", "+yaml")


def is_text(content_type: str) -> bool:
    """True for a type whose bytes somebody can read.

    >>> is_text("text/plain"), is_text("application/json"), is_text("image/svg+xml"), is_text("image/png")
    (True, True, True, False)
    """
    return content_type.startswith("text/") or content_type in _TEXT or content_type.endswith(_TEXT_ENDINGS)


def of_inputs(staged: Sequence[Staged], limit_bytes: int) -> list[Snapshot]:
    """The beginnings of the inputs that are text."""
    return _within_bounds(_of_input(each, limit_bytes) for each in staged if is_text(each.found.content_type))


def of_outputs(outputs: Sequence[Output], limit_bytes: int) -> list[Snapshot]:
    """The beginnings of the outputs that are text, by the descriptors that were checked."""
    return _within_bounds(_of_output(each, limit_bytes) for each in outputs if is_text(each.content_type))


def _of_input(staged: Staged, limit_bytes: int) -> Snapshot:
    found = staged.found
    with staged.path.open("rb") as file:
        head = file.read(limit_bytes)
    return Snapshot(
        side="input",
        port=staged.port,
        edge=found.edge,
        content_type=found.content_type,
        size_bytes=found.size_bytes,
        text=_text(head, found.size_bytes),
        truncated=len(head) < found.size_bytes,
    )


def _of_output(output: Output, limit_bytes: int) -> Snapshot:
    source = output.source
    head = os.pread(source.fd, limit_bytes, 0)
    return Snapshot(
        side="output",
        port=output.spec.port,
        edge=output.spec.edge,
        content_type=output.content_type,
        size_bytes=source.size_bytes,
        text=_text(head, source.size_bytes),
        truncated=len(head) < source.size_bytes,
    )


def _text(head: bytes, size_bytes: int) -> str:
    # The last character may have been cut in two; anything else that is no UTF-8 is shown as such.
    text = head.decode("utf-8", "replace").rstrip("\ufffd" if len(head) < size_bytes else "")
    return text.replace("\0", "\ufffd")


def _within_bounds(snapshots: Iterable[Snapshot]) -> list[Snapshot]:
    kept: list[Snapshot] = []
    room = MOST_BYTES
    for snapshot in snapshots:
        room -= len(json.dumps(snapshot.text, ensure_ascii=False).encode())
        if room < 0 or len(kept) == MOST_FILES:
            break
        kept.append(snapshot)
    return kept
