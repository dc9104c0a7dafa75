"""What a store is: a bucket in a server that speaks S3, seen through one Protocol with three implementations."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

Guard = Callable[[str, str, int], None]
"""Returns when a connection may be made for this host, to this address of it on this port; else raises one of ours."""


@dataclass(frozen=True, slots=True)
class Head:
    """An object without its bytes.

    `etag` changes when the object is written anew; it is no hash to rely on. `modified` is aware, in UTC, by the
    server's clock and in whole seconds: it may be up to a second before the write. `content_type` is "" where the
    answer does not say it, as in a listing.
    """

    key: str
    size_bytes: int
    etag: str
    modified: datetime
    content_type: str = ""


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A presigned URL and the headers that must be sent with it, exactly as they are here.

    The URL is a secret until it expires and is already percent-encoded: clients must not encode it again.
    """

    url: str = field(repr=False)
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """Where a store is and with which keys; the neutral value behind configured and declared stores.

    `endpoint` and `public_endpoint` are `host[:port]`; with a scheme of their own, `secure` is not asked. A `guard` is
    asked before each connection; a store of the configuration is trusted, and has none.
    """

    name: str
    type: str
    endpoint: str
    bucket: str
    access_key: str
    secret_key: str = field(repr=False)
    public_endpoint: str | None = None
    location: str = "us-east-1"
    secure: bool = True
    guard: Guard | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Multipart:
    """An object that is uploaded in parts, before it is one. `id` is the store's own name for the upload."""

    key: str
    id: str
    content_type: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A part that has arrived whole. Numbers begin at 1."""

    number: int
    size_bytes: int
    etag: str


class Store(Protocol):
    """One bucket.

    Errors: every coroutine raises StoreUnavailable where the server does not answer or fails, Forbidden where it
    refuses the keys or the guard the address, NotFound where there is no such bucket or object. No message holds a
    signed URL.
    """

    name: str

    @property
    def foreign(self) -> bool:
        """True for a store that a flow named: whoever connects to it must look where that leads."""
        ...

    async def check(self) -> None:
        """Returns when the bucket is there and the keys may use it."""
        ...

    async def head(self, key: str) -> Head | None:
        """The object at `key`, None where there is none."""
        ...

    def sign_get(self, key: str, expires_s: float, *, public: bool, download_name: str = "") -> str:
        """A URL that reads `key`; with a `download_name`, browsers save it under that name.

        Units: `expires_s` seconds, at most seven days. `public` signs for the address that clients outside see.
        """
        ...

    def sign_put(
        self,
        key: str,
        expires_s: float,
        *,
        public: bool,
        size_bytes: int | None = None,
        md5: str = "",
        content_type: str = "",
    ) -> SignedRequest:
        """A URL that writes `key`, once or often, until it expires.

        What is given of size, MD5 (base64, as in Content-MD5) and type is signed: nothing else can be written.
        """
        ...

    async def put(self, key: str, content: bytes, content_type: str) -> Head:
        """The object as written from memory; for small values."""
        ...

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes], size_bytes: int, content_type: str = "") -> Head:
        """The object as written from `chunks`, in constant memory; nothing is written unless all of it came.

        Errors: Malformed where `chunks` is shorter or longer than `size_bytes`; what `chunks` raises, as it is.
        """
        ...

    async def begin_multipart(self, key: str, content_type: str = "") -> Multipart:
        """An upload in parts, which leaves no object at `key` before it is completed."""
        ...

    def sign_part(
        self, multipart: Multipart, number: int, expires_s: float, *, public: bool, size_bytes: int
    ) -> SignedRequest:
        """A URL that writes one part of exactly `size_bytes`, once or often, until it expires or the upload ends.

        Only the same bytes may be sent twice: some servers refuse to replace a part. Every part but the last has at
        least 5 MB, none more than 5 GB.
        """
        ...

    async def list_parts(self, multipart: Multipart) -> list[Part]:
        """The parts that are there, by number.

        Errors: NotFound where the upload has ended, or its server has forgotten it.
        """
        ...

    async def complete_multipart(self, multipart: Multipart, parts: Sequence[Part]) -> Head:
        """The object of `parts`, in their order, whole or not at all; the upload has ended then.

        Errors: NotFound as in `list_parts`.
        """
        ...

    async def abort_multipart(self, multipart: Multipart) -> None:
        """Returns when nothing is left of the upload; one that has ended is fine."""
        ...

    async def get(self, key: str, limit_bytes: int) -> bytes:
        """The object's bytes; for small objects.

        Errors: TooLarge beyond `limit_bytes`.
        """
        ...

    async def copy(self, source_key: str, target_key: str) -> Head:
        """The target as copied by the server itself, whatever its size."""
        ...

    async def delete(self, keys: Sequence[str]) -> None:
        """Returns when none of `keys` is there; those that never were are fine."""
        ...

    def list(self, prefix: str) -> AsyncIterator[Head]:
        """The objects whose keys begin with `prefix`, in no order to rely on."""
        ...

    def watch(self) -> AsyncIterator[str] | None:
        """Keys just written, as hints: they may repeat and may miss. None where the store cannot tell.

        Errors: StoreUnavailable when the watch breaks; whoever wants to go on calls again.
        """
        ...

    async def close(self) -> None:
        """Lets go of threads, connections and processes; nothing of the store may be called after it."""
        ...
