"""A bucket in MinIO: an S3 store that also tells what was written, through the minio SDK's bucket notifications."""

import contextlib
from collections.abc import AsyncGenerator, Iterator
from typing import Any
from urllib.parse import unquote_plus, urlsplit

import minio
import urllib3
from minio.error import MinioException, S3Error
from urllib3.exceptions import HTTPError

from pupload.stores.base import Guard, StoreAddress
from pupload.stores.clients import endpoint_url
from pupload.stores.faults import refusal, refused_connections, unreachable
from pupload.stores.hints import hints
from pupload.stores.pools import plain_pools
from pupload.stores.s3 import S3Store

_ABOUT = "listen to the bucket"
_EVENTS = ("s3:ObjectCreated:*",)
_LIMITS = urllib3.Timeout(connect=3.0, read=10.0)  # MinIO sends a blank every half second: more silence is a fault


class MinioStore(S3Store):
    """An S3 store with a watch that is MinIO's own."""

    def watch(self) -> AsyncGenerator[str, None]:
        return hints(self.name, Notifications(self.address))


class Notifications:
    """The notifications of one bucket.

    Source: MinIO's ListenBucketNotification; one answer that never ends, one JSON line an event.
    """

    def __init__(self, address: StoreAddress) -> None:
        self._address = address
        self._connections = _OneAnswer(address.guard)

    def written(self) -> Iterator[str]:
        client = _client(self._address, self._connections)
        try:
            with (
                refused_connections(self._address),
                client.listen_bucket_notification(self._address.bucket, events=_EVENTS) as events,
            ):
                for event in events:
                    yield from written_keys(event)
        except S3Error as error:
            status = error.response.status if error.response else 0
            raise refusal(self._address, _ABOUT, status, error.code or "") from error
        except (MinioException, HTTPError, OSError, ValueError) as error:
            raise unreachable(self._address, _ABOUT, type(error).__name__) from error

    def end(self) -> None:
        self._connections.end()


class _OneAnswer(urllib3.PoolManager):
    """Connections for one answer that never ends, which another thread can end.

    The SDK would ask again, for ever and at once, when the answer ends: here that is refused, so that whoever listens
    learns of it.
    """

    def __init__(self, guard: Guard | None = None) -> None:
        super().__init__(timeout=_LIMITS, retries=False)
        if guard is not None:
            self.pool_classes_by_scheme = plain_pools(guard)
        self._answer: urllib3.BaseHTTPResponse | None = None
        self._ended = False

    def urlopen(self, method: str, url: str, redirect: bool = True, **kwargs: Any) -> urllib3.BaseHTTPResponse:  # type: ignore[override]  # noqa: FBT001, FBT002 - the signature is the library's
        if self._ended or self._answer is not None:
            raise HTTPError("the notifications ended")
        answer = super().urlopen(method, url, redirect=redirect, **kwargs)
        self._answer = answer
        self._end_if_asked(answer)
        return answer

    def _end_if_asked(self, answer: urllib3.BaseHTTPResponse) -> None:
        if self._ended:
            answer.shutdown()

    def end(self) -> None:
        """Ends the answer, or the next one as soon as it begins."""
        self._ended = True
        if self._answer is not None:
            with contextlib.suppress(RuntimeError, ValueError, OSError):  # it has just ended by itself
                self._answer.shutdown()


def written_keys(event: dict[str, Any]) -> Iterator[str]:
    """The keys of objects that `event` says were written.

    Source: the message structure of S3 event notifications, as MinIO fills it.
    """
    for record in event.get("Records") or ():
        key = record.get("s3", {}).get("object", {}).get("key", "")
        if not key:
            continue
        yield key
        # Listeners get keys as they are, from releases before 2021 encoded as in a form; a wrong hint does no harm.
        if unquote_plus(key) != key:
            yield unquote_plus(key)


def _client(address: StoreAddress, connections: urllib3.PoolManager) -> minio.Minio:
    url = urlsplit(endpoint_url(address.endpoint, secure=address.secure))
    return minio.Minio(
        url.netloc,
        access_key=address.access_key,
        secret_key=address.secret_key,
        region=address.location,
        secure=url.scheme == "https",
        http_client=connections,
    )
