"""An attempt as the engine's own configuration of a container. PURE.

Whatever a request says reaches the host config only as a number in range; everything else in it is a constant or
was chosen by this worker. Source: design.md 6.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

IN_DIR = "/pup/in"
OUT_DIR = "/pup/out"
ATTACHMENTS_DIR = "/pup/attachments"
FILES_DIR = "/pup"
TMP_DIR = "/tmp"  # noqa: S108 - the container's own, the one place it may always write

MIN_MEMORY_BYTES = 16 * 1024**2
MAX_MEMORY_BYTES = 64 * 1024**4
MAX_CORES = 1024.0
TMP_BYTES = 64 * 1024**2
TMP_FILES = 16_384
SHM_BYTES = 8 * 1024**2
PIDS = 256
OPEN_FILES = 4096

_TMPFS = f"rw,nosuid,nodev,size={TMP_BYTES},nr_inodes={TMP_FILES},mode=1777"
_DEVICES = {"amd": ("/dev/kfd", "/dev/dri"), "intel": ("/dev/dri",)}
"""What a container needs to see of a GPU whose vendor has no runtime of its own."""


@dataclass(frozen=True, slots=True)
class GpuDevice:
    """One GPU of this machine. `device` is the engine's id of it: an index or a UUID."""

    vendor: str
    device: str = "0"


@dataclass(frozen=True, slots=True)
class Egress:
    """The network by which a container reaches the internet, and who resolves names there; nobody: the engine's way."""

    network: str
    resolvers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sheet:
    """One file at `path` on the host that the container finds below `/pup` by its name."""

    name: str
    path: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """One container with everything decided.

    `argv` None runs the image's own entrypoint and command. `files` is the directory with `in` and `out` that is
    mounted; None gives the container a volume instead, filled and read through the engine. `folders` are further ones
    that the program may write, by the name that they have below `/pup`; `sheets` are single files beside them;
    `attachments` is a folder that it may read.
    Units: memory in bytes, cpu in cores.
    """

    name: str
    image: str
    uid: int
    gid: int
    memory_bytes: int
    cpu: float
    labels: Mapping[str, str]
    argv: tuple[str, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    files: str | None = None
    folders: Mapping[str, str] = field(default_factory=dict)
    sheets: tuple[Sheet, ...] = ()
    attachments: str | None = None
    egress: Egress | None = None
    gpu: GpuDevice | None = None
    runtime: str = ""
    """The engine's runtime that runs it; "" is the engine's default."""
    volumes: tuple[str, ...] = ()
    """Where the image declares volumes. They are empty, and as `/tmp` is: of itself, the engine would give each a
    folder on its own disk, for the program to fill."""


def container_config(spec: ContainerSpec, host_cores: float) -> dict[str, Any]:
    """The body of the engine's create call.

    Errors: ValueError when the spec asks for root.
    Source: https://docs.docker.com/engine/api/v1.41/#operation/ContainerCreate
    """
    if spec.uid < 1 or spec.gid < 1:
        raise ValueError("a container never runs as root")
    return _command(spec) | {
        "Image": spec.image,
        "User": f"{spec.uid}:{spec.gid}",
        "Env": [f"{name}={value}" for name, value in spec.env.items()],
        "Labels": dict(spec.labels),
        "WorkingDir": TMP_DIR,
        "AttachStdin": False,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": False,
        "OpenStdin": False,
        # With the network mode alone the engine still builds a sandbox for it: twice the start time.
        "NetworkDisabled": spec.egress is None,
        "StopSignal": "SIGTERM",
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": host_config(spec, host_cores),
    }


def _command(spec: ContainerSpec) -> dict[str, Any]:
    if spec.argv is None:
        return {}
    return {"Entrypoint": list(spec.argv), "Cmd": []}


def host_config(spec: ContainerSpec, host_cores: float) -> dict[str, Any]:
    """What the container gets of the host, and what it is kept from."""
    memory = int(within(spec.memory_bytes, MIN_MEMORY_BYTES, MAX_MEMORY_BYTES))
    cores = min(within(spec.cpu, 0.01, MAX_CORES), max(0.01, host_cores))
    return {
        "NetworkMode": spec.egress.network if spec.egress else "none",
        "Dns": list(spec.egress.resolvers) if spec.egress else [],
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true"],
        "Privileged": False,
        "ReadonlyRootfs": True,
        "Tmpfs": dict.fromkeys((TMP_DIR, *spec.volumes), _TMPFS),
        "Mounts": _mounts(spec),
        "Memory": memory,
        "MemorySwap": memory,
        "NanoCpus": int(round(cores, 2) * 10**9),
        "PidsLimit": PIDS,
        "Ulimits": [
            {"Name": "nofile", "Soft": OPEN_FILES, "Hard": OPEN_FILES},
            {"Name": "core", "Soft": 0, "Hard": 0},
        ],
        "OomKillDisable": False,
        "Init": True,
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "AutoRemove": False,
        "LogConfig": {"Type": "local", "Config": {"max-size": "1m", "max-file": "1", "compress": "false"}},
        "IpcMode": "private",
        "PidMode": "",
        "UTSMode": "",
        "CgroupnsMode": "private",
        "ShmSize": SHM_BYTES,
        "PublishAllPorts": False,
        **_gpu(spec.gpu),
        **({"Runtime": spec.runtime} if spec.runtime else {}),
    }


def within(value: float, low: float, high: float) -> float:
    """`value`, or the end of the range that it lies beyond.

    >>> within(3, 0, 2), within(-1, 0, 2)
    (2, 0)
    """
    return min(max(value, low), high)


def _mounts(spec: ContainerSpec) -> list[dict[str, Any]]:
    if spec.files is None:
        return [{"Type": "volume", "Target": FILES_DIR, "VolumeOptions": {"NoCopy": True}}]
    return [
        _bind(f"{spec.files}/in", IN_DIR, read_only=True),
        _bind(f"{spec.files}/out", OUT_DIR, read_only=False),
        *([_bind(spec.attachments, ATTACHMENTS_DIR, read_only=True)] if spec.attachments else []),
        *(_bind(path, f"{FILES_DIR}/{name}", read_only=False) for name, path in spec.folders.items()),
        *(_bind(sheet.path, f"{FILES_DIR}/{sheet.name}", read_only=sheet.read_only) for sheet in spec.sheets),
    ]


def _bind(source: str, target: str, *, read_only: bool) -> dict[str, Any]:
    return {
        "Type": "bind",
        "Source": source,
        "Target": target,
        "ReadOnly": read_only,
        "BindOptions": {"Propagation": "rprivate"},
    }


def _gpu(gpu: GpuDevice | None) -> dict[str, Any]:
    if gpu is None:
        return {}
    if gpu.vendor == "nvidia":
        wish = {"Driver": "nvidia", "DeviceIDs": [gpu.device], "Capabilities": [["gpu"]]}
        return {"DeviceRequests": [wish]}
    paths = _DEVICES.get(gpu.vendor, ())
    return {"Devices": [{"PathOnHost": path, "PathInContainer": path, "CgroupPermissions": "rw"} for path in paths]}
