"""What this worker offers, and what of it is taken."""

import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pupload.config import WorkerConfig
from pupload.containers.spec import GpuDevice
from pupload.containers.state import EngineInfo
from pupload.errors import InvalidConfig
from pupload.tiers import Capacity, Gpu, Tier, fits, pick_gpu, release, reserve
from pupload.units import parse_size


@dataclass(frozen=True, slots=True)
class Reservation:
    """What one attempt has taken."""

    tier: Tier
    gpu: Gpu | None = None
    device: GpuDevice | None = None


class Ledger:
    """What is offered, reserved and free."""

    def __init__(self, offered: Capacity, devices: Iterable[tuple[Gpu, GpuDevice]] = ()) -> None:
        self.offered = offered
        self._free = offered
        self._devices = list(devices)

    @property
    def free(self) -> Capacity:
        """What nobody has reserved."""
        return self._free

    def reserve(self, tier: Tier) -> Reservation | None:
        """A place for `tier`, None when it does not fit."""
        if not fits(tier, self._free):
            return None
        gpu = pick_gpu(tier.gpu, self._free.gpus) if tier.gpu else None
        self._free = reserve(tier, self._free)
        return Reservation(tier, gpu, self._take_device(gpu) if gpu else None)

    def release(self, taken: Reservation) -> None:
        """Give a place back."""
        self._free = release(taken.tier, self._free, taken.gpu)
        if taken.gpu and taken.device:
            self._devices.append((taken.gpu, taken.device))

    def _take_device(self, gpu: Gpu) -> GpuDevice:
        place = next(i for i, (known, _) in enumerate(self._devices) if known == gpu)
        return self._devices.pop(place)[1]


def free_after(free: Capacity, taken: Capacity) -> Capacity:
    """`free` without what is already offered elsewhere; never below nothing."""
    gpus = list(free.gpus)
    for gpu in taken.gpus:
        if gpu in gpus:
            gpus.remove(gpu)
    return Capacity(
        cpu=max(0.0, free.cpu - taken.cpu),
        memory_bytes=max(0, free.memory_bytes - taken.memory_bytes),
        disk_bytes=max(0, free.disk_bytes - taken.disk_bytes),
        gpus=tuple(gpus),
    )


def survey(config: WorkerConfig, engine: EngineInfo) -> Ledger:
    """What the configuration offers, or else what the engine's machine has.

    Errors: InvalidConfig for a size or GPU that cannot be read, and for a runtime that the engine lacks.
    """
    if lacking := set(config.runtimes.values()) - engine.runtimes:
        known = ", ".join(sorted(engine.runtimes)) or "none"
        raise InvalidConfig(f"runtimes: the engine has no {', '.join(sorted(lacking))}; it has {known}")
    try:
        devices = [_configured(row) for row in config.gpus] or _nvidia_gpus()
        offered = Capacity(
            cpu=(config.cpu or engine.cores) * config.cpu_overcommit,
            memory_bytes=parse_size(config.memory) if config.memory else engine.memory_bytes,
            disk_bytes=parse_size(config.disk) if config.disk else _free_disk(config.work_dir),
            gpus=tuple(gpu for gpu, _ in devices),
        )
    except (ValueError, KeyError) as error:
        raise InvalidConfig(f"what the worker is to offer cannot be read: {error}") from error
    return Ledger(offered, devices)


def _free_disk(work_dir: Path) -> int:
    return shutil.disk_usage(work_dir).free


def _configured(row: dict[str, str]) -> tuple[Gpu, GpuDevice]:
    vendor = row["vendor"].lower()
    return Gpu(vendor, parse_size(row["memory"])), GpuDevice(vendor, row.get("device", "0"))


def _nvidia_gpus() -> list[tuple[Gpu, GpuDevice]]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    asked = [program, "--query-gpu=index,memory.total", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        # A driver that does not answer has no GPU to offer.
        return []
    rows = [line.split(",") for line in said.splitlines() if line.count(",") == 1]
    return [(Gpu("nvidia", int(mib) * 1024**2), GpuDevice("nvidia", index.strip())) for index, mib in rows]
