"""Files in and out of a container by tar streams, for engines that do not see the worker's own directory.

Nothing is unpacked to a path that comes from a tar: only plain files of expected names are read, into places that
the caller gives. Memory is constant.
"""

import contextlib
import itertools
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, cast

import docker

from pupload.containers.docker import CALL_S, Engine, Refused
from pupload.containers.spec import FILES_DIR, OUT_DIR, Sheet
from pupload.containers.trees import Owner, Room, header, packed, unpack

_PIECE = 256 * 1024
_LOOP = "too many links"
"""What the engine says, as of a fault of its own, to a link that leads to itself."""


async def send_files(engine: Engine, container: str, inputs: Iterable[Path], *, owner: Owner, within_s: float) -> None:
    """Fill the volume of a created container: `in` with `inputs`, read-only, and an empty `out` of `owner`."""
    paths = list(inputs)

    def send(client: docker.APIClient) -> None:
        client.put_archive(container, FILES_DIR, _packed(paths, owner))

    await engine.call("take the input files", send, within_s)


async def send_attachments(engine: Engine, container: str, paths: Sequence[Path], *, within_s: float) -> None:
    """Give the volume of a created container the folder `attachments` with these files, read-only."""

    def send(client: docker.APIClient) -> None:
        pieces = itertools.chain(_packed_to_read("attachments", paths), [b"\0" * (2 * tarfile.BLOCKSIZE)])
        client.put_archive(container, FILES_DIR, pieces)

    await engine.call("take the attachments", send, within_s)


async def send_folder(
    engine: Engine, container: str, folder: Path, *, name: str, owner: Owner, room: Room, within_s: float
) -> None:
    """Give the volume of a created container the folder `name`, filled with what is in `folder`.

    Errors: NotKept.
    """

    def send(client: docker.APIClient) -> None:
        top = header(name, folder=True, mode=0o700, owner=owner)
        pieces = itertools.chain([top], packed(folder, room, under=f"{name}/", owner=owner))
        client.put_archive(container, FILES_DIR, pieces)

    await engine.call("take a kept folder", send, within_s)


async def fetch_folder(engine: Engine, container: str, folder: Path, *, name: str, room: Room, within_s: float) -> None:
    """Fill the empty `folder` with what the container has left in its folder `name`.

    Errors: NotKept; Refused when the program has removed it.
    """

    def fetch(client: docker.APIClient) -> None:
        with _opened(client, container, f"{FILES_DIR}/{name}") as pieces:
            unpack(pieces, folder, room, under=f"{name}/")

    await engine.call("give a kept folder", fetch, within_s)


async def send_sheets(
    engine: Engine, container: str, sheets: Sequence[Sheet], *, owner: Owner, within_s: float
) -> None:
    """Give the volume of a created container single files beside `in` and `out`; `owner` may write some."""

    def send(client: docker.APIClient) -> None:
        client.put_archive(container, FILES_DIR, _packed_sheets(sheets, owner))

    await engine.call("take the tool files", send, within_s)


async def fetch_file(
    engine: Engine, container: str, path: str, *, target: Path, limit_bytes: int, within_s: float
) -> None:
    """Write the container's file at `path` to `target`, if there is one.

    What is no plain file, or larger, is made into an empty directory: it is there, and it is nothing to take.
    """
    await engine.call("give a file", lambda client: _fetch(client, container, path, target, limit_bytes), within_s)


async def fetch_files(engine: Engine, container: str, *, wanted: Mapping[str, int], out: Path, within_s: float) -> None:
    """Write those of `wanted` (name → size limit) that the container has left into `out`, as `fetch_file` does.

    Each is asked for by itself: what else the program has left, and how much of it, is nobody's business.
    """

    def fetch(client: docker.APIClient) -> None:
        for name, limit_bytes in wanted.items():
            _fetch(client, container, f"{OUT_DIR}/{name}", out / name, limit_bytes)

    await engine.call("give the output files", fetch, within_s)


def _fetch(client: docker.APIClient, container: str, path: str, target: Path, limit_bytes: int) -> None:
    try:
        with _opened(client, container, path) as pieces, tarfile.open(fileobj=pieces, mode="r|") as tar:
            if (entry := tar.next()) is not None:
                _keep(tar, entry, target, limit_bytes)
    except Refused as refused:
        if _LOOP in str(refused):
            target.mkdir()
        elif refused.status != 404:
            raise


@contextlib.contextmanager
def _opened(client: docker.APIClient, container: str, path: str) -> Iterator[IO[bytes]]:
    """The tar of what is at `path`. Not by the SDK's own call, which cannot be hung up on: a file that claims a
    terabyte, or a folder that is refused, is not read to its end.
    """
    url = f"{client.base_url}/v{client.api_version}/containers/{container}/archive"
    with client.get(url, params={"path": path}, stream=True, timeout=CALL_S) as response:
        if response.status_code >= 300:
            raise Refused(response.status_code, response.text[:500])
        yield cast("IO[bytes]", _Pieces(response.iter_content(_PIECE)))


def _packed(paths: list[Path], owner: Owner) -> Iterator[bytes]:
    yield from _packed_to_read("in", paths)
    entry = _entry("out", tarfile.DIRTYPE, 0o700)
    entry.uid, entry.gid = owner
    yield entry.tobuf()
    yield b"\0" * (2 * tarfile.BLOCKSIZE)


def _packed_to_read(folder: str, paths: Sequence[Path]) -> Iterator[bytes]:
    yield _entry(folder, tarfile.DIRTYPE, 0o755).tobuf()
    for path in paths:
        entry = _entry(f"{folder}/{path.name}", tarfile.REGTYPE, 0o444, size=path.stat().st_size)
        yield entry.tobuf()
        yield from _content(path, entry.size)


def _packed_sheets(sheets: Sequence[Sheet], owner: Owner) -> Iterator[bytes]:
    for sheet in sheets:
        path = Path(sheet.path)
        entry = _entry(sheet.name, tarfile.REGTYPE, 0o444 if sheet.read_only else 0o600, size=path.stat().st_size)
        if not sheet.read_only:
            entry.uid, entry.gid = owner
        yield entry.tobuf()
        yield from _content(path, entry.size)
    yield b"\0" * (2 * tarfile.BLOCKSIZE)


def _content(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece
    if size % tarfile.BLOCKSIZE:
        yield b"\0" * (tarfile.BLOCKSIZE - size % tarfile.BLOCKSIZE)


def _entry(name: str, kind: bytes, mode: int, size: int = 0) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size = kind, mode, size
    return entry


class _Pieces:
    """An iterator of bytes as the file that a tar stream is read from."""

    name = "archive"
    closed = False

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int) -> bytes:
        """At most `size` bytes, fewer only at the end."""
        parts, missing = [], size
        while missing:
            self._rest = self._rest or next(self._pieces, b"")
            if not self._rest:
                break
            parts.append(self._rest[:missing])
            self._rest, missing = self._rest[missing:], missing - len(parts[-1])
        return b"".join(parts)


def _keep(tar: tarfile.TarFile, entry: tarfile.TarInfo, target: Path, limit_bytes: int) -> None:
    content = tar.extractfile(entry) if entry.isreg() and entry.size <= limit_bytes else None
    if content is None:
        target.mkdir()
        return
    with target.open("xb") as file:
        while piece := content.read(_PIECE):
            file.write(piece)
