"""The compute tiers and what fits where. PURE.

Source: contract.md 5.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from pupload.units import format_size, parse_size


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


VENDORS = frozenset({"nvidia", "amd", "apple", "intel"})

_PLAIN = """
    c-nano     1  512mb  10gb
    c-micro    1  1gb    10gb
    c-small    2  2gb    20gb
    c-medium   4  4gb    50gb
    c-large    8  8gb    100gb
    c-xlarge   16 16gb   250gb
    c-2xlarge  32 32gb   500gb
    c-4xlarge  64 64gb   1tb
    m-small    2  4gb    20gb
    m-medium   4  16gb   50gb
    m-large    8  32gb   100gb
    m-xlarge   16 64gb   250gb
    m-2xlarge  32 128gb  500gb
    m-4xlarge  64 256gb  1tb
"""
_WITH_GPU = """
    micro      4  8gb    50gb   2gb   g
    small      4  16gb   100gb  8gb   g gn ga gi
    medium     8  32gb   250gb  16gb  g gn ga gi
    large      12 48gb   500gb  24gb  g gn ga
    large      12 48gb   500gb  48gb  gi
    xlarge     16 64gb   1tb    40gb  g gn
    xlarge     16 64gb   1tb    32gb  ga
    xlarge     16 64gb   1tb    64gb  gi
    2xlarge    24 96gb   1tb    80gb  g gn
    2xlarge    24 96gb   1tb    64gb  ga
    small      8  16gb   250gb  16gb  gm
    medium     10 32gb   500gb  32gb  gm
    large      12 48gb   1tb    48gb  gm
    xlarge     16 64gb   1tb    64gb  gm
    2xlarge    24 128gb  2tb    128gb gm
"""
_VENDOR_OF_SERIES = {"g": "", "gn": "nvidia", "ga": "amd", "gm": "apple", "gi": "intel"}


def _plain_tier(row: str) -> Tier:
    name, cpu, memory, disk = row.split()
    return Tier(name, float(cpu), parse_size(memory), parse_size(disk))


def _gpu_tiers(row: str) -> list[Tier]:
    size, cpu, memory, disk, gpu_memory, *series = row.split()
    base = Tier(size, float(cpu), parse_size(memory), parse_size(disk))
    gpu_bytes = parse_size(gpu_memory)
    return [replace(base, name=f"{s}-{size}", gpu=Gpu(_VENDOR_OF_SERIES[s], gpu_bytes)) for s in series]


def _standard_tiers() -> dict[str, Tier]:
    plain = [_plain_tier(row) for row in _PLAIN.strip().splitlines()]
    with_gpu = [tier for row in _WITH_GPU.strip().splitlines() for tier in _gpu_tiers(row)]
    return {tier.name: tier for tier in plain + with_gpu}


TIERS: Mapping[str, Tier] = MappingProxyType(_standard_tiers())
"""The tiers that every server knows, by name."""

DEFAULT_TIER = "c-small"
"""The tier of a node whose def and flow name none."""


def own_tiers(given: Mapping[str, Mapping[str, object]]) -> dict[str, Tier]:
    """The operator's own tiers, `{name: {cpu, memory, disk, gpu?, gpu_memory?}}`; sizes as `16gb` or in bytes.

    `gpu` is a vendor, or `any`; `gpu_memory` alone asks for any GPU of that size.
    Errors: ValueError listing every problem.
    """
    tiers: dict[str, Tier] = {}
    problems: list[str] = []
    for name, row in given.items():
        try:
            tiers[name] = _own_tier(name, row)
        except ValueError as error:
            problems.append(f"tier {name}: {error}")
    if problems:
        raise ValueError("; ".join(problems))
    return tiers


def _own_tier(name: str, row: Mapping[str, object]) -> Tier:
    unknown = row.keys() - {"cpu", "memory", "disk", "gpu", "gpu_memory"}
    if unknown:
        raise ValueError(f"unknown {', '.join(sorted(unknown))}; known are cpu, memory, disk, gpu, gpu_memory")
    cpu = _member(row, "cpu", float)
    memory, disk = _member(row, "memory", parse_size), _member(row, "disk", parse_size)
    return Tier(name, cpu, int(memory), int(disk), _own_gpu(row))


def _member(row: Mapping[str, object], member: str, parse: Callable[[str], float]) -> float:
    if member not in row:
        raise ValueError(f"{member} is missing")
    try:
        value = parse(str(row[member]))
    except ValueError as error:
        raise ValueError(f"{member}: {error}") from error
    if not 0 < value < float("inf"):
        raise ValueError(f"{member} must be above zero")
    return value


def _own_gpu(row: Mapping[str, object]) -> Gpu | None:
    if "gpu" not in row and "gpu_memory" not in row:
        return None
    vendor = str(row.get("gpu", "any")).lower()
    if vendor not in VENDORS | {"any", ""}:
        raise ValueError(f"gpu: {vendor!r} is no vendor; known are any, {', '.join(sorted(VENDORS))}")
    memory = int(_member(row, "gpu_memory", parse_size)) if "gpu_memory" in row else 0
    return Gpu("" if vendor == "any" else vendor, memory)


def fits(tier: Tier, free: Capacity) -> bool:
    """True when everything `tier` asks for is free.

    A missing GPU never satisfies a GPU tier, however much else is free.
    """
    enough = tier.cpu <= free.cpu and tier.memory_bytes <= free.memory_bytes and tier.disk_bytes <= free.disk_bytes
    return enough and (tier.gpu is None or pick_gpu(tier.gpu, free.gpus) is not None)


def pick_gpu(wanted: Gpu, free: tuple[Gpu, ...]) -> Gpu | None:
    """The smallest of `free` that satisfies `wanted`; None when there is none."""
    fitting = [g for g in free if wanted.vendor in ("", g.vendor) and wanted.memory_bytes <= g.memory_bytes]
    return min(fitting, key=lambda g: (g.memory_bytes, g.vendor), default=None)


def reserve(tier: Tier, free: Capacity) -> Capacity:
    """What is free once `tier` is taken from `free`; its GPU is the smallest that fits.

    Errors: ValueError when it does not fit.
    """
    if not fits(tier, free):
        raise ValueError(f"tier {tier.name} does not fit: {why_not(tier, free)}")
    gpu = pick_gpu(tier.gpu, free.gpus) if tier.gpu else None
    return Capacity(
        cpu=free.cpu - tier.cpu,
        memory_bytes=free.memory_bytes - tier.memory_bytes,
        disk_bytes=free.disk_bytes - tier.disk_bytes,
        gpus=_without(gpu, free.gpus) if gpu else free.gpus,
    )


def _without(gpu: Gpu, gpus: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
    place = gpus.index(gpu)
    return gpus[:place] + gpus[place + 1 :]


def release(tier: Tier, free: Capacity, gpu: Gpu | None = None) -> Capacity:
    """What is free once `tier` is given back to `free`; `gpu` is the one that its reservation took."""
    return Capacity(
        cpu=free.cpu + tier.cpu,
        memory_bytes=free.memory_bytes + tier.memory_bytes,
        disk_bytes=free.disk_bytes + tier.disk_bytes,
        gpus=(*free.gpus, gpu) if gpu else free.gpus,
    )


def why_not(tier: Tier, capacity: Capacity) -> str:
    """What `capacity` lacks for `tier`, as a user reads it; "" when it fits.

    >>> why_not(TIERS["m-medium"], Capacity(8, 8 * 1024**3, 10**12))
    'memory: needs 16gb, 8gb there'
    """
    lacks = []
    if tier.cpu > capacity.cpu:
        lacks.append(f"cpu: needs {tier.cpu:g} cores, {capacity.cpu:g} there")
    for name, needs, there in (
        ("memory", tier.memory_bytes, capacity.memory_bytes),
        ("disk", tier.disk_bytes, capacity.disk_bytes),
    ):
        if needs > there:
            lacks.append(f"{name}: needs {format_size(needs)}, {format_size(there)} there")
    if tier.gpu and pick_gpu(tier.gpu, capacity.gpus) is None:
        lacks.append(f"gpu: needs {_gpu_text(tier.gpu)}, {', '.join(map(_gpu_text, capacity.gpus)) or 'none'} there")
    return "; ".join(lacks)


def _gpu_text(gpu: Gpu) -> str:
    return f"{gpu.vendor or 'any'} {format_size(gpu.memory_bytes)}"
