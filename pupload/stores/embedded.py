"""The store that needs no set-up: rclone over plain folders, and a watch on those folders."""

import asyncio
import os
import secrets
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from watchfiles import Change, watch

from pupload.errors import NotFound, StoreUnavailable
from pupload.flow.plan import DEFAULT_STORE
from pupload.stores.base import Head, Multipart, Part, SignedRequest, StoreAddress
from pupload.stores.hints import hints
from pupload.stores.keeping import TEMPORARY
from pupload.stores.rclone import HOST, Rclone
from pupload.stores.s3 import S3Store

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")
BUCKET = "pupload"
_STEP_MS = 4
"""Between two looks at what the kernel told; less would cost a processor that has nothing to do more than it gains."""

_DEBOUNCE_MS = 20
_CHUNK_BYTES = 1024 * 1024
_LEAST_BYTES = 256 * 1024
_BEGUN = "0"


class EmbeddedStore(S3Store):
    """An S3 store whose server is ours and whose bucket is `<data_dir>/store/buckets/pupload`.

    What a user may notice: a copy keeps its source's time, `a` and `a/b` cannot both be objects, names longer than a
    file's (255 bytes between two slashes) are refused as the server's own fault.

    Parts of an upload are objects of their own, in a folder beside the object that they become: rclone keeps parts
    that come out of order in memory, refuses to replace one, and forgets all of them when it ends. They are put
    together through the server, as it would not notice a file that came to its folder by itself; until that is done
    they take their room twice.
    """

    # The server copies whole objects of any size, and none in parts.
    largest_copy_bytes = 1 << 62

    def __init__(self, address: StoreAddress, server: Rclone) -> None:
        super().__init__(address)
        self.server = server
        self.folder = server.buckets / address.bucket

    @classmethod
    async def start(cls, data_dir: Path, name: str = DEFAULT_STORE) -> Self:
        """The store in `data_dir`, ready for use.

        Errors: InvalidConfig where another process has it or there is no rclone, StoreUnavailable where it does not
        come up.
        """
        server = Rclone(data_dir / "store")
        await server.start()
        store = cls(_address(name, server), server)
        try:
            store.folder.mkdir(mode=0o700, exist_ok=True)
            # Without room there is still what can be read.
            await S3Store.check(store)
        except BaseException:
            await store.close()
            raise
        return store

    async def check(self) -> None:
        await super().check()
        self._require_room()

    def watch(self) -> AsyncGenerator[str, None]:
        return hints(self.name, Folder(self.folder))

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes], size_bytes: int, content_type: str = "") -> Head:
        try:
            return await super().put_stream(key, chunks, size_bytes, content_type)
        except StoreUnavailable:
            self._require_room(size_bytes)
            raise

    async def begin_multipart(self, key: str, content_type: str = "") -> Multipart:
        multipart = Multipart(key, secrets.token_hex(8), content_type)
        await self.put(_part_key(multipart, _BEGUN), b"", "")
        return multipart

    def sign_part(
        self, multipart: Multipart, number: int, expires_s: float, *, public: bool, size_bytes: int
    ) -> SignedRequest:
        return self.sign_put(_part_key(multipart, str(number)), expires_s, public=public, size_bytes=size_bytes)

    async def list_parts(self, multipart: Multipart) -> list[Part]:
        heads = [head async for head in self.list(_part_key(multipart, ""))]
        if not heads:
            raise NotFound(f"store {self.name!r} has no upload {multipart.id} of {multipart.key}")
        parts = [Part(int(head.key.rpartition("/")[2]), head.size_bytes, head.etag) for head in heads]
        return sorted((part for part in parts if part.number), key=lambda part: part.number)

    async def complete_multipart(self, multipart: Multipart, parts: Sequence[Part]) -> Head:
        size_bytes = sum(part.size_bytes for part in parts)
        chunks = self._joined([_part_key(multipart, str(part.number)) for part in parts])
        head = await self.put_stream(multipart.key, chunks, size_bytes, multipart.content_type)
        await self.abort_multipart(multipart)
        return head

    async def abort_multipart(self, multipart: Multipart) -> None:
        await self.delete([head.key async for head in self.list(_part_key(multipart, ""))])

    async def _joined(self, keys: Sequence[str]) -> AsyncIterator[bytes]:
        for key in keys:
            try:
                file = await asyncio.to_thread((self.folder / key).open, "rb")
            except FileNotFoundError as error:
                raise NotFound(f"store {self.name!r} has no part {key}") from error
            with file:
                while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
                    yield chunk

    async def close(self) -> None:
        await super().close()
        await self.server.close()

    def _answer(self, about: str, work: "Callable[[S3Client], T]") -> T:
        try:
            return super()._answer(about, work)
        except StoreUnavailable:
            self._require_room()
            raise

    def _require_room(self, size_bytes: int = 0) -> None:
        """Return when the folder has room for so much. The server says only that something has failed.

        Errors: StoreUnavailable.
        """
        disk = os.statvfs(self.server.folder)
        free = disk.f_bavail * disk.f_frsize
        if free < size_bytes + _LEAST_BYTES:
            raise StoreUnavailable(
                f"store {self.name!r}: no room is left at {self.server.folder}, {free} bytes are free: make some"
            )

    def _head_of(self, key: str, size_bytes: int, etag: str, modified: datetime, content_type: str) -> Head:
        return super()._head_of(key, size_bytes, etag.strip('"') or self._version(key), modified, content_type)

    def _version(self, key: str) -> str:
        # Each write is a new file, so that inode and time tell two of them apart, even within a second.
        try:
            file = (self.folder / key).stat()
        except OSError:
            return ""
        return f"{file.st_ino:x}-{file.st_mtime_ns:x}"


def _part_key(multipart: Multipart, name: str) -> str:
    folder, slash, _ = multipart.key.rpartition("/")
    return f"{folder}{slash}.parts-{multipart.id}/{name}"


class Folder:
    """The files that come into a folder and all below it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ended = threading.Event()

    def written(self) -> Iterator[str]:
        try:
            for changes in watch(
                self._folder,
                watch_filter=_may_be_an_object,
                step=_STEP_MS,
                debounce=_DEBOUNCE_MS,
                stop_event=self._ended,
            ):
                for _, path in changes:
                    yield from self._keys_at(Path(path))
        except OSError as error:
            raise StoreUnavailable(
                f"{self._folder} cannot be watched ({error.strerror or error}); on Linux, raise "
                "fs.inotify.max_user_watches"
            ) from error

    def end(self) -> None:
        self._ended.set()

    def _keys_at(self, path: Path) -> Iterator[str]:
        # A folder is watched only after it was made; what came into it before has no event of its own.
        for found in _files_below(path) if path.is_dir() else [path]:
            yield str(found.relative_to(self._folder))


def _may_be_an_object(change: Change, path: str) -> bool:
    return change is not Change.deleted and not Path(path).name.startswith(TEMPORARY)


def _files_below(folder: Path) -> Iterator[Path]:
    for at, _, names in os.walk(folder):
        yield from (Path(at, name) for name in names if not name.startswith(TEMPORARY))


def _address(name: str, server: Rclone) -> StoreAddress:
    kept = server.keeping
    return StoreAddress(
        name=name,
        type="embedded",
        endpoint=f"{HOST}:{kept.port}",
        bucket=BUCKET,
        access_key=kept.access_key,
        secret_key=kept.secret_key,
        secure=False,
    )
