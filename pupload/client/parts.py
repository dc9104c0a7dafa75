"""A file for an awaited edge, in parts: what has arrived is not sent again."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pupload.answers.uploads import SignedParts, UploadAnswer
from pupload.client.errors import CallTimeout, ServerUnreachable, UnknownThing, UploadBroken, UploadEnded
from pupload.client.reading import path_of, read
from pupload.client.transfers import Piece, Progress, put_piece, size_of
from pupload.client.transport import Call, Transport
from pupload.errors import Malformed

ONE_PUT_BYTES = 64 * 1024 * 1024
"""Files up to this size go in one piece."""
_AT_ONCE = 4
_COMPLETING_S = 900.0
"""A store may take its time to put a large object together."""


class PartUploads:
    """Uploads in parts to the edges of runs."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def begin(self, run_id: str, edge: str, size_bytes: int, part_size: int | None) -> UploadAnswer:
        """A new upload."""
        body = {"Size": size_bytes} | ({} if part_size is None else {"PartSize": part_size})
        # One that was begun unheard is in nobody's way, and aborted with the edge's wait.
        call = Call("POST", path_of("runs", run_id, "uploads", edge), body=body)
        return read(UploadAnswer, await self._transport.json(call))

    async def find(self, run_id: str, edge: str, upload_id: str) -> UploadAnswer:
        """The upload, with the parts that are there."""
        return read(UploadAnswer, await self._transport.json(Call("GET", _path(run_id, edge, upload_id))))

    async def abort(self, run_id: str, edge: str, upload_id: str) -> None:
        """End it, and remove its parts."""
        await self._transport.json(Call("DELETE", _path(run_id, edge, upload_id)))

    async def finish(self, upload: UploadAnswer, path: Path, progress: Progress) -> None:
        """Returns when the edge has its object.

        Errors: Malformed for a file of another size; UploadBroken naming the upload; UploadEnded; ApiError.
        """
        if upload.status == "completed":
            return
        if size_of(path) != upload.size:
            raise Malformed(f"{path} has not the {upload.size} bytes with which upload {upload.id} was begun")
        there = {part.number for part in upload.parts}
        missing = [number for number in range(1, upload.part_count + 1) if number not in there]
        told = _Sum(progress, upload.size - sum(_piece(upload, path, number).size_bytes for number in missing))
        try:
            await self._send(upload, path, missing, told)
            call = Call("POST", _path(upload.run_id, upload.edge_name, upload.id, "complete"), silence_s=_COMPLETING_S)
            await self._transport.json(call)
        except (ServerUnreachable, CallTimeout) as error:
            raise UploadBroken(f"{error.message}; upload {upload.id} can be gone on with", upload.id) from error

    async def _send(self, upload: UploadAnswer, path: Path, numbers: list[int], told: "_Sum") -> None:
        left = iter(numbers)

        async def take() -> None:
            for number in left:
                await self._send_one(upload, _piece(upload, path, number), number, told.part(number))

        senders = [asyncio.ensure_future(take()) for _ in range(_AT_ONCE)]
        try:
            await asyncio.gather(*senders)
        finally:
            for sender in senders:
                sender.cancel()
            await asyncio.gather(*senders, return_exceptions=True)

    async def _send_one(self, upload: UploadAnswer, piece: Piece, number: int, progress: Progress) -> None:
        async def once() -> None:
            # A fresh URL for each try: a signature ends while others are on their way.
            call = Call("POST", _path(upload.run_id, upload.edge_name, upload.id, "parts"), body={"Numbers": [number]})
            [signed] = read(SignedParts, await self._transport.json(call)).parts
            try:
                await put_piece(self._transport.session(), signed.put_url, piece, progress)
            except UnknownThing as error:
                text = f"the store knows nothing of upload {upload.id} any more: begin another one"
                raise UploadEnded(error.status, "UPLOAD_ENDED", text, (), error.request_id) from error

        await self._transport.repeated(once)


@dataclass(slots=True)
class _Sum:
    """The progress of all parts together."""

    progress: Progress
    there_bytes: int
    _done: dict[int, int] = field(default_factory=dict)

    def part(self, number: int) -> Callable[[int], None]:
        """Told how far one part is."""

        def note(done_bytes: int) -> None:
            self._done[number] = done_bytes
            self.progress(self.there_bytes + sum(self._done.values()))

        return note


def _piece(upload: UploadAnswer, path: Path, number: int) -> Piece:
    start = (number - 1) * upload.part_size
    return Piece(path, start, min(upload.part_size, upload.size - start))


def _path(run_id: str, edge: str, *rest: str) -> str:
    return path_of("runs", run_id, "uploads", edge, *rest)
