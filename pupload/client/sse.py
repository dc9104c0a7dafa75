"""Server-sent events from bytes. PURE.

Source: WHATWG HTML, 9.2.6 Interpreting an event stream.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Frame:
    """One event as it came. `id` and `type` are "" where the frame does not say them."""

    data: str
    type: str = ""
    id: str = ""


class FrameReader:
    """Frames from lines; comments and unknown fields are dropped."""

    def __init__(self) -> None:
        self._fields: dict[str, list[str]] = {}

    def feed(self, line: str) -> Frame | None:
        """The frame that `line` (without its end) completes."""
        if not line:
            return self._take()
        name, _, value = line.partition(":")
        if name:
            self._fields.setdefault(name, []).append(value.removeprefix(" "))
        return None

    def _take(self) -> Frame | None:
        fields, self._fields = self._fields, {}
        if "data" not in fields:
            return None
        return Frame("\n".join(fields["data"]), fields.get("event", [""])[-1], fields.get("id", [""])[-1])


async def frames(chunks: AsyncIterator[bytes]) -> AsyncGenerator[Frame, None]:
    """The frames in a body that comes in pieces of any size; an unfinished last one is dropped."""
    reader, rest = FrameReader(), b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            frame = reader.feed(line.removesuffix(b"\r").decode("utf-8", "replace"))
            if frame is not None:
                yield frame
