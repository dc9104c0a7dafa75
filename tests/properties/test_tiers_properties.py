"""Tiers: reservations never exceed what is there, and releases give all of it back."""

from hypothesis import given
from hypothesis import strategies as st

from pupload.tiers import TIERS, Capacity, Gpu, Tier, fits, pick_gpu, release, reserve, why_not

GB = 1024**3
TIER = st.sampled_from(sorted(TIERS.values(), key=lambda tier: tier.name))
GPUS = st.lists(
    st.builds(Gpu, st.sampled_from(["nvidia", "amd", "apple", "intel"]), st.integers(1, 130).map(lambda n: n * GB)),
    max_size=4,
).map(tuple)
CAPACITY = st.builds(
    Capacity,
    st.integers(0, 512),
    st.integers(0, 1024).map(lambda n: n * GB),
    st.integers(0, 8192).map(lambda n: n * GB),
    GPUS,
)


@given(TIER, CAPACITY)
def test_a_tier_fits_exactly_when_nothing_is_lacking(tier: Tier, free: Capacity) -> None:
    assert fits(tier, free) == (why_not(tier, free) == "")


@given(st.lists(TIER, max_size=12), CAPACITY)
def test_reservations_never_go_below_zero(tiers: list[Tier], free: Capacity) -> None:
    for tier in tiers:
        if fits(tier, free):
            free = reserve(tier, free)
    assert min(free.cpu, free.memory_bytes, free.disk_bytes) >= 0


@given(TIER, CAPACITY)
def test_a_release_undoes_a_reservation(tier: Tier, free: Capacity) -> None:
    if not fits(tier, free):
        return
    gpu = pick_gpu(tier.gpu, free.gpus) if tier.gpu else None
    back = release(tier, reserve(tier, free), gpu)
    assert (back.cpu, back.memory_bytes, back.disk_bytes) == (free.cpu, free.memory_bytes, free.disk_bytes)
    assert sorted(back.gpus, key=str) == sorted(free.gpus, key=str)


@given(TIER, CAPACITY)
def test_a_gpu_tier_takes_one_gpu_and_another_takes_none(tier: Tier, free: Capacity) -> None:
    if fits(tier, free):
        assert len(reserve(tier, free).gpus) == len(free.gpus) - (tier.gpu is not None)


@given(TIER, CAPACITY, CAPACITY)
def test_what_fits_fits_into_more(tier: Tier, free: Capacity, more: Capacity) -> None:
    larger = Capacity(
        free.cpu + more.cpu,
        free.memory_bytes + more.memory_bytes,
        free.disk_bytes + more.disk_bytes,
        free.gpus + more.gpus,
    )
    assert not fits(tier, free) or fits(tier, larger)
