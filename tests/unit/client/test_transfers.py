"""Files: streamed, counted, whole or not at all."""

import hashlib
from pathlib import Path

import pytest

from pupload.client.client import AsyncClient
from pupload.client.errors import NotAllowed, ServerUnreachable
from pupload.errors import Malformed
from tests.support.fake_server import FakeServer, breaks, breaks_after, gives, moved, says, sends

SIGNED = "/bucket/a%2Fkey%20x?X-Amz-Signature=a%2Bb"
PLAIN = "/bucket/a/key x"
CONTENT = bytes(range(256)) * 4000


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.bin"
    path.write_bytes(CONTENT)
    return path


async def test_an_upload_has_its_length_and_all_bytes(server: FakeServer, client: AsyncClient, source: Path) -> None:
    server.on("PUT", PLAIN, says("", 200))
    done: list[int] = []
    await client.put_file(server.url + SIGNED, source, done.append)
    asked = server.asked[0]
    assert asked.body == CONTENT
    assert asked.headers["Content-Length"] == str(len(CONTENT))
    assert "Transfer-Encoding" not in asked.headers
    assert (done[0], done[-1], sorted(done)) == (0, len(CONTENT), done)


async def test_a_signed_url_is_used_as_it_stands(server: FakeServer, client: AsyncClient, source: Path) -> None:
    server.on("PUT", PLAIN, says("", 200))
    await client.put_file(server.url + SIGNED, source)
    assert server.asked[0].path == "/bucket/a%2Fkey%20x"
    assert server.asked[0].query == {"X-Amz-Signature": "a+b"}


async def test_the_store_never_sees_the_servers_token(server: FakeServer, client: AsyncClient, source: Path) -> None:
    server.on("PUT", PLAIN, says("", 200))
    await client.put_file(server.url + SIGNED, source)
    assert "Authorization" not in server.asked[0].headers


async def test_an_empty_file_is_a_file(server: FakeServer, client: AsyncClient, tmp_path: Path) -> None:
    server.on("PUT", PLAIN, says("", 200))
    (tmp_path / "empty").touch()
    await client.put_file(server.url + SIGNED, tmp_path / "empty")
    assert (server.asked[0].body, server.asked[0].headers["Content-Length"]) == (b"", "0")


async def test_an_upload_is_tried_again_from_its_beginning(
    server: FakeServer, client: AsyncClient, source: Path
) -> None:
    server.on("PUT", PLAIN, breaks, says("", 200))
    done: list[int] = []
    await client.put_file(server.url + SIGNED, source, done.append)
    assert server.asked[-1].body == CONTENT
    assert done.count(0) == 2


async def test_a_refused_upload_is_not_tried_again(server: FakeServer, client: AsyncClient, source: Path) -> None:
    server.on("PUT", PLAIN, says("<Error>expired</Error>", 403))
    with pytest.raises(NotAllowed):
        await client.put_file(server.url + SIGNED, source)
    assert len(server.asked) == 1


async def test_a_failed_transfer_never_shows_its_url(client: AsyncClient, source: Path) -> None:
    with pytest.raises(ServerUnreachable) as raised:
        await client.put_file("http://127.0.0.1:1" + SIGNED, source)
    assert "Signature" not in str(raised.value)


async def test_what_is_no_file_cannot_be_sent(server: FakeServer, client: AsyncClient, tmp_path: Path) -> None:
    with pytest.raises(Malformed, match="not a file"):
        await client.put_file(server.url + SIGNED, tmp_path / "none")


async def test_an_artifact_is_fetched_from_where_the_server_points(
    server: FakeServer, client: AsyncClient, tmp_path: Path
) -> None:
    server.on("GET", "/api/v1/runs/run_1/artifacts/out", moved(server.url + SIGNED))
    server.on("GET", PLAIN, sends(CONTENT))
    done: list[int] = []
    path = await client.artifact("run_1", "out", tmp_path / "out.bin", done.append)
    assert path.read_bytes() == CONTENT
    assert done[-1] == len(CONTENT)
    assert [("Authorization" in asked.headers) for asked in server.asked] == [True, False]


async def test_a_download_that_breaks_off_is_fetched_anew_by_a_fresh_url(
    server: FakeServer, client: AsyncClient, tmp_path: Path
) -> None:
    server.on("GET", "/api/v1/runs/run_1/artifacts/out", moved(server.url + SIGNED))
    server.on("GET", PLAIN, breaks_after(CONTENT[:5000], len(CONTENT)), sends(CONTENT))
    path = await client.artifact("run_1", "out", tmp_path / "out.bin", sha256=hashlib.sha256(CONTENT).hexdigest())
    assert path.read_bytes() == CONTENT
    assert [asked.path for asked in server.asked].count("/api/v1/runs/run_1/artifacts/out") == 2


async def test_a_damaged_download_leaves_the_old_file(server: FakeServer, client: AsyncClient, tmp_path: Path) -> None:
    (tmp_path / "out.bin").write_text("old")
    server.on("GET", "/api/v1/runs/run_1/artifacts/out", moved(server.url + SIGNED))
    server.on("GET", PLAIN, sends(CONTENT))
    with pytest.raises(ServerUnreachable, match="damaged"):
        await client.artifact("run_1", "out", tmp_path / "out.bin", sha256="0" * 64)
    assert (names_in(tmp_path), (tmp_path / "out.bin").read_text()) == (["out.bin"], "old")


async def test_a_disk_fault_is_not_taken_for_the_stores(
    server: FakeServer, client: AsyncClient, tmp_path: Path
) -> None:
    server.on("GET", "/api/v1/runs/run_1/artifacts/out", moved(server.url + SIGNED))
    server.on("GET", PLAIN, sends(CONTENT))
    with pytest.raises(FileNotFoundError):
        await client.artifact("run_1", "out", tmp_path / "none" / "out.bin")


async def test_an_upload_is_completed_by_its_edge(server: FakeServer, client: AsyncClient) -> None:
    server.on("POST", "/api/v1/runs/run_1/uploads/in/complete", gives({}))
    await client.complete_upload("run_1", "in")
    assert len(server.asked) == 1
