"""The boto3 clients of one store, each made when first needed: one to ask with, one to copy with; and URLs."""

import base64
import hashlib
import threading
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import boto3
import botocore.session
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from pupload.stores.base import StoreAddress
from pupload.stores.guarding import guard_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

THREADS = 16
"""Requests that one store has under way at once; more wait for a thread."""

_making = threading.Lock()  # a session is not for two threads at once
_CONNECT_S = 3.0
_READ_S = 15.0
_COPY_S = 3600.0
_NONE: Mapping[str, str] = {}


class Clients:
    """Clients that share what is slow to load, and nothing of the environment: no profile, no proxy, no other keys."""

    def __init__(self, address: StoreAddress) -> None:
        self._address = address
        self._credentials = Credentials(address.access_key, address.secret_key)
        self._made: dict[str, S3Client] = {}

    def asking(self) -> "S3Client":
        """The client for requests that answer soon."""
        return self._client("asking", _READ_S)

    def copying(self) -> "S3Client":
        """The client for copies, whose answer may take as long as the bytes do."""
        return self._client("copying", _COPY_S)

    def presigned(
        self,
        method: str,
        key: str,
        expires_s: int,
        *,
        public: bool,
        query: Mapping[str, str] = _NONE,
        headers: Mapping[str, str] = _NONE,
    ) -> str:
        """A URL with which whoever has it may do this, for the public endpoint where there is one; with these headers.

        What a client's `generate_presigned_url` makes for path style, in a third of its time: each input and output
        of each attempt has one. Source: AWS Signature Version 4, query parameters.
        """
        address = self._address
        endpoint = (address.public_endpoint if public else "") or address.endpoint
        path = quote(f"{address.bucket}/{key}", safe="/~")
        url = f"{endpoint_url(endpoint, secure=address.secure)}/{path}?{urlencode(query, quote_via=quote)}"
        request = AWSRequest(method, url.rstrip("?"), headers=dict(headers))
        S3SigV4QueryAuth(self._credentials, "s3", address.location, expires=expires_s).add_auth(request)
        return str(request.url)

    def close(self) -> None:
        """Closes all connections."""
        for client in self._made.values():
            client.close()

    def _client(self, role: str, read_s: float) -> "S3Client":
        if role not in self._made:
            with _making:
                if role not in self._made:
                    self._made[role] = self._new(read_s)
        return self._made[role]

    def _new(self, read_s: float) -> "S3Client":
        client = _bare_session().client(
            "s3",
            endpoint_url=endpoint_url(self._address.endpoint, secure=self._address.secure),
            region_name=self._address.location,
            aws_access_key_id=self._address.access_key,
            aws_secret_access_key=self._address.secret_key,
            config=_config(read_s),
        )
        client.meta.events.register("before-sign.s3.DeleteObjects", _add_md5)
        if self._address.guard is not None:
            guard_client(client, self._address.guard)
        return client


def endpoint_url(endpoint: str, *, secure: bool) -> str:
    """`endpoint` as a URL.

    >>> endpoint_url("localhost:9000", secure=False), endpoint_url("http://minio:9000", secure=True)
    ('http://localhost:9000', 'http://minio:9000')
    """
    if "://" in endpoint:
        return endpoint.rstrip("/")
    return f"{'https' if secure else 'http'}://{endpoint}"


@cache
def _bare_session() -> boto3.session.Session:
    # One for all stores: it holds the description of the whole API, which takes 0.1 s to read.
    # Without these two, a profile or a shared file of whoever started us could stop or change a client.
    blank = {"profile": (None, None, None, None), "config_file": (None, None, "", None)}
    return boto3.session.Session(botocore_session=botocore.session.Session(session_vars=blank))


def _config(read_s: float) -> Config:
    # Path style and checksums only where required are what every server understands, in presigned URLs above all.
    return Config(
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=_CONNECT_S,
        read_timeout=read_s,
        retries={"total_max_attempts": 2, "mode": "standard"},
        max_pool_connections=THREADS,
        tcp_keepalive=True,
        proxies={},
    )


def _add_md5(request: Any, **_kwargs: Any) -> None:
    # boto3 sends a CRC instead, which servers that are older than that refuse for this one operation.
    request.headers["Content-MD5"] = base64.b64encode(
        hashlib.md5(request.body, usedforsecurity=False).digest()
    ).decode()
