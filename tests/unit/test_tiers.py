"""Tiers, and what fits where."""

import pytest

from pupload.tiers import TIERS, Capacity, Gpu, Tier, fits, own_tiers, release, reserve, why_not

GB = 1024**3
NVIDIA_8, NVIDIA_24, AMD_16 = Gpu("nvidia", 8 * GB), Gpu("nvidia", 24 * GB), Gpu("amd", 16 * GB)
PLENTY = Capacity(cpu=64, memory_bytes=512 * GB, disk_bytes=4096 * GB, gpus=(NVIDIA_24, NVIDIA_8, AMD_16))


def test_there_are_the_39_tiers_of_the_contract() -> None:
    series = [name.split("-")[0] for name in TIERS]
    assert {s: series.count(s) for s in series} == {"c": 8, "m": 6, "g": 6, "gn": 5, "ga": 5, "gm": 5, "gi": 4}


@pytest.mark.parametrize(
    ("name", "cpu", "memory_gb", "disk_gb", "gpu"),
    [
        ("c-nano", 1, 0.5, 10, None),
        ("c-4xlarge", 64, 64, 1024, None),
        ("m-medium", 4, 16, 50, None),
        ("g-micro", 4, 8, 50, Gpu("", 2 * GB)),
        ("gn-large", 12, 48, 500, Gpu("nvidia", 24 * GB)),
        ("ga-xlarge", 16, 64, 1024, Gpu("amd", 32 * GB)),
        ("ga-2xlarge", 24, 96, 1024, Gpu("amd", 64 * GB)),
        ("gm-medium", 10, 32, 500, Gpu("apple", 32 * GB)),
        ("gm-2xlarge", 24, 128, 2048, Gpu("apple", 128 * GB)),
        ("gi-large", 12, 48, 500, Gpu("intel", 48 * GB)),
    ],
)
def test_a_tier_has_what_the_contract_says(
    name: str, cpu: float, memory_gb: float, disk_gb: int, gpu: Gpu | None
) -> None:
    assert TIERS[name] == Tier(name, cpu, int(memory_gb * GB), disk_gb * GB, gpu)


def test_a_tier_fits_what_is_exactly_as_large() -> None:
    tier = TIERS["c-small"]
    assert fits(tier, Capacity(tier.cpu, tier.memory_bytes, tier.disk_bytes))


@pytest.mark.parametrize("lacking", ["cpu", "memory_bytes", "disk_bytes"])
def test_a_tier_does_not_fit_where_any_one_thing_is_short(lacking: str) -> None:
    tier = TIERS["c-small"]
    there = {"cpu": tier.cpu, "memory_bytes": tier.memory_bytes, "disk_bytes": tier.disk_bytes}
    short = Capacity(**{**there, lacking: there[lacking] - 1})  # type: ignore[arg-type]
    assert not fits(tier, short)
    assert lacking.removesuffix("_bytes") in why_not(tier, short)


def test_a_gpu_tier_never_fits_where_there_is_no_gpu() -> None:
    none = Capacity(PLENTY.cpu, PLENTY.memory_bytes, PLENTY.disk_bytes)
    assert not fits(TIERS["g-micro"], none)
    assert why_not(TIERS["g-micro"], none) == "gpu: needs any 2gb, none there"


def test_a_tier_of_one_vendor_does_not_take_the_gpu_of_another() -> None:
    assert not fits(TIERS["gi-small"], PLENTY)
    assert fits(TIERS["ga-small"], PLENTY)


def test_a_reservation_takes_the_smallest_gpu_that_fits() -> None:
    assert reserve(TIERS["g-small"], PLENTY).gpus == (NVIDIA_24, AMD_16)
    assert reserve(TIERS["g-medium"], PLENTY).gpus == (NVIDIA_24, NVIDIA_8)


def test_what_does_not_fit_cannot_be_reserved() -> None:
    with pytest.raises(ValueError, match="memory: needs 2gb, 1gb there"):
        reserve(TIERS["c-small"], Capacity(8, GB, 100 * GB))


def test_a_release_gives_back_what_the_reservation_took() -> None:
    tier = TIERS["gn-large"]
    back = release(tier, reserve(tier, PLENTY), NVIDIA_24)
    assert (back.cpu, back.memory_bytes, back.disk_bytes) == (PLENTY.cpu, PLENTY.memory_bytes, PLENTY.disk_bytes)
    assert sorted(back.gpus, key=str) == sorted(PLENTY.gpus, key=str)


def test_why_not_is_empty_for_what_fits() -> None:
    assert why_not(TIERS["c-nano"], PLENTY) == ""


def test_an_operator_has_tiers_of_their_own() -> None:
    given = {
        "huge": {"cpu": 128, "memory": "1tb", "disk": "4tb"},
        "art": {"cpu": "2.5", "memory": 1024, "disk": "1gb", "gpu": "nvidia", "gpu_memory": "8gb"},
        "any": {"cpu": 1, "memory": "1gb", "disk": "1gb", "gpu": "any"},
    }
    tiers = own_tiers(given)
    assert tiers["huge"] == Tier("huge", 128, 1024**4, 4 * 1024**4)
    assert tiers["art"] == Tier("art", 2.5, 1024, GB, NVIDIA_8)
    assert tiers["any"].gpu == Gpu("", 0)


def test_every_problem_of_own_tiers_is_named_at_once() -> None:
    bad = {
        "a": {"cpu": 1, "memory": "lots", "disk": "1gb"},
        "b": {"cpu": 0, "memory": "1gb", "disk": "1gb"},
        "c": {"cpu": 1, "memory": "1gb", "disk": "1gb", "gpu": "voodoo"},
        "d": {"cpu": 1, "memory": "1gb", "disks": "1gb"},
        "e": {"cpu": 1, "memory": "1gb"},
    }
    with pytest.raises(
        ValueError, match=r"tier a: memory.*tier b: cpu.*tier c: gpu.*tier d: unknown disks.*tier e: disk"
    ):
        own_tiers(bad)
