"""A bucket in any server that speaks S3, through boto3 in threads."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

import aiohttp
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from pupload.errors import NotFound, StoreUnavailable, TooLarge
from pupload.stores.base import Head, Multipart, Part, SignedRequest, StoreAddress
from pupload.stores.clients import THREADS, Clients
from pupload.stores.faults import (
    missing_bucket,
    refusal,
    refused_connections,
    status_of,
    translated,
    unreachable,
)
from pupload.stores.saving import attachment
from pupload.stores.upload import Uploads, WholeBody

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CopySourceTypeDef

T = TypeVar("T")

_LARGEST_COPY_BYTES = 5 * 1024**3
_COPY_PART_BYTES = 512 * 1024**2
_LONGEST_SIGNATURE_S = 7 * 86400
_UPLOAD_S = 3600.0
_ANY_TYPE = "application/octet-stream"
_KEYS_AT_ONCE = 1000
_MOST_LISTED = 1_000_000
_LONGEST_LIST_S = 60.0
"""Of a store that a flow named, which may go on for ever."""


class S3Store:
    """The store at an address.

    Source: the S3 API reference; `Store` says what each method promises.
    """

    largest_copy_bytes = _LARGEST_COPY_BYTES
    """Beyond this, S3 copies only in parts."""
    copy_part_bytes = _COPY_PART_BYTES
    keys_a_page = _KEYS_AT_ONCE
    parts_a_page = _KEYS_AT_ONCE

    def __init__(self, address: StoreAddress) -> None:
        self.name = address.name
        self.address = address
        self._bucket = address.bucket
        self._clients = Clients(address)
        self._uploads = Uploads(address.guard)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix=f"store-{address.name}")

    @property
    def foreign(self) -> bool:
        return self.address.guard is not None

    async def check(self) -> None:
        await self._ask("look at the bucket", self._check)

    async def head(self, key: str) -> Head | None:
        return await self._ask(f"look at {key}", partial(self._head, key))

    def sign_get(self, key: str, expires_s: float, *, public: bool, download_name: str = "") -> str:
        told = {"response-content-disposition": attachment(download_name)} if download_name else {}
        return self._clients.presigned("GET", key, _whole_seconds(expires_s), public=public, query=told)

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
        given = {
            "Content-Length": "" if size_bytes is None else str(size_bytes),
            "Content-MD5": md5,
            "Content-Type": content_type,
        }
        headers = {name: value for name, value in given.items() if value}
        url = self._clients.presigned("PUT", key, _whole_seconds(expires_s), public=public, headers=headers)
        return SignedRequest(url, headers)

    async def put(self, key: str, content: bytes, content_type: str) -> Head:
        return await self._ask(f"write {key}", partial(self._put, key, content, content_type))

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes], size_bytes: int, content_type: str = "") -> Head:
        about = f"write {key}"
        request = self.sign_put(key, _UPLOAD_S, public=False, size_bytes=size_bytes, content_type=content_type)
        try:
            with refused_connections(self.address):
                status, code = await self._uploads.send(request, WholeBody(chunks, size_bytes))
        except (aiohttp.ClientError, TimeoutError) as error:
            # The client's words may hold the signed address: neither text nor cause goes on.
            raise unreachable(self.address, about, type(error).__name__) from None
        if status != HTTPStatus.OK:
            raise refusal(self.address, about, status, code)
        return await self._written(key, about)

    async def begin_multipart(self, key: str, content_type: str = "") -> Multipart:
        about = f"begin to write {key} in parts"
        upload_id = await self._ask(about, partial(self._begin_multipart, key, content_type))
        return Multipart(key, upload_id, content_type)

    def sign_part(
        self, multipart: Multipart, number: int, expires_s: float, *, public: bool, size_bytes: int
    ) -> SignedRequest:
        headers = {"Content-Length": str(size_bytes)}
        url = self._clients.presigned(
            "PUT",
            multipart.key,
            _whole_seconds(expires_s),
            public=public,
            query={"partNumber": str(number), "uploadId": multipart.id},
            headers=headers,
        )
        return SignedRequest(url, headers)

    async def list_parts(self, multipart: Multipart) -> list[Part]:
        found: dict[int, Part] = {}
        last, more = 0, True
        while more:
            about = f"list the parts of {multipart.key}"
            parts, is_truncated = await self._ask(about, partial(self._parts, multipart, last))
            found |= parts
            # rclone begins a page with the part that the last one ended with.
            more = is_truncated and max(found, default=0) > last
            last = max(found, default=0)
        return [found[number] for number in sorted(found)]

    async def complete_multipart(self, multipart: Multipart, parts: Sequence[Part]) -> Head:
        about = f"complete {multipart.key}"
        return await self._ask(about, partial(self._complete_multipart, multipart, parts))

    async def abort_multipart(self, multipart: Multipart) -> None:
        with suppress(NotFound):
            await self._ask(f"abort {multipart.key}", partial(self._abort_multipart, multipart))

    async def get(self, key: str, limit_bytes: int) -> bytes:
        return await self._ask(f"read {key}", partial(self._get, key, limit_bytes))

    async def copy(self, source_key: str, target_key: str) -> Head:
        return await self._ask(f"copy {source_key} to {target_key}", partial(self._copy, source_key, target_key))

    async def delete(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            some = keys[start : start + _KEYS_AT_ONCE]
            await self._ask(f"delete {len(some)} objects", partial(self._delete, some))

    async def list(self, prefix: str) -> AsyncIterator[Head]:
        token, listed, began = "", 0, time.monotonic()
        while True:
            heads, token = await self._ask(f"list {prefix}", partial(self._page, prefix, token))
            for head in heads:
                yield head
            if not token:
                return
            listed += len(heads)
            if self.foreign and (listed > _MOST_LISTED or time.monotonic() > began + _LONGEST_LIST_S):
                raise unreachable(self.address, f"list {prefix}", "the list does not end")

    def watch(self) -> AsyncIterator[str] | None:
        return None

    async def close(self) -> None:
        await self._uploads.close()
        # A call that hangs ends by its own deadline; nobody waits for its answer any more.
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._clients.close()

    async def _ask(self, about: str, work: Callable[["S3Client"], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(self._answer, about, work))

    def _answer(self, about: str, work: Callable[["S3Client"], T]) -> T:
        with translated(self.address, about):
            return work(self._clients.asking())

    def _check(self, client: "S3Client") -> None:
        try:
            client.head_bucket(Bucket=self._bucket)
        except ClientError as error:
            if status_of(error) == HTTPStatus.NOT_FOUND:
                raise missing_bucket(self.address) from error
            raise

    def _head(self, key: str, client: "S3Client") -> Head | None:
        try:
            answer = client.head_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if status_of(error) == HTTPStatus.NOT_FOUND:
                return None
            raise
        return self._head_of(
            key, answer["ContentLength"], answer["ETag"], answer["LastModified"], answer.get("ContentType", "")
        )

    def _put(self, key: str, content: bytes, content_type: str, client: "S3Client") -> Head:
        client.put_object(Bucket=self._bucket, Key=key, Body=content, ContentType=content_type or _ANY_TYPE)
        return self._present(key, client)

    def _begin_multipart(self, key: str, content_type: str, client: "S3Client") -> str:
        begun = client.create_multipart_upload(Bucket=self._bucket, Key=key, ContentType=content_type or _ANY_TYPE)
        return begun["UploadId"]

    def _parts(self, multipart: Multipart, after: int, client: "S3Client") -> tuple[dict[int, Part], bool]:
        """Parts by number, and whether there are more."""
        page = client.list_parts(
            Bucket=self._bucket,
            Key=multipart.key,
            UploadId=multipart.id,
            PartNumberMarker=after,
            MaxParts=self.parts_a_page,
        )
        found = (Part(each["PartNumber"], each["Size"], each["ETag"]) for each in page.get("Parts", ()))
        return {part.number: part for part in found}, page.get("IsTruncated", False)

    def _complete_multipart(self, multipart: Multipart, parts: Sequence[Part], _asking: "S3Client") -> Head:
        # Putting the parts together may take a server minutes, like a copy.
        client = self._clients.copying()
        client.complete_multipart_upload(
            Bucket=self._bucket,
            Key=multipart.key,
            UploadId=multipart.id,
            MultipartUpload={"Parts": [{"PartNumber": part.number, "ETag": part.etag} for part in parts]},
        )
        return self._present(multipart.key, client)

    def _abort_multipart(self, multipart: Multipart, client: "S3Client") -> None:
        client.abort_multipart_upload(Bucket=self._bucket, Key=multipart.key, UploadId=multipart.id)

    def _get(self, key: str, limit_bytes: int, client: "S3Client") -> bytes:
        answer = client.get_object(Bucket=self._bucket, Key=key)
        with closing(answer["Body"]) as body:
            if answer["ContentLength"] > limit_bytes:
                raise TooLarge(f"store {self.name!r}: {key} is larger than {limit_bytes} bytes")
            # Only a read without a number notices an answer that was cut off.
            return body.read()

    def _copy(self, source_key: str, target_key: str, client: "S3Client") -> Head:
        source = self._present(source_key, client)
        origin: CopySourceTypeDef = {"Bucket": self._bucket, "Key": source_key}
        copying = self._clients.copying()
        if source.size_bytes <= self.largest_copy_bytes:
            copying.copy_object(Bucket=self._bucket, Key=target_key, CopySource=origin)
        else:
            # A copy in parts is a new object: it takes nothing but the bytes from its source.
            copying.copy(
                origin, self._bucket, target_key,
                ExtraArgs={"ContentType": source.content_type or _ANY_TYPE},
                Config=TransferConfig(self.largest_copy_bytes, multipart_chunksize=self.copy_part_bytes),
            )  # fmt: skip
        return self._present(target_key, client)

    def _present(self, key: str, client: "S3Client") -> Head:
        head = self._head(key, client)
        if head is None:
            raise NotFound(f"store {self.name!r}: there is no object {key} in bucket {self._bucket!r}")
        return head

    def _delete(self, keys: Sequence[str], client: "S3Client") -> None:
        answer = client.delete_objects(
            Bucket=self._bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
        )
        for failed in answer.get("Errors", ()):
            if failed.get("Code") != "NoSuchKey":
                raise refusal(self.address, f"delete {failed.get('Key', '')}", HTTPStatus.OK, failed.get("Code", ""))

    def _page(self, prefix: str, token: str, client: "S3Client") -> tuple[Sequence[Head], str]:
        """Objects, and the token for those after them, "" where there are none."""
        ask = partial(client.list_objects_v2, Bucket=self._bucket, Prefix=prefix, MaxKeys=self.keys_a_page)
        page = ask(ContinuationToken=token) if token else ask()
        heads = [
            self._head_of(entry["Key"], entry["Size"], entry["ETag"], entry["LastModified"], "")
            for entry in page.get("Contents", ())
        ]
        return heads, page.get("NextContinuationToken", "")

    async def _written(self, key: str, about: str) -> Head:
        head = await self.head(key)
        if head is None:
            raise StoreUnavailable(f"store {self.name!r} said that it did {about} and has no such object")
        return head

    def _head_of(self, key: str, size_bytes: int, etag: str, modified: datetime, content_type: str) -> Head:
        return Head(key, size_bytes, etag.strip('"'), modified.astimezone(UTC), content_type)


def _whole_seconds(expires_s: float) -> int:
    return max(1, min(math.ceil(expires_s), _LONGEST_SIGNATURE_S))
