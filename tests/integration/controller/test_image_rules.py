"""The operator's rules for images, as a client meets them."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from pupload.stores.base import Store
from tests.support.controller import a_controller
from tests.support.docker_images import ensure_busybox
from tests.support.flows import a_def, a_flow, a_node, documents
from tests.support.registry import PROGRAM, a_door, a_registry

pytestmark = pytest.mark.integration
DIGEST = "ghcr.io/acme/tool@sha256:" + "a" * 64
NO_ENGINE = "tcp://127.0.0.1:9"


def using(image: str) -> dict[str, Any]:
    return documents(a_flow(a_node("first")), a_def(Image=image))


async def test_a_run_of_an_image_from_elsewhere_is_refused(database_dsn: str, store: Store, tmp_path: Path) -> None:
    allowed = ("ghcr.io/acme", "docker.io/library")
    async with a_controller(database_dsn, store, tmp_path, registries=allowed) as controller:
        for image in ("somebody/tool:1", "ghcr.io/acmeevil/tool", "sha256:" + "0" * 64):
            said = (await controller.post("/api/v1/runs", using(image), expect=422))["Error"]
            assert said["Code"] == "IMAGE_REFUSED"
            [detail] = said["Details"]
            assert (detail["Node"], detail["Image"]) == ("first", image)
            assert detail["Message"].endswith("images may only come from ghcr.io/acme, docker.io/library")
        for image in ("python:3", DIGEST):
            await controller.post("/api/v1/flow/test", using(image))


async def test_a_version_of_an_image_from_elsewhere_is_refused(database_dsn: str, store: Store, tmp_path: Path) -> None:
    async with a_controller(database_dsn, store, tmp_path, registries=("ghcr.io",), pin_images=False) as controller:
        draft = documents(a_flow(a_node(), Name="tool"), a_def(Image="evil.com/tool"))
        async with controller.http.put(f"{controller.url}/api/v1/flows/tool", json=draft) as answer:
            assert answer.status in {200, 201}, await answer.text()
        said = await controller.post("/api/v1/flows/tool/versions", expect=422)
        assert said["Error"]["Code"] == "IMAGE_REFUSED"


async def test_where_exact_images_are_required_a_tag_that_nobody_can_read_makes_no_run(
    database_dsn: str, store: Store, tmp_path: Path
) -> None:
    settings = {"require_digest": True, "docker_host": NO_ENGINE}
    async with a_controller(database_dsn, store, tmp_path, **settings) as controller:
        said = (await controller.post("/api/v1/runs", using("python:3"), expect=422))["Error"]
        assert said["Code"] == "IMAGE_REFUSED"
        assert "node 'first': image python:3 is named by a tag" in said["Message"]
        await controller.post("/api/v1/flow/test", using(DIGEST))


async def test_where_exact_images_are_required_a_tag_is_settled_before_the_run(
    database_dsn: str, store: Store, tmp_path: Path
) -> None:
    busybox = ensure_busybox()
    flow = documents(a_flow(a_node("first", reads={})), a_def(Image=busybox))
    async with a_controller(database_dsn, store, tmp_path, require_digest=True) as controller:
        await controller.post("/api/v1/flow/test", flow)
        worker = await controller.worker()
        [assignment] = await worker.claim()
        assert assignment.image == busybox
        assert assignment.exact.startswith("sha256:")


async def test_a_version_names_the_digest_that_its_registry_tells(
    database_dsn: str, store: Store, tmp_path: Path
) -> None:
    if shutil.which(PROGRAM) is None:
        pytest.skip(f"{PROGRAM} is not installed")
    with a_registry(tmp_path / "registry") as registry:
        digest = registry.push("published", "one")
        async with a_door(registry) as door, a_controller(database_dsn, store, tmp_path) as controller:
            draft = documents(a_flow(a_node(), Name="tool"), a_def(Image=door.name("published:latest")))
            async with controller.http.put(f"{controller.url}/api/v1/flows/tool", json=draft) as answer:
                assert answer.status in {200, 201}, await answer.text()
            version = await controller.post("/api/v1/flows/tool/versions", expect=201)
            image = door.name("published")
            assert (version["Images"], version["Warnings"]) == ({f"{image}:latest": f"{image}@{digest}"}, [])
