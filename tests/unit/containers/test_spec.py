"""Whatever is asked, the host config holds constants of ours and numbers in range."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pupload.containers.spec import (
    MAX_MEMORY_BYTES,
    MIN_MEMORY_BYTES,
    ContainerSpec,
    Egress,
    GpuDevice,
    container_config,
    host_config,
)

pytestmark = pytest.mark.unit

_text = st.text(max_size=30)
_specs = st.builds(
    ContainerSpec,
    name=_text,
    image=_text,
    uid=st.integers(1, 2**31),
    gid=st.integers(1, 2**31),
    memory_bytes=st.integers(-(2**70), 2**70),
    cpu=st.floats(-1e9, 1e9),
    labels=st.dictionaries(_text, _text, max_size=3),
    argv=st.none() | st.lists(_text, min_size=1, max_size=4).map(tuple),
    env=st.dictionaries(_text, _text, max_size=3),
    files=st.none() | st.just("/work/dir"),
    egress=st.none() | st.just(Egress("pup-net", ("10.0.0.2",))),
    gpu=st.none() | st.builds(GpuDevice, st.sampled_from(["nvidia", "amd", "intel", "apple"])),
)
_cores = st.integers(1, 256)


def a_spec(**more: Any) -> ContainerSpec:
    told: dict[str, Any] = {
        "name": "pup-1", "image": "i", "uid": 65532, "gid": 65532, "memory_bytes": 2**31, "cpu": 2.0, "labels": {},
    }  # fmt: skip
    return ContainerSpec(**told | more)


@given(_specs, _cores)
def test_the_walls_stand_whatever_is_asked(spec: ContainerSpec, cores: int) -> None:
    host = host_config(spec, cores)
    assert host["CapDrop"] == ["ALL"]
    assert "CapAdd" not in host
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert (host["Privileged"], host["ReadonlyRootfs"], host["Init"], host["AutoRemove"]) == (False, True, True, False)
    assert host["RestartPolicy"]["Name"] == "no"
    assert (host["IpcMode"], host["PidMode"], host["UTSMode"], host["CgroupnsMode"]) == ("private", "", "", "private")
    assert host["NetworkMode"] == ("pup-net" if spec.egress else "none")
    assert host["Tmpfs"] == {"/tmp": "rw,nosuid,nodev,size=67108864,nr_inodes=16384,mode=1777"}


@given(_specs, _cores)
def test_limits_are_numbers_in_range(spec: ContainerSpec, cores: int) -> None:
    host = host_config(spec, cores)
    assert MIN_MEMORY_BYTES <= host["Memory"] == host["MemorySwap"] <= MAX_MEMORY_BYTES
    assert 0 < host["NanoCpus"] <= cores * 10**9
    assert host["PidsLimit"] == 256


@given(_specs, _cores)
def test_no_text_of_the_request_reaches_the_host_config(spec: ContainerSpec, cores: int) -> None:
    marked = a_spec(
        memory_bytes=spec.memory_bytes, cpu=spec.cpu, egress=spec.egress, gpu=spec.gpu, files=spec.files,
        name="marked", image="marked", labels={"marked": "marked"}, argv=("marked",), env={"marked": "marked"},
    )  # fmt: skip
    assert "marked" not in json.dumps(host_config(marked, cores))


@given(_specs, _cores)
def test_only_our_own_directories_are_mounted_and_only_out_is_writable(spec: ContainerSpec, cores: int) -> None:
    mounts = host_config(spec, cores)["Mounts"]
    writable = [mount["Target"] for mount in mounts if not mount.get("ReadOnly")]
    if spec.files is None:
        assert [mount["Type"] for mount in mounts] == ["volume"]
        return
    assert writable == ["/pup/out"]
    assert all(mount["Source"].startswith(f"{spec.files}/") for mount in mounts)


def test_a_kept_folder_is_a_further_one_that_is_writable() -> None:
    lent = a_spec(files="/work/dir", folders={"session": "/work/dir/folders/session"})
    last = host_config(lent, 2)["Mounts"][-1]
    assert (last["Source"], last["Target"]) == ("/work/dir/folders/session", "/pup/session")
    assert (last["Type"], last["ReadOnly"]) == ("bind", False)


def test_what_an_image_declares_to_be_a_volume_is_as_tmp_is() -> None:
    tmpfs = host_config(a_spec(volumes=("/data", "/tmp")), 2)["Tmpfs"]
    assert set(tmpfs) == {"/data", "/tmp"}
    assert tmpfs["/data"] == tmpfs["/tmp"]


def test_without_the_network_none_is_built() -> None:
    assert container_config(a_spec(), 2)["NetworkDisabled"] is True
    assert container_config(a_spec(egress=Egress("pup-net")), 2)["NetworkDisabled"] is False


@pytest.mark.parametrize("owner", [{"uid": 0}, {"gid": 0}, {"uid": -1}])
def test_root_is_refused(owner: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="never runs as root"):
        container_config(a_spec(**owner), 2)


def test_a_command_replaces_the_image_s_entrypoint_and_none_leaves_it() -> None:
    assert (container_config(a_spec(argv=("cp", "a b")), 2)["Entrypoint"]) == ["cp", "a b"]
    assert "Entrypoint" not in container_config(a_spec(), 2)


def test_a_runtime_is_named_only_where_there_is_one() -> None:
    assert host_config(a_spec(runtime="runsc"), 2)["Runtime"] == "runsc"
    assert "Runtime" not in host_config(a_spec(), 2)


def test_a_gpu_of_nvidia_is_asked_by_its_own_device() -> None:
    wish = host_config(a_spec(gpu=GpuDevice("nvidia", "3")), 2)["DeviceRequests"]
    assert wish == [{"Driver": "nvidia", "DeviceIDs": ["3"], "Capabilities": [["gpu"]]}]
