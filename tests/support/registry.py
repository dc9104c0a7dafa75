"""A real registry, images put into it without an engine, and a proxy before it that fails on order."""

import asyncio
import contextlib
import gzip
import hashlib
import io
import json
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import aiohttp
import docker
import requests
from aiohttp import web

PROGRAM = "docker-registry"
USER, PASSWORD = "somebody", "secret"
_HASH = "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_START_S = 30.0
_LITTLE_BYTES = 10_000
_PASSED = {"Accept", "Authorization", "Range"}


class Registry:
    """The program, listening at `url`; `stop` kills it at once, `start` brings it back with all that it had."""

    def __init__(self, folder: Path, *, login: bool = False) -> None:
        self._folder, self._login = folder, (USER, PASSWORD) if login else None
        self._port = _free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._program: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return once it answers."""
        told = self._folder / "registry.json"
        told.write_text(json.dumps(self._settings()))
        with (self._folder / "registry.log").open("ab") as log:
            self._program = subprocess.Popen([PROGRAM, "serve", told], stdout=log, stderr=log)
        deadline = time.monotonic() + _START_S
        while True:
            with contextlib.suppress(requests.ConnectionError):
                requests.get(f"{self.url}/v2/", timeout=5)
                return
            assert self._program.poll() is None, (self._folder / "registry.log").read_text()
            assert time.monotonic() < deadline, "the registry does not start"
            time.sleep(0.02)

    def stop(self) -> None:
        """Kill it; a second time changes nothing."""
        if self._program is not None:
            self._program.kill()
            self._program.wait()
            self._program = None

    def push(self, name: str, word: str, *, tag: str = "latest") -> str:
        """The digest of an image whose `/word` holds `word`, which `name:tag` means from now on."""
        # No two tests share an image, which one of them would find on the engine before it has pulled it.
        origin = f"{self.url}/{name}".encode()
        program = Path("/bin/busybox").read_bytes()
        layer = _layer({"bin/sh": program, "bin/cat": b"", "bin/true": b"", "word": word.encode(), "origin": origin})
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(gzip.decompress(layer))]},
        }
        blob = json.dumps(config).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": self._put_blob(name, _CONFIG, blob),
            "layers": [self._put_blob(name, _LAYER, layer)],
        }
        body = json.dumps(manifest).encode()
        self._ask("PUT", f"/v2/{name}/manifests/{tag}", data=body, headers={"Content-Type": _MANIFEST})
        return _digest(body)

    def delete(self, name: str, digest: str) -> None:
        """The manifest is gone, and every tag that meant it."""
        self._ask("DELETE", f"/v2/{name}/manifests/{digest}")

    def _put_blob(self, name: str, kind: str, content: bytes) -> dict[str, object]:
        begun = self._ask("POST", f"/v2/{name}/blobs/uploads/")
        place = begun.headers["Location"]
        digest = _digest(content)
        path = place.removeprefix(self.url) + ("&" if "?" in place else "?") + f"digest={digest}"
        self._ask("PUT", path, data=content, headers={"Content-Type": "application/octet-stream"})
        return {"mediaType": kind, "size": len(content), "digest": digest}

    def _ask(
        self, method: str, path: str, data: bytes = b"", headers: dict[str, str] | None = None
    ) -> requests.Response:
        answer = requests.request(method, self.url + path, data=data, headers=headers, auth=self._login, timeout=30)
        answer.raise_for_status()
        return answer

    def _settings(self) -> dict[str, object]:
        settings: dict[str, object] = {
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self._folder / "blobs")}, "delete": {"enabled": True}},
            "http": {"addr": f"127.0.0.1:{self._port}"},
        }
        if self._login:
            users = self._folder / "htpasswd"
            users.write_text(f"{USER}:{_HASH}\n")
            settings["auth"] = {"htpasswd": {"realm": "the test's", "path": str(users)}}
        return settings


@contextmanager
def a_registry(folder: Path, *, login: bool = False) -> Iterator[Registry]:
    """A registry of its own in `folder`; with `login` it knows one user."""
    folder.mkdir(parents=True, exist_ok=True)
    registry = Registry(folder, login=login)
    registry.start()
    try:
        yield registry
    finally:
        registry.stop()
        shutil.rmtree(folder, ignore_errors=True)


class Door:
    """The registry as engines see it, at `host`.

    `fault` is how layers end in the middle, "hang" or "cut", or the status that everything is answered with.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.host = ""
        self.fault: str | int | None = None
        self.asked: list[str] = []
        self.hanging = asyncio.Event()
        """Set when somebody waits for a blob that does not come."""
        self.waiting: list[web.Request] = []

    def name(self, repository: str) -> str:
        """How an engine names the repository."""
        return f"{self.host}/{repository}"

    def pulls(self, repository: str) -> int:
        """How often an engine asked what a tag or digest of the repository means."""
        return sum(f"/v2/{repository}/manifests/" in each for each in self.asked)

    def hang_up(self) -> None:
        """Cut everybody off who waits."""
        for request in self.waiting:
            if request.transport is not None:
                request.transport.abort()

    async def _hang(self, request: web.Request) -> None:
        self.hanging.set()
        self.waiting.append(request)
        try:
            await asyncio.Event().wait()
        finally:
            self.waiting.remove(request)

    async def answer(self, session: aiohttp.ClientSession, request: web.Request) -> web.StreamResponse:
        """Pass the request on, or fail as ordered."""
        self.asked.append(f"{request.method} {request.path}")
        if isinstance(self.fault, int):
            return web.Response(status=self.fault, text="a fault on order")
        is_blob = "/blobs/" in request.path
        passed = [(name, value) for name, value in request.headers.items() if name in _PASSED]
        async with session.request(request.method, self.registry.url + request.path_qs, headers=passed) as answer:
            response = web.StreamResponse(status=answer.status, headers=_end_to_end(answer))
            await response.prepare(request)
            body = await answer.read()
            # Engines never give up the little document that comes before the layers.
            if self.fault in {"hang", "cut"} and is_blob and len(body) > _LITTLE_BYTES:
                await response.write(body[: len(body) // 2])
                if self.fault == "hang":
                    await self._hang(request)
                assert request.transport is not None
                request.transport.abort()
            elif request.method != "HEAD":
                await response.write(body)
            return response


@asynccontextmanager
async def a_door(registry: Registry) -> AsyncIterator[Door]:
    """A way to the registry on a port of its own; nothing that was pulled through it is left on the engine."""
    door = Door(registry)
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", partial(door.answer, session))
        runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        door.host = f"127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield door
        finally:
            await runner.cleanup()
            await asyncio.to_thread(remove_images_of, door.host)


def remove_images_of(host: str) -> None:
    """Remove from the engine every image that has a name at this registry."""
    with contextlib.closing(docker.from_env(timeout=60)) as client:
        for row in client.api.images():
            names = [*(row["RepoTags"] or ()), *(row["RepoDigests"] or ())]
            if any(name.startswith(f"{host}/") for name in names):
                client.api.remove_image(row["Id"], force=True)


def _end_to_end(answer: aiohttp.ClientResponse) -> dict[str, str]:
    dropped = {"Connection", "Transfer-Encoding", "Keep-Alive"}
    return {name: value for name, value in answer.headers.items() if name not in dropped}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _layer(files: dict[str, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.mode = 0o755
            if content:
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
            else:
                # The program's other names.
                entry.type, entry.linkname = tarfile.SYMTYPE, "sh"
                tar.addfile(entry)
    return gzip.compress(raw.getvalue(), compresslevel=1, mtime=0)


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()
