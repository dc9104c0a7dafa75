"""The Debian or Ubuntu image that the nodes' Dockerfiles start from: found, pulled, or made on this machine.

A base made here comes from the package mirrors that this machine itself is configured with.
"""

import os
import shutil
import subprocess
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import docker
import requests
from docker.errors import DockerException, ImageNotFound

WANTED = os.environ.get("BASE_IMAGE", "debian:bookworm-slim")
_REGISTRY_S = 10
_PULL_S = 300


class NotBuilt(Exception):
    """An image, or what it is made of, cannot be had; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Mirror:
    """Where this machine's own packages come from. `sources` holds the lines of its sources.list."""

    url: str
    components: tuple[str, ...]
    sources: tuple[str, ...]


def base_image(engine: docker.DockerClient) -> str:
    """The name of a base image that the engine has.

    Errors: NotBuilt.
    """
    if _has(engine, WANTED):
        return WANTED
    distribution, release = _release()
    made = f"pupload/{distribution}:{release}"
    if _has(engine, made):
        return made
    return WANTED if _pulled(WANTED) else _make(engine, made, release)


def _has(engine: docker.DockerClient, image: str) -> bool:
    try:
        engine.images.get(image)
    except ImageNotFound:
        return False
    return True


def _pulled(image: str) -> bool:
    """True when a registry answered within ten seconds, and gave the image within five minutes."""
    print(f"looking for {image} in its registry", flush=True)
    try:
        with closing(docker.from_env(timeout=_REGISTRY_S)) as engine:
            engine.api.inspect_distribution(image)  # type: ignore[no-untyped-call]
        with closing(docker.from_env(timeout=_PULL_S)) as engine:
            engine.images.pull(image)
    except (DockerException, requests.RequestException):
        return False
    return True


def _release() -> tuple[str, str]:
    """The id and the code name of this machine's distribution, such as `debian`, `bookworm`."""
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except FileNotFoundError:
        lines = []
    named = dict(line.split("=", 1) for line in lines if "=" in line)
    return named.get("ID", "linux").strip('"'), named.get("VERSION_CODENAME", "unknown").strip('"')


def _make(engine: docker.DockerClient, image: str, release: str) -> str:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise NotBuilt(
            f"no registry gives {WANTED}: name an image you have in BASE_IMAGE, or run this as root on Debian"
        )
    mirror = _mirror(release)
    print(f"no registry answers: making {image} by debootstrap, about a minute", flush=True)
    if shutil.which("debootstrap") is None:
        install("debootstrap")
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="pupload-base-") as root:
        _bootstrap(Path(root), release, mirror)
        _import(engine, Path(root), image)
    return image


def _mirror(release: str) -> Mirror:
    """The mirror of `release` in this machine's apt configuration, with its updates and security suites."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    rows = [row.split() for row in listed.splitlines()]
    ours = [row for row in rows if len(row) == 3 and row[0].startswith("http") and row[1].startswith(release)]
    plain = [(url, component) for url, suite, component in ours if suite == release]
    if not plain:
        raise NotBuilt(f"apt knows no http mirror of {release}: name an image you have in BASE_IMAGE")
    return Mirror(
        url=plain[0][0],
        components=tuple(dict.fromkeys(component for _, component in plain if component in ("main", "universe"))),
        sources=tuple(dict.fromkeys(f"deb {url} {suite} {component}" for url, suite, component in ours)),
    )


def _bootstrap(root: Path, release: str, mirror: Mirror) -> None:
    components = f"--components={','.join(mirror.components)}"
    run_quietly(
        "debootstrap", "--variant=minbase", "--include=ca-certificates", components, release, str(root), mirror.url
    )
    (root / "etc/apt/sources.list").write_text("\n".join(mirror.sources) + "\n")
    for waste in (*root.glob("var/cache/apt/archives/*.deb"), *root.glob("var/lib/apt/lists/*_*")):
        waste.unlink()


def _import(engine: docker.DockerClient, root: Path, image: str) -> None:
    repository, tag = image.split(":")
    with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as packed:
        engine.api.import_image_from_stream(packed.stdout, repository=repository, tag=tag)
    if packed.returncode:
        raise NotBuilt(f"tar could not pack the new base image (exit code {packed.returncode})")


def install(package: str) -> None:
    """Installs a package of this machine's Debian or Ubuntu; only root may.

    Errors: NotBuilt.
    """
    run_quietly("apt-get", "update")
    run_quietly("apt-get", "install", "-y", "--no-install-recommends", package)


def run_quietly(*argv: str) -> None:
    """Runs a program of the system; its output is shown only when it fails.

    Errors: NotBuilt.
    """
    done = subprocess.run(argv, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-20:])
        raise NotBuilt(f"`{' '.join(argv)}` failed with exit code {done.returncode}:\n{tail}")
