"""A file on its way to the store: exactly the bytes that are sent, hashed as they pass."""

import hashlib
import os
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass

from pupload.flow.digest import Digest
from pupload.flow.sniff import HEAD_BYTES, TAIL_BYTES, sniff

PIECE_BYTES = 256 * 1024
"""The kernel takes memory for what is written in pieces as large as these; for larger ones it looks long."""


class Shortened(Exception):
    """The file has become shorter than it was when it was looked at."""


@dataclass(frozen=True, slots=True)
class Sums:
    """What bytes are known by: SHA-256 in hex, MD5 in base64 as in Content-MD5, and what they are by themselves."""

    sha256: str
    md5: str
    content_type: str

    def are_of(self, etag: str) -> bool:
        """True where that is the MD5 of the bytes, as of most objects; of encrypted ones it is something else."""
        return etag.lower() == b64decode(self.md5).hex()


class _Summing:
    """The sums of bytes that go by."""

    def __init__(self) -> None:
        self._digest, self._md5 = Digest(), hashlib.md5(usedforsecurity=False)

    def take(self, piece: bytes) -> None:
        """Hash it."""
        self._digest.take(piece)
        self._md5.update(piece)

    def sums(self) -> Sums:
        """Of all bytes so far."""
        md5 = b64encode(self._md5.digest()).decode()
        return Sums(self._digest.sha256, md5, self._digest.content_type())


@dataclass(slots=True)
class Source:
    """Exactly `size_bytes` of an open file, from its beginning; what is in `held` is not read again.

    `sums` is None until all of it was read for them once, before or while it was sent. All of it blocks.
    """

    fd: int
    size_bytes: int
    held: bytes = b""
    sums: Sums | None = None

    def pieces(self, *, summing_up: bool = False) -> Iterator[bytes]:
        """The bytes, in pieces; each is hashed before it goes, where sums are wished for and not known.

        Errors: Shortened.
        """
        summing = _Summing() if summing_up and self.sums is None else None
        at = 0
        while at < self.size_bytes:
            piece = self.held[at : at + PIECE_BYTES] or self._read(at)
            at += len(piece)
            if summing:
                summing.take(piece)
            if summing and at == self.size_bytes:
                # Before the last piece goes: once the store has that it may answer, and nobody comes back here.
                self.sums = summing.sums()
            yield piece

    def sum_up(self) -> Sums:
        """The sums, for which all is read; what is small is held.

        Errors: Shortened.
        """
        summing, at = _Summing(), 0
        while at < self.size_bytes:
            piece = self._read(at)
            summing.take(piece)
            at += len(piece)
            self.held = piece if len(piece) == self.size_bytes else b""
        self.sums = summing.sums()
        return self.sums

    def look(self) -> str:
        """What the bytes seem to be by their two ends."""
        tail_at = max(0, self.size_bytes - TAIL_BYTES)
        return sniff(os.pread(self.fd, HEAD_BYTES, 0), self.size_bytes, os.pread(self.fd, TAIL_BYTES, tail_at))

    def _read(self, at: int) -> bytes:
        piece = os.pread(self.fd, min(PIECE_BYTES, self.size_bytes - at), at)
        if not piece:
            raise Shortened(f"the file ended at {at} bytes, {self.size_bytes} were there before")
        return piece
