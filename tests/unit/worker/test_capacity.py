"""What is reserved is never more than what is offered, and all of it comes back."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from pupload.config import WorkerConfig
from pupload.containers.spec import GpuDevice
from pupload.containers.state import EngineInfo
from pupload.errors import InvalidConfig
from pupload.tiers import Capacity, Gpu, Tier
from pupload.worker.capacity import Ledger, free_after, survey
from pupload.worker.container import runtime_of

pytestmark = pytest.mark.unit

GB = 1024**3
_GPUS = ((Gpu("nvidia", 8 * GB), GpuDevice("nvidia", "0")), (Gpu("nvidia", 8 * GB), GpuDevice("nvidia", "1")))
_tiers = st.builds(
    Tier,
    st.just("t"),
    cpu=st.integers(1, 4).map(float),
    memory_bytes=st.integers(1, 4).map(lambda n: n * GB),
    disk_bytes=st.integers(1, 20).map(lambda n: n * GB),
    gpu=st.none() | st.just(Gpu("", 4 * GB)),
)


def a_ledger() -> Ledger:
    offered = Capacity(8.0, 16 * GB, 100 * GB, tuple(gpu for gpu, _ in _GPUS))
    return Ledger(offered, _GPUS)


@given(st.lists(_tiers, max_size=30), st.randoms())
def test_never_more_than_offered_and_all_comes_back(tiers: list[Tier], chance: object) -> None:
    ledger, taken = a_ledger(), []
    for tier in tiers:
        reservation = ledger.reserve(tier)
        if reservation:
            taken.append(reservation)
        elif taken:
            ledger.release(taken.pop(0))
        assert min(ledger.free.cpu, ledger.free.memory_bytes, ledger.free.disk_bytes) >= 0
        devices = [each.device for each in taken if each.device]
        assert len(devices) == len(set(devices))
    for each in taken:
        ledger.release(each)
    assert sorted(ledger.free.gpus, key=repr) == sorted(ledger.offered.gpus, key=repr)
    assert (ledger.free.cpu, ledger.free.memory_bytes) == (8.0, 16 * GB)


def test_what_is_offered_elsewhere_is_not_offered_twice() -> None:
    free = Capacity(4.0, 8 * GB, 10 * GB, (_GPUS[0][0], _GPUS[0][0]))
    left = free_after(free, Capacity(3.0, 9 * GB, 4 * GB, (_GPUS[0][0],)))
    assert left == Capacity(1.0, 0, 6 * GB, (_GPUS[0][0],))


def a_config(folder: Path, **more: object) -> WorkerConfig:
    return WorkerConfig.model_validate({"worker_token": SecretStr("t"), "work_dir": folder, **more})


def test_without_settings_the_engine_s_machine_is_offered(tmp_path: Path) -> None:
    offered = survey(a_config(tmp_path, cpu_overcommit=2), EngineInfo("20", "x86_64", 4, 8 * GB)).offered
    assert (offered.cpu, offered.memory_bytes) == (8.0, 8 * GB)
    assert offered.disk_bytes > 0


def test_settings_say_what_is_offered(tmp_path: Path) -> None:
    gpu = {"vendor": "AMD", "memory": "8gb", "device": "/dev/dri/renderD128"}
    config = a_config(tmp_path, cpu=1.5, cpu_overcommit=1, memory="2gb", disk="10gb", gpus=(gpu,))
    offered = survey(config, EngineInfo("20", "x86_64", 64, GB)).offered
    assert offered == Capacity(1.5, 2 * GB, 10 * GB, (Gpu("amd", 8 * GB),))


def test_a_size_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="plenty"):
        survey(a_config(tmp_path, memory="plenty"), EngineInfo("20", "x86_64", 4, GB))


def test_a_runtime_that_the_engine_lacks_stops_the_start(tmp_path: Path) -> None:
    engine = EngineInfo("20", "x86_64", 4, GB, runtimes=frozenset({"runc"}))
    with pytest.raises(InvalidConfig, match="the engine has no runsc; it has runc"):
        survey(a_config(tmp_path, runtimes={"c-*": "runsc"}), engine)


def test_the_first_pattern_that_matches_a_tier_names_its_runtime(tmp_path: Path) -> None:
    config = a_config(tmp_path, runtimes={"c-nano": "runc", "c-*": "runsc"})
    assert [runtime_of(config, tier) for tier in ("c-nano", "c-small", "m-small")] == ["runc", "runsc", ""]
