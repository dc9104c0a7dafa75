"""Files that the server keeps for runs to come."""

from collections.abc import AsyncIterator
from pathlib import Path

from pupload.answers.uploads import FileAnswer, FilePage
from pupload.client.reading import path_of, query_of, read
from pupload.client.transfers import SILENCE_S, Piece, Progress, fetch, silent
from pupload.client.transport import Call, Content, Transport


class AsyncFiles:
    """Calls about files."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def put(self, file: Path | bytes, *, name: str | None = None, progress: Progress = silent) -> FileAnswer:
        """The file as the server keeps it now. Its name is that of the path unless told.

        Errors: Malformed when the file cannot be read to its end; not repeated when the line breaks.
        """
        content = _content(file, progress)
        query = query_of(name=name or (file.name if isinstance(file, Path) else None))
        call = Call("POST", path_of("files"), query, content, repeatable=False, silence_s=SILENCE_S)
        return read(FileAnswer, await self._transport.json(call))

    async def get(self, file_id: str, path: Path, progress: Progress = silent) -> Path:
        """The file `path`, holding the bytes of the kept one."""
        call = Call("GET", path_of("files", file_id), silence_s=SILENCE_S)

        async def once() -> None:
            async with self._transport.answer(call) as response:
                await fetch(response, path, progress)

        await self._transport.repeated(once)
        return path

    async def list(self, *, limit: int = 50, cursor: str | None = None) -> FilePage:
        """A page of files, newest first."""
        call = Call("GET", path_of("files"), query_of(limit=limit, cursor=cursor))
        return read(FilePage, await self._transport.json(call))

    async def delete(self, file_id: str) -> None:
        """Take the name away: no run can begin with the file any more."""
        await self._transport.json(Call("DELETE", path_of("files", file_id)))


def _content(file: Path | bytes, progress: Progress) -> Content:
    if isinstance(file, Path):
        piece = Piece.whole(file)
        return Content(piece.size_bytes, lambda: piece.chunks(progress))
    return Content(len(file), lambda: _once(file, progress))


async def _once(content: bytes, progress: Progress) -> AsyncIterator[bytes]:
    progress(0)
    yield content
    progress(len(content))
