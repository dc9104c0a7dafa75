"""Stands before any S3 server and adds what only MinIO has: ListenBucketNotification.

It speaks as MinIO does: the answer's head comes with its first bytes, a blank every half second, one JSON line an
event, keys as they are (releases before 2021 encoded them), nothing about objects written before. Requests are passed
on as they came, Host included, so that signatures stay right and are checked by the server behind.
Source: MinIO's listen-notification handler, event structure and `mc watch`.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from urllib.parse import quote_plus, unquote

import aiohttp
from aiohttp import web
from yarl import URL

_HOP_BY_HOP = {"connection", "expect", "keep-alive", "transfer-encoding"}


class MinioStandIn:
    """One gateway. `blank_s` seconds between blanks, `encoded_keys` as of before 2021."""

    def __init__(self, upstream: str, *, blank_s: float = 0.5, encoded_keys: bool = False) -> None:
        self.endpoint = ""
        self.listeners: set[asyncio.Queue[bytes | None]] = set()
        self._upstream, self._blank_s, self._encoded_keys = upstream, blank_s, encoded_keys

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["MinioStandIn"]:
        """Listens on a free port as long as the block."""
        async with aiohttp.ClientSession(auto_decompress=False) as self._client:
            application = web.Application()
            application.router.add_route("*", "/{path:.*}", self._answer)
            runner = web.AppRunner(application, shutdown_timeout=1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.endpoint = "{}:{}".format(*runner.addresses[0][:2])
            try:
                yield self
            finally:
                self.end_listeners()
                await runner.cleanup()

    def end_listeners(self) -> None:
        """Ends every listener's answer, as a MinIO does that is shut down."""
        for listener in self.listeners:
            listener.put_nowait(None)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.method == "GET" and "events" in request.query:
            return await self._listen(request)
        return await self._pass_on(request)

    async def _listen(self, request: web.Request) -> web.StreamResponse:
        async with self._ask(request) as refusal:
            if refusal.status != web.HTTPOk.status_code:
                return web.Response(status=refusal.status, body=await refusal.read(), content_type="application/xml")
        events: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.listeners.add(events)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        try:
            await self._stream(request, response, events)
        finally:
            self.listeners.discard(events)
        return response

    async def _stream(
        self, request: web.Request, response: web.StreamResponse, events: asyncio.Queue[bytes | None]
    ) -> None:
        with contextlib.suppress(ConnectionError):  # the listener has left
            while True:
                try:
                    async with asyncio.timeout(self._blank_s):
                        line = await events.get()
                except TimeoutError:
                    line = b" "
                if line is None:
                    return
                if not response.prepared:
                    await response.prepare(request)
                await response.write(line)

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        async with self._ask(request) as answer:
            headers = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP_BY_HOP}
            response = web.StreamResponse(status=answer.status, headers=headers)
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            if answer.status == web.HTTPOk.status_code:
                self._tell(request, answer)
        await response.write_eof()
        return response

    @asynccontextmanager
    async def _ask(self, request: web.Request) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP}
        async with self._client.request(
            request.method,
            URL(f"http://{self._upstream}{request.raw_path}", encoded=True),
            headers=headers,
            data=request.content if request.body_exists else None,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            allow_redirects=False,
        ) as answer:
            yield answer

    def _tell(self, request: web.Request, answer: aiohttp.ClientResponse) -> None:
        name = _event_name(request)
        bucket, _, key = unquote(request.raw_path.partition("?")[0]).strip("/").partition("/")
        if name and key:
            line = json.dumps({"Records": [self._record(request, answer, name, bucket, key)]}).encode() + b"\n"
            for listener in self.listeners:
                listener.put_nowait(line)

    def _record(
        self, request: web.Request, answer: aiohttp.ClientResponse, name: str, bucket: str, key: str
    ) -> dict[str, object]:
        owner = {"principalId": "tester"}
        return {
            "eventVersion": "2.0",
            "eventSource": "minio:s3",
            "awsRegion": "",
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
            "eventName": name,
            "userIdentity": owner,
            "requestParameters": {**owner, "region": "", "sourceIPAddress": request.remote or ""},
            "responseElements": {"x-amz-request-id": answer.headers.get("x-amz-request-id", "")},
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": "Config",
                "bucket": {"name": bucket, "ownerIdentity": owner, "arn": f"arn:aws:s3:::{bucket}"},
                "object": {
                    "key": quote_plus(key) if self._encoded_keys else key,
                    "size": int(request.headers.get("Content-Length", 0)),
                    "eTag": answer.headers.get("ETag", "").strip('"'),
                    "contentType": request.headers.get("Content-Type", "application/octet-stream"),
                    "sequencer": "18EA7545EFB68B7F",
                },
            },
            "source": {"host": request.remote or "", "port": "", "userAgent": request.headers.get("User-Agent", "")},
        }


def _event_name(request: web.Request) -> str:
    if request.method == "PUT" and "partNumber" not in request.query:
        return "s3:ObjectCreated:Copy" if "x-amz-copy-source" in request.headers else "s3:ObjectCreated:Put"
    if request.method == "POST" and "uploadId" in request.query:
        return "s3:ObjectCreated:CompleteMultipartUpload"
    return ""
