"""Files to and from the store: streamed, counted, in constant memory."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import aiohttp
from yarl import URL

from pupload.client.errors import ServerUnreachable
from pupload.client.transport import refuse, timeout_of, unreachable_named
from pupload.errors import Malformed

Progress = Callable[[int], None]
"""Told how many bytes are through, from 0 again when a transfer is tried anew."""

_CHUNK = 1 << 18
SILENCE_S = 120.0
"""Longest silence of whoever takes or gives a file."""


def silent(_done_bytes: int) -> None:
    """The progress that nobody looks at."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a file, or all of it."""

    path: Path
    start: int
    size_bytes: int

    @classmethod
    def whole(cls, path: Path) -> Self:
        """All of the file. Errors: Malformed where there is none."""
        return cls(path, 0, size_of(path))

    async def chunks(self, progress: Progress) -> AsyncIterator[bytes]:
        """Its bytes, each told of when it has been taken. Errors: Malformed when the file has fewer by now."""
        done = 0
        progress(done)
        with self.path.open("rb") as file:
            file.seek(self.start)
            while done < self.size_bytes:
                chunk = await asyncio.to_thread(file.read, min(_CHUNK, self.size_bytes - done))
                if not chunk:
                    raise Malformed(f"{self.path} became shorter while it was being sent")
                yield chunk
                done += len(chunk)
                progress(done)


async def put_piece(session: aiohttp.ClientSession, url: str, piece: Piece, progress: Progress) -> None:
    """Returns when the store has all bytes of `piece`. One try.

    Errors: ApiError where the store refuses; ServerUnreachable; Malformed when the file cannot be read to its end.
    """
    with unreachable_named("the store"):
        # The URL is signed as it stands: encoding it again would change it.
        async with session.put(
            URL(url, encoded=True),
            data=piece.chunks(progress),
            headers={"Content-Length": str(piece.size_bytes), "Content-Type": "application/octet-stream"},
            timeout=timeout_of(SILENCE_S),
        ) as response:
            await refuse(response)


def size_of(path: Path) -> int:
    """Bytes in the file. Errors: Malformed where there is none."""
    if not path.is_file():
        raise Malformed(f"{path} is not a file")
    return path.stat().st_size


async def get_file(
    session: aiohttp.ClientSession, url: str, path: Path, progress: Progress, *, sha256: str = ""
) -> None:
    """Returns when `path` holds all bytes behind `url`. One try.

    Errors: as `fetch`; ApiError.
    """
    with unreachable_named("the store"):
        async with session.get(URL(url, encoded=True), timeout=timeout_of(SILENCE_S)) as response:
            await refuse(response)
            await fetch(response, path, progress, sha256=sha256)


async def fetch(response: aiohttp.ClientResponse, path: Path, progress: Progress, *, sha256: str = "") -> None:
    """Returns when `path` holds the body of `response`; until then it is as it was.

    Errors: ServerUnreachable where the bytes are not those of `sha256`.
    """
    part = path.with_name(path.name + ".part")
    try:
        found = await _save(response, part, progress)
        if sha256 and found != sha256:
            raise ServerUnreachable(f"{path.name} arrived damaged: its SHA-256 is not that of the artifact")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


async def _save(response: aiohttp.ClientResponse, path: Path, progress: Progress) -> str:
    """The SHA-256 of what was written."""
    done, digest = 0, hashlib.sha256()
    with path.open("wb") as file:
        progress(done)
        async for chunk in response.content.iter_chunked(_CHUNK):
            digest.update(chunk)
            await asyncio.to_thread(file.write, chunk)
            done += len(chunk)
            progress(done)
    return digest.hexdigest()
