"""Webhook wells: an address for each awaited edge that anybody who knows it may post the bytes to.

The token in it is computed from the server's key, so nothing of it is stored, and nothing can leak from the database.
"""

import base64
import hmac
from collections.abc import AsyncIterator

from pupload.config import ControllerConfig
from pupload.controller.secrets import SecretBox
from pupload.controller.uploads import Uploads
from pupload.errors import NotFound, TooLarge
from pupload.flow.plan import Edge
from pupload.run.state import RunID
from pupload.units import format_size

PREFIX = "/api/v1/hooks/"


class Hooks:
    """Makes the addresses, and takes what is posted to them."""

    def __init__(self, config: ControllerConfig, uploads: Uploads, box: SecretBox) -> None:
        self._config, self._uploads = config, uploads
        self._key = box.derived_key("webhook wells")
        self._base = (config.public_url or "").rstrip("/")

    def served_at(self, url: str) -> None:
        """Say where the server listens; a configured `public_url` is stronger."""
        self._base = self._base or url

    def url(self, run_id: RunID, edge: Edge) -> str:
        """Where to post the bytes of the edge. A secret."""
        return f"{self._base}{PREFIX}{run_id}/{edge}/{self._token(run_id, edge)}"

    def check(self, run_id: RunID, edge: Edge, token: str) -> None:
        """Return when the token is that of the edge.

        Errors: NotFound, before anything is looked up: it tells nothing of what there is.
        """
        if not hmac.compare_digest(token.encode(), self._token(run_id, edge).encode()):
            raise NotFound("there is no such hook; post to the PostURL of the run, as it is", code="HOOK_NOT_FOUND")

    async def take(
        self, run_id: RunID, edge: Edge, chunks: AsyncIterator[bytes], size_bytes: int | None, content_type: str
    ) -> None:
        """Store what was posted as the object of the edge. Of a body that does not tell its length, little is taken.

        Errors: as `Uploads.put`.
        """
        if size_bytes is None:
            body = await self._small(chunks)
            chunks, size_bytes = _once(body), len(body)
        await self._uploads.put(run_id, edge, chunks, size_bytes, content_type)

    async def _small(self, chunks: AsyncIterator[bytes]) -> bytes:
        limit, body = self._config.max_body_bytes, bytearray()
        async for chunk in chunks:
            body += chunk
            if len(body) > limit:
                raise TooLarge(f"a body without Content-Length has at most {format_size(limit)}; send its length")
        return bytes(body)

    def _token(self, run_id: RunID, edge: Edge) -> str:
        mark = hmac.digest(self._key, f"{run_id}/{edge}".encode(), "sha256")
        return base64.urlsafe_b64encode(mark).rstrip(b"=").decode()


def shown_path(path: str) -> str:
    """The path as a log may hold it: the token of a hook is left out.

    >>> shown_path("/api/v1/hooks/run_1/in/c2VjcmV0"), shown_path("/api/v1/runs/run_1")
    ('/api/v1/hooks/run_1/in/…', '/api/v1/runs/run_1')
    """
    if not path.startswith(PREFIX):
        return path
    return "/".join([*path.split("/")[:6], "…"])


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body
