"""Objects to and from the store by presigned URLs: streaming, checked, tried again; constant memory.

A transfer is tried again while the fault may pass; a URL that has expired is asked for anew. No text that leaves here
holds a URL.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar

import urllib3
from urllib3.util import Retry
from yarl import URL

from pupload.errors import InvalidRequest, PuploadError
from pupload.flow.digest import Digest
from pupload.log import redact
from pupload.protocol import ObjectRef, SignedPut
from pupload.web.addresses import Allowed
from pupload.web.guarded import NOTHING_BESIDES
from pupload.web.urls import check_store
from pupload.worker.control import pauses
from pupload.worker.handover import Handover
from pupload.worker.line import Threads, connections
from pupload.worker.source import PIECE_BYTES, Source

RETRY_FOR_S = 60.0
_EXPIRED = frozenset({400, 401, 403})
_RENEWALS = 3
_MD5 = "Content-MD5"
_SAID_BYTES = 300
_RETRIES = Retry(total=None, connect=False, read=False, status=0, other=0, redirect=5)
"""What fails is tried again here, not by the library."""
_AS_IT_IS = {"preload_content": False, "decode_content": False}

T = TypeVar("T")

log = logging.getLogger(__name__)


class TransferFailed(PuploadError):
    """The bytes did not get through. `final`: they never will."""

    code = "TRANSFER_FAILED"

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


class _Passing(Exception):
    """A fault that may pass."""


class _Expired(_Passing):
    """The URL is not good any more."""


class _Unproven(_Expired):
    """What the store has is not known to be what was sent: another URL is to name the bytes beforehand."""


class Transfers:
    """Connections to stores, kept; to those that flows named, made anew each time, and only to what is `allowed`.

    `retry_for_s` bounds how long one object is tried in vain.
    """

    def __init__(self, retry_for_s: float = RETRY_FOR_S, allowed: Allowed = NOTHING_BESIDES) -> None:
        self._retry_for_s = retry_for_s
        self.handover = Handover()
        self._threads = Threads()
        self._connections = connections()
        self._guard = partial(check_store, allowed=allowed)
        self._cryptic = set[str]()
        """Hosts of stores whose ETags are no MD5s."""

    async def close(self) -> None:
        """Close the connections, and let go of what waits to be handed over."""
        self.handover.close()
        self._threads.close()
        self._connections.clear()

    async def fetch(
        self,
        content: ObjectRef,
        target: Path,
        renewed: Callable[[], Awaitable[str]],
        begun: Callable[[Digest], None] = lambda _: None,
    ) -> Digest:
        """What was read, now in `target`, complete and checked.

        `renewed` gives a fresh URL; `begun` is told what is known once the first bytes are here, on another thread.
        Errors: TransferFailed; OSError of the disk.
        """
        url = content.url

        async def once() -> Digest:
            return await self._threads.run(lambda: self._fetch(content, url, target, begun))

        async def renew() -> None:
            nonlocal url
            url = await renewed()

        return await self._insist(once, renew)

    async def put(self, content: Source, signed: SignedPut, renewed: Callable[[], Awaitable[SignedPut]]) -> str:
        """The ETag of the object, "" where the store gives none.

        The store has checked the MD5 that was signed; where none was, the content has its sums from now on, and the
        store has told their MD5, or `renewed` has signed for it.
        Errors: TransferFailed; Shortened.
        """
        wish = signed

        async def once() -> str:
            return await self._threads.run(lambda: self._put(content, wish))

        async def renew() -> None:
            nonlocal wish
            wish = await renewed()

        if _MD5 not in signed.headers and URL(signed.url).host in self._cryptic:
            await asyncio.to_thread(content.sum_up)
            await renew()
        return await self._insist(once, renew)

    async def _insist(self, once: Callable[[], Awaitable[T]], renew: Callable[[], Awaitable[None]]) -> T:
        give_up = asyncio.get_running_loop().time() + self._retry_for_s
        renewals = 0
        async for _ in pauses():
            try:
                return await once()
            except _Expired as error:
                renewals += 1
                if renewals > _RENEWALS:
                    raise TransferFailed(str(error)) from error
                await renew()
            except _Passing as error:
                if asyncio.get_running_loop().time() > give_up:
                    raise TransferFailed(str(error)) from error
                log.warning("a transfer is tried again: %s", error)
        raise AssertionError("pauses never end")

    def _handed_over(self, content: ObjectRef, target: Path) -> Digest | None:
        """What was read of a file that an attempt here has just stored; None where it is to be fetched. Blocks."""
        part = _Part(target)
        try:
            with self.handover.opened(content.sha256.lower()) as fd, closing(part):
                while data := os.pread(fd, PIECE_BYTES, part.digest.size_bytes):
                    part.take(data)
            _check_digest(content, part.digest)
            part.settle()
        except KeyError:
            return None
        except (_Passing, OSError):
            self.handover.drop(content.sha256.lower())
            return None
        return part.digest

    def _fetch(self, content: ObjectRef, url: str, target: Path, begun: Callable[[Digest], None]) -> Digest:
        """Blocks."""
        if handed := self._handed_over(content, target):
            return handed
        part = _Part(target)
        with (
            self._answer("GET", url, foreign=content.foreign, redirect=not content.foreign) as response,
            closing(part),
        ):
            _same_object(content, response)
            while data := response.read(PIECE_BYTES):
                is_first = part.digest.size_bytes == 0
                part.take(data)
                if is_first:
                    begun(part.digest)
                if part.digest.size_bytes > content.size_bytes:
                    break
        _check_digest(content, part.digest)
        part.settle()
        return part.digest

    def _put(self, content: Source, signed: SignedPut) -> str:
        """Blocks."""
        headers = {**signed.headers, "Content-Length": str(content.size_bytes)}
        pieces = content.pieces(summing_up=_MD5 not in signed.headers)
        # A redirect would need the bytes a second time.
        with self._answer(
            "PUT", signed.url, foreign=signed.foreign, body=pieces, headers=headers, redirect=False
        ) as response:
            etag = response.headers.get("ETag", "").strip('"')
        self._require_proof(content, signed, etag)
        return etag

    @contextmanager
    def _answer(self, method: str, url: str, *, foreign: bool, **more: Any) -> Iterator[urllib3.BaseHTTPResponse]:
        """The store's answer, a good one, whose body is still to be read.

        A store that a flow named is asked by a connection made anew, and only where it may be.
        Errors, also of the block: TransferFailed; _Passing.
        """
        asked = connections(self._guard) if foreign else self._connections
        try:
            with asked.urlopen(method, url, retries=_RETRIES, **_AS_IT_IS, **more) as response:
                _check(response)
                yield response
                # The rest of a small answer: so the connection can be kept.
                response.read(_SAID_BYTES)
        except urllib3.exceptions.HTTPError as error:
            # What the library gave up names the URL.
            why = error.reason if isinstance(error, urllib3.exceptions.MaxRetryError) else error
            raise _Passing(redact(f"the store broke off: {why!r}")) from error
        except InvalidRequest as error:
            raise TransferFailed(f"the store is not asked: {error}", final=True) from error
        finally:
            if foreign:
                asked.clear()

    def _require_proof(self, content: Source, signed: SignedPut, etag: str) -> None:
        is_known = content.sums is not None and content.sums.are_of(etag)
        if _MD5 not in signed.headers and not is_known:
            raise _Unproven("what the store tells does not prove that it has what was sent")
        if content.sums is not None and not is_known:
            self._cryptic.add(URL(signed.url).host or "")


def _check(response: urllib3.BaseHTTPResponse) -> None:
    if response.status < 300:
        return
    said = response.read(_SAID_BYTES).decode("utf-8", "replace")
    text = redact(f"the store answered {response.status}: {said}")
    if response.status in _EXPIRED:
        raise _Expired(text)
    if response.status in {408, 425, 429} or response.status >= 500:
        raise _Passing(text)
    raise TransferFailed(text)


def _same_object(content: ObjectRef, response: urllib3.BaseHTTPResponse) -> None:
    etag = response.headers.get("ETag", "").strip('"')
    if content.etag and etag and etag != content.etag.strip('"'):
        raise TransferFailed("the object was overwritten after it was taken as input", final=True)


class _Part:
    """A file on its way: under another name until it is whole. Its methods block."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._path = target.with_name(target.name + ".part")
        self._file: IO[bytes] | None = None
        self.digest = Digest()

    def take(self, data: bytes) -> None:
        """Write and hash."""
        if self._file is None:
            self._file = self._path.open("wb")
        self._file.write(data)
        self.digest.take(data)

    def close(self) -> None:
        """Let go of the file, whole or not."""
        if self._file is not None:
            self._file.close()

    def settle(self) -> None:
        """Give the whole file its name, for reading only."""
        if self._file is None:
            self._path.touch()
        self._path.chmod(0o444)
        self._path.rename(self._target)


def _check_digest(content: ObjectRef, digest: Digest) -> None:
    if digest.size_bytes != content.size_bytes:
        raise _Passing(f"the object has {content.size_bytes} bytes, {digest.size_bytes} came")
    if content.sha256 and digest.sha256 != content.sha256.lower():
        raise _Passing("the bytes that came are not those that were stored: SHA-256 differs")
