"""Does the engine see a directory of ours? Asked once at the start, without a registry and without a start.

A container is created of an image that is imported empty, with the directory mounted, and a token is read back
through the engine. It fails when the worker itself is in a container, or the engine is on another machine.
"""

import io
import secrets
import tarfile
from collections.abc import Mapping
from pathlib import Path

import docker

from pupload.containers.docker import Engine, Refused

IMAGE = "pupload/probe:1"
_TARGET = "/probe"


async def sees(engine: Engine, work_dir: Path, labels: Mapping[str, str]) -> bool:
    """True when a file in `work_dir` can be read in a container that mounts it.

    Errors: EngineUnavailable; Refused when the engine cannot make containers at all.
    """
    await engine.call("import the probe image", _import_image)
    place = work_dir / f"probe-{secrets.token_hex(4)}"
    place.mkdir(mode=0o700)
    token = place / "token"
    token.write_text(secrets.token_hex(16))
    try:
        return await _reads(engine, place, labels) == token.read_bytes()
    finally:
        token.unlink()
        place.rmdir()


async def _reads(engine: Engine, place: Path, labels: Mapping[str, str]) -> bytes:
    try:
        made = await engine.call("create the probe", lambda client: _create(client, place, labels))
    except Refused as refused:
        # So an engine elsewhere says that it has no such directory.
        if refused.status == 400:
            return b""
        raise
    try:
        return await engine.call("read the probe", lambda client: _token(client, made))
    except Refused as refused:
        if refused.status == 404:
            return b""
        raise
    finally:
        await engine.remove(made)


def _import_image(client: docker.APIClient) -> None:
    if client.images(IMAGE, quiet=True):
        return
    repository, tag = IMAGE.split(":")
    client.import_image_from_data(b"\0" * (2 * tarfile.BLOCKSIZE), repository, tag)


def _create(client: docker.APIClient, place: Path, labels: Mapping[str, str]) -> str:
    bind = {"Type": "bind", "Source": str(place), "Target": _TARGET, "ReadOnly": True}
    body = {
        "Image": IMAGE,
        "Cmd": ["never-started"],
        "Labels": dict(labels),
        "NetworkDisabled": True,
        "HostConfig": {"NetworkMode": "none", "Mounts": [bind]},
    }
    return str(client.create_container_from_config(body, f"pup-{place.name}")["Id"])  # type: ignore[no-untyped-call]


def _token(client: docker.APIClient, container: str) -> bytes:
    pieces, _ = client.get_archive(container, f"{_TARGET}/token")
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
        content = tar.extractfile("token")
        return content.read() if content else b""
