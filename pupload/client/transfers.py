"""Files to and from the store: streamed, counted, in constant memory."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
from yarl import URL

from pupload.client.errors import ServerUnreachable
from pupload.client.transport import refuse, timeout_of, unreachable_named
from pupload.errors import Malformed

Progress = Callable[[int], None]
"""Told how many bytes are through, from 0 again when a transfer is tried anew."""

_CHUNK = 1 << 18
_SILENCE_S = 120.0


def silent(_done_bytes: int) -> None:
    """The progress that nobody looks at."""


async def put_file(session: aiohttp.ClientSession, url: str, path: Path, progress: Progress) -> None:
    """Returns when the store has all bytes of `path`. One try.

    Errors: ApiError where the store refuses; ServerUnreachable; Malformed when the file cannot be read to its end.
    """
    size_bytes = size_of(path)
    with unreachable_named("the store"):
        # The URL is signed as it stands: encoding it again would change it.
        async with session.put(
            URL(url, encoded=True),
            data=_chunks(path, size_bytes, progress),
            headers={"Content-Length": str(size_bytes), "Content-Type": "application/octet-stream"},
            timeout=timeout_of(_SILENCE_S),
        ) as response:
            await refuse(response)


def size_of(path: Path) -> int:
    """Bytes in the file. Errors: Malformed where there is none."""
    if not path.is_file():
        raise Malformed(f"{path} is not a file")
    return path.stat().st_size


async def _chunks(path: Path, size_bytes: int, progress: Progress) -> AsyncIterator[bytes]:
    done = 0
    progress(done)
    with path.open("rb") as file:
        while done < size_bytes:
            chunk = await asyncio.to_thread(file.read, min(_CHUNK, size_bytes - done))
            if not chunk:
                raise Malformed(f"{path} became shorter while it was being sent")
            yield chunk
            done += len(chunk)
            progress(done)


async def get_file(
    session: aiohttp.ClientSession, url: str, path: Path, progress: Progress, *, sha256: str = ""
) -> None:
    """Returns when `path` holds all bytes behind `url`; until then it is as it was. One try.

    Errors: ApiError, ServerUnreachable; the latter also where the bytes are not those of `sha256`.
    """
    part = path.with_name(path.name + ".part")
    try:
        with unreachable_named("the store"):
            async with session.get(URL(url, encoded=True), timeout=timeout_of(_SILENCE_S)) as response:
                await refuse(response)
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
