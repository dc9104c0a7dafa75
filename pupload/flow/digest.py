"""What is known of bytes that went by: how many, their hash, and what they are. PURE."""

import hashlib
from dataclasses import dataclass, field

from pupload.flow.sniff import HEAD_BYTES, TAIL_BYTES, sniff


@dataclass(slots=True)
class Digest:
    """What is known of bytes once all have gone by."""

    size_bytes: int = 0
    head: bytes = b""
    tail: bytes = b""
    _sha256: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def take(self, data: bytes) -> None:
        """Count, hash, and keep the two ends."""
        if len(self.head) < HEAD_BYTES:
            self.head += data[: HEAD_BYTES - len(self.head)]
        self.tail = (self.tail + data[-TAIL_BYTES:])[-TAIL_BYTES:]
        self.size_bytes += len(data)
        self._sha256.update(data)

    def content_type(self) -> str:
        """What the bytes are, by themselves."""
        return sniff(self.head, self.size_bytes, self.tail)

    @property
    def sha256(self) -> str:
        """Of all bytes so far, in hex."""
        return self._sha256.hexdigest()
