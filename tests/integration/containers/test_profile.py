"""The profile as a program inside a container finds it, whatever the cgroup version."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pupload.containers.docker import Engine
from pupload.containers.spec import ContainerSpec
from tests.support.claims import claim
from tests.support.docker_images import an_image_with_rooted_su, ensure_busybox, ensure_perl
from tests.support.syscalls import OPEN_IN_OLD_ENGINES, REFUSED, asking

pytestmark = pytest.mark.integration

MB = 1024**2
WORKER = f"profile-test-{os.getpid()}"

SCRIPT = r"""
say() { echo "$1=$2"; }
line() { tr '\n' ' '; }
read_first() { for f in "$@"; do [ -r "$f" ] && { cat "$f"; return; }; done; echo none; }
g=/sys/fs/cgroup
say uid "$(id -u):$(id -g):$(id -G)"
say caps "$(grep -E '^Cap(Eff|Prm|Bnd|Inh|Amb):' /proc/self/status | cut -f2 | sort | line)"
say nnp "$(grep NoNewPrivs /proc/self/status | tr -dc 0-9)"
say seccomp "$(grep '^Seccomp:' /proc/self/status | tr -dc 0-9)"
say memory "$(read_first $g/memory.max $g/memory/memory.limit_in_bytes)"
say pids "$(read_first $g/pids.max $g/pids/pids.max)"
if [ -r $g/cpu.max ]; then say cpu "$(cat $g/cpu.max)"
else say cpu "$(cat $g/cpu/cpu.cfs_quota_us) $(cat $g/cpu/cpu.cfs_period_us)"; fi
if [ -r $g/memory.swap.max ]; then say swap "$(cat $g/memory.swap.max)"
else say swap "$(( $(cat $g/memory/memory.memsw.limit_in_bytes) - $(cat $g/memory/memory.limit_in_bytes) ))"; fi
say nofile "$(ulimit -n)/$(ulimit -Hn)"
say core "$(ulimit -c)/$(ulimit -Hc)"
say root "$(touch /x 2>&1)"
say writable "$(find / \( -path /proc -o -path /sys \) -prune -o -type d -print 2>/dev/null | while read d; do
  (echo > "$d/.written") 2>/dev/null && echo "$d" && rm "$d/.written"; done | sort | line)"
say kernel "$(for f in /proc/sys/kernel/core_pattern /proc/sys/vm/drop_caches /proc/sysrq-trigger \
  /proc/irq/default_smp_affinity /sys/kernel/uevent_helper $g/memory/memory.limit_in_bytes $g/memory.max \
  $g/cgroup.procs $g/devices/devices.allow; do [ -e $f ] && (echo 1 > $f) 2>/dev/null && echo $f; done | line)"
say masked "$(for f in /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug /proc/latency_stats /proc/timer_stats \
  /proc/acpi /proc/scsi /sys/firmware; do [ "$(head -c 1 $f 2>/dev/null | wc -c)$(ls $f/ 2>/dev/null | wc -w)" = 00 ] ||
  echo $f; done | line)"
say devices "$(find /dev ! -type d ! -type l ! -name .written | sort | line)"
say sockets "$(find / -type s -o -type b 2>/dev/null | line)"
say mounts "$(cut -d' ' -f5 /proc/self/mountinfo | grep -vE '^/(proc|sys|dev)(/|$)' | sort | line)"
say options "$(grep -E ' /pup[^ ]* ' /proc/self/mountinfo | cut -d' ' -f5,6 | sed 's/,.*//' | sort | line)"
say environment "$(env | cut -d= -f1 | sort | line)"
say processes "$(ls /proc | grep -c '^[0-9]')"
say shm "$(df -k /dev/shm | tail -1 | awk '{print $2}')"
say tmp "$(grep ' /tmp ' /proc/mounts | cut -d' ' -f3,4)"
say links "$(ls /sys/class/net | line)"
say init "$(cat /proc/1/comm)"
say inputs "$(cat /pup/in/* 2>/dev/null) $( (echo >> /pup/in/letter) 2>/dev/null || echo refused)"
"""


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    ensure_busybox()
    engine = await Engine.connect()
    yield engine
    await engine.close()


def a_spec(*argv: str, **more: Any) -> ContainerSpec:
    told: dict[str, Any] = {
        "name": f"pup-{WORKER}", "image": "pupload/busybox:latest", "uid": 65532, "gid": 65532,
        "memory_bytes": 128 * MB, "cpu": 0.5, "labels": {"pupload.worker": claim(WORKER)}, "argv": argv,
    }  # fmt: skip
    return ContainerSpec(**told | more)


async def said_inside(engine: Engine, spec: ContainerSpec) -> str:
    """All that the container's program says, which must end well."""
    container = await engine.create(spec)
    said: list[bytes] = []
    try:
        attached = await engine.attach(container, lambda _, data: said.append(data))
        await engine.start(container)
        state = await engine.until_exit(container)
        assert await attached.drained(10)
        assert state is not None
        assert state.exit_code == 0, b"".join(said)
    finally:
        await engine.remove(container)
    return b"".join(said).decode()


async def seen_inside(engine: Engine, spec: ContainerSpec) -> dict[str, str]:
    """What the script says, by name."""
    said = await said_inside(engine, spec)
    return {name: value.strip() for name, _, value in (line.partition("=") for line in said.splitlines())}


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a program sees that has a directory as an attempt has it: one input, and a place for outputs."""
    ensure_busybox()
    files = tmp_path_factory.mktemp("work") / "attempt"
    (files / "in").mkdir(parents=True)
    (files / "out").mkdir()
    (files / "out").chmod(0o777)
    (files / "in/letter").write_text("dear")
    (files / "in/letter").chmod(0o666)

    async def look() -> dict[str, str]:
        engine = await Engine.connect()
        try:
            return await seen_inside(engine, a_spec("sh", "-c", SCRIPT, files=str(files)))
        finally:
            await engine.close()

    return asyncio.run(look())


def test_a_program_finds_the_profile_from_inside(inside: dict[str, str]) -> None:
    assert inside["uid"] == "65532:65532:65532"
    assert inside["caps"].split() == ["0000000000000000"] * 5
    assert (inside["nnp"], inside["seccomp"]) == ("1", "2")
    assert inside["memory"] == str(128 * MB)
    assert inside["swap"] == "0"
    assert inside["pids"] == "256"
    quota, period = map(int, inside["cpu"].split())
    assert quota / period == 0.5
    assert (inside["nofile"], inside["core"]) == ("4096/4096", "0/0")
    assert inside["shm"] == "8192"
    assert inside["tmp"].startswith("tmpfs ")
    assert {"rw", "nosuid", "nodev", "size=65536k"} <= set(inside["tmp"].split()[1].split(","))
    assert inside["links"].split() == ["lo"]
    assert inside["init"] == "docker-init"


def test_nothing_can_be_written_but_what_is_meant_to_be(inside: dict[str, str]) -> None:
    assert "Read-only file system" in inside["root"]
    assert inside["writable"].split() == ["/dev/shm", "/pup/out", "/tmp"]
    assert inside["kernel"] == ""
    # By mode anybody may write it; that it is mounted read-only is what holds.
    assert inside["inputs"] == "dear refused"
    assert inside["options"].split() == ["/pup/in", "ro", "/pup/out", "rw"]


def test_nothing_of_the_host_is_to_be_seen(inside: dict[str, str]) -> None:
    mounts = set(inside["mounts"].split())
    assert mounts - {"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"} == {
        "/", "/pup/in", "/pup/out", "/sbin/docker-init", "/tmp",
    }  # fmt: skip
    assert inside["masked"] == ""
    assert set(inside["devices"].split()) == {
        f"/dev/{name}" for name in ("full", "null", "pts/ptmx", "random", "tty", "urandom", "zero")
    }
    assert inside["sockets"] == ""
    assert set(inside["environment"].split()) <= {"HOME", "HOSTNAME", "PATH", "PWD", "SHLVL"}
    # Init, the shell, and what the shell runs to count them.
    assert int(inside["processes"]) <= 6


async def test_without_the_directory_files_lie_in_a_volume_that_is_no_door_either(engine: Engine) -> None:
    inside = await seen_inside(engine, a_spec("sh", "-c", SCRIPT))
    assert inside["writable"].split() == ["/dev/shm", "/tmp"]
    assert inside["options"].split() == ["/pup", "rw"]
    assert "/pup" in inside["mounts"].split()


async def test_cores_are_clipped_to_what_the_machine_has(engine: Engine) -> None:
    quota, period = map(int, (await seen_inside(engine, a_spec("sh", "-c", SCRIPT, cpu=900)))["cpu"].split())
    assert quota / period == engine.info.cores


async def test_calls_that_lead_out_of_a_container_are_refused(engine: Engine) -> None:
    if engine.info.architecture != "x86_64":
        pytest.skip("the numbers of system calls are those of x86_64")
    said = await said_inside(engine, a_spec("perl", "-e", asking(REFUSED), image=ensure_perl(), cpu=1))
    answers = dict(line.split() for line in said.splitlines())
    assert answers.keys() == REFUSED.keys()
    let_through = {name for name, answer in answers.items() if answer not in {"EPERM", "ENOSYS", "EAFNOSUPPORT"}}
    old = int(engine.info.version.partition(".")[0]) < 25
    assert let_through <= (OPEN_IN_OLD_ENGINES if old else set())


async def test_a_program_that_is_root_by_its_mode_is_not_here(engine: Engine) -> None:
    with an_image_with_rooted_su("pupload/test-rooted") as image:
        said = await said_inside(engine, a_spec("sh", "-c", "ls -l /rooted/su; /rooted/su 2>&1; true", image=image))
    assert said.startswith("-rwsr-xr-x")
    assert "must be suid to work properly" in said
