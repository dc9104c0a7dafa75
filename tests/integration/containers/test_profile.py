"""The profile as a program inside a container finds it, whatever the cgroup version."""

from collections.abc import AsyncIterator

import pytest

from pupload.containers.docker import Engine
from pupload.containers.spec import ContainerSpec
from tests.support.docker_images import ensure_busybox

pytestmark = pytest.mark.integration

MB = 1024**2

SCRIPT = r"""
say() { echo "$1=$2"; }
read_first() { for f in "$@"; do [ -r "$f" ] && { cat "$f"; return; }; done; echo none; }
g=/sys/fs/cgroup
say uid "$(id -u):$(id -g)"
say caps "$(grep -E '^Cap(Eff|Prm|Bnd|Inh):' /proc/self/status | cut -f2 | sort -u | tr '\n' ' ')"
say nnp "$(grep NoNewPrivs /proc/self/status | tr -dc 0-9)"
say seccomp "$(grep '^Seccomp:' /proc/self/status | tr -dc 0-9)"
say memory "$(read_first $g/memory.max $g/memory/memory.limit_in_bytes)"
say pids "$(read_first $g/pids.max $g/pids/pids.max)"
if [ -r $g/cpu.max ]; then say cpu "$(cat $g/cpu.max)"
else say cpu "$(cat $g/cpu/cpu.cfs_quota_us) $(cat $g/cpu/cpu.cfs_period_us)"; fi
if [ -r $g/memory.swap.max ]; then say swap "$(cat $g/memory.swap.max)"
else say swap "$(( $(cat $g/memory/memory.memsw.limit_in_bytes) - $(cat $g/memory/memory.limit_in_bytes) ))"; fi
say nofile "$(ulimit -n)/$(ulimit -Hn)"
say core "$(ulimit -c)"
say root "$(touch /x 2>&1)"
say shm "$(df -k /dev/shm | tail -1 | awk '{print $2}')"
say tmp "$(grep ' /tmp ' /proc/mounts | cut -d' ' -f3,4)"
say links "$(ls /sys/class/net | tr '\n' ' ')"
say init "$(cat /proc/1/comm)"
"""


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    ensure_busybox()
    engine = await Engine.connect()
    yield engine
    await engine.close()


async def seen_inside(engine: Engine, spec: ContainerSpec) -> dict[str, str]:
    """What the script says, by name."""
    container = await engine.create(spec)
    said: list[bytes] = []
    try:
        attached = await engine.attach(container, lambda _, data: said.append(data))
        watch = await engine.watch(container)
        await engine.start(container)
        state = await engine.until_exit(container, watch)
        assert await attached.drained(10)
        assert state is not None
        assert state.exit_code == 0, b"".join(said)
    finally:
        await engine.remove(container)
    return dict(line.split("=", 1) for line in b"".join(said).decode().splitlines() if "=" in line)


async def test_a_program_finds_the_profile_from_inside(engine: Engine) -> None:
    spec = ContainerSpec(
        name="pup-profile-test", image="pupload/busybox:latest", uid=65532, gid=65532, memory_bytes=128 * MB, cpu=0.5,
        labels={"pupload.worker": "profile-test"}, argv=("sh", "-c", SCRIPT),
    )  # fmt: skip
    inside = await seen_inside(engine, spec)
    assert inside["uid"] == "65532:65532"
    assert inside["caps"].split() == ["0000000000000000"]
    assert (inside["nnp"], inside["seccomp"]) == ("1", "2")
    assert inside["memory"] == str(128 * MB)
    assert inside["swap"] == "0"
    assert inside["pids"] == "256"
    quota, period = map(int, inside["cpu"].split())
    assert quota / period == 0.5
    assert (inside["nofile"], inside["core"]) == ("4096/4096", "0")
    assert "Read-only file system" in inside["root"]
    assert inside["shm"] == "8192"
    assert inside["tmp"].startswith("tmpfs ")
    assert {"rw", "nosuid", "nodev", "size=65536k"} <= set(inside["tmp"].split()[1].split(","))
    assert inside["links"].split() == ["lo"]
    assert inside["init"] == "docker-init"


async def test_cores_are_clipped_to_what_the_machine_has(engine: Engine) -> None:
    spec = ContainerSpec(
        name="pup-profile-test", image="pupload/busybox:latest", uid=65532, gid=65532, memory_bytes=128 * MB, cpu=900,
        labels={"pupload.worker": "profile-test"}, argv=("sh", "-c", SCRIPT),
    )  # fmt: skip
    quota, period = map(int, (await seen_inside(engine, spec))["cpu"].split())
    assert quota / period == engine.info.cores
