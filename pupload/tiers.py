"""The compute tiers and what fits where. PURE."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU that a tier asks for. `vendor` is nvidia, amd, apple, intel, or "" for any."""

    vendor: str
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Tier:
    """What one node may use. Units: cpu in cores, memory and disk in bytes."""

    name: str
    cpu: float
    memory_bytes: int
    disk_bytes: int
    gpu: Gpu | None = None


@dataclass(frozen=True, slots=True)
class Capacity:
    """What is free, or offered, on a worker.

    Units: cpu in cores after overcommit, memory and disk in bytes, one entry a whole GPU.
    """

    cpu: float
    memory_bytes: int
    disk_bytes: int
    gpus: tuple[Gpu, ...] = ()
