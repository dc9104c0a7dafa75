"""An S3 server in a container: the store of a deployment that has outgrown the embedded one."""

import os
import subprocess
import sys
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import aiohttp
import pytest
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from yarl import URL

from pupload.stores.s3 import S3Store
from tests.support.s3_servers import ACCESS_KEY, SECRET_KEY, S3Server, wait_for_server

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[3]
IMAGE = "pupload/rclone:latest"


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    testcontainers_config.ryuk_disabled = True  # its image comes from a registry, which may not answer
    subprocess.run([sys.executable, "scripts/images.py", "rclone"], cwd=ROOT, check=True, env=dict(os.environ))
    container = DockerContainer(IMAGE).with_env("RCLONE_AUTH_KEY", f'"{ACCESS_KEY},{SECRET_KEY}"')
    with container.with_exposed_ports(8080):
        port = int(container.get_exposed_port(8080))
        wait_for_server(port)
        yield S3Server(f"127.0.0.1:{port}", strict=True)


async def test_an_object_goes_in_and_out_by_signed_urls(server: S3Server) -> None:
    store = S3Store(server.new_bucket())
    await store.check()
    request = store.sign_put("run/edge/0", 60, public=False, size_bytes=5)
    async with aiohttp.ClientSession() as client:
        async with client.put(URL(request.url, encoded=True), data=b"bytes", headers=request.headers) as answer:
            assert answer.status == HTTPStatus.OK
        async with client.get(URL(store.sign_get("run/edge/0", 60, public=False), encoded=True)) as answer:
            assert await answer.read() == b"bytes"
    assert (await store.copy("run/edge/0", "final/result")).size_bytes == 5
    assert [head.key async for head in store.list("")] == ["final/result", "run/edge/0"]
    await store.close()
