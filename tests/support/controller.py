"""A real controller on a real PostgreSQL and the embedded store, and a worker's side played by hand."""

import base64
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from pupload.config import ControllerConfig
from pupload.controller.app import RunningController, running_controller
from pupload.protocol import Assignment, AttemptRef, Finish, Outcome, OutputFound
from pupload.stores.base import Store
from tests.support.flows import REFERENCE

__all__ = ["REFERENCE", "ControllerUnderTest", "HandWorker", "a_controller"]


@dataclass
class HandWorker:
    """Speaks the worker's protocol one call at a time."""

    http: aiohttp.ClientSession
    url: str
    token: str
    instance: str = "one"

    async def call(self, route: str, body: Mapping[str, Any], *, expect: int = 200) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self.http.post(f"{self.url}/api/v1/worker/{route}", json=body, headers=headers) as response:
            text = await response.text()
            assert response.status == expect, (response.status, text)
            return await response.json() if text else None

    async def hello(self) -> Any:
        return await self.call(
            "hello", {"Name": "hand", "Instance": self.instance, "Version": "0", "Capacity": self.capacity()}
        )

    @staticmethod
    def capacity() -> dict[str, Any]:
        return {"cpu": 64.0, "memory_bytes": 2**40, "disk_bytes": 2**42, "gpus": []}

    async def claim(self, *, wait_s: float = 5.0, most: int = 1) -> list[Assignment]:
        body = {"Instance": self.instance, "Free": self.capacity(), "Most": most, "WaitS": wait_s}
        answered = await self.call("claim", body)
        return [Assignment.model_validate(each) for each in answered["Assignments"]]

    async def beat(self, refs: list[AttemptRef], *, wait_s: float = 0.0) -> Any:
        body = {
            "Instance": self.instance,
            "Attempts": [ref.wire() for ref in refs],
            "Free": self.capacity(),
            "WaitS": wait_s,
        }
        return await self.call("beat", body)

    async def upload_output(self, assignment: Assignment, content: bytes, content_type: str) -> OutputFound:
        edge = assignment.outputs[0].edge
        wish = {
            "Edge": edge,
            "SizeBytes": len(content),
            "MD5": base64.b64encode(hashlib.md5(content).digest()).decode(),
            "ContentType": content_type,
        }
        signed = (await self.call("sign", {"Ref": assignment.ref.wire(), "Puts": [wish]}))["Puts"][0]
        async with self.http.put(signed["URL"], data=content, headers=signed["Headers"]) as response:
            assert response.status == 200, await response.text()
        return OutputFound(
            edge=edge,
            key=signed["Key"],
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            content_type=content_type,
        )

    async def finish(self, ref: AttemptRef, *, expect: int = 200, **members: Any) -> Any:
        finish = Finish(ref=ref, **{"outcome": Outcome.SUCCEEDED, **members})
        return await self.call("finish", finish.wire(), expect=expect)


@dataclass
class ControllerUnderTest:
    """A controller with a client's session on it."""

    running: RunningController
    http: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return self.running.url

    async def worker(self) -> HandWorker:
        worker = HandWorker(self.http, self.url, await self.running.add_worker("hand"))
        await worker.hello()
        return worker

    async def get(self, path: str, *, expect: int = 200) -> Any:
        async with self.http.get(self.url + path, allow_redirects=False) as response:
            assert response.status == expect, await response.text()
            return await response.json(content_type=None)

    async def post(self, path: str, body: Any = None, *, expect: int = 200, **kwargs: Any) -> Any:
        async with self.http.post(self.url + path, json=body, **kwargs) as response:
            assert response.status == expect, (response.status, await response.text())
            return await response.json()


@asynccontextmanager
async def a_controller(dsn: str, store: Store, data_dir: Path, **settings: Any) -> AsyncIterator[ControllerUnderTest]:
    """A controller on a free port, as long as the block."""
    config = ControllerConfig(port=0, data_dir=data_dir, **{"reconcile_s": 0.2, **settings})
    async with (
        running_controller(config, dsn=dsn, stores={"default": store}) as running,
        aiohttp.ClientSession() as http,
    ):
        yield ControllerUnderTest(running, http)
