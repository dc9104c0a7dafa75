"""What a node's program sees of the world: its files, its environment, its limits, and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.shell_steps import Json, Step, a_request, a_source, a_step
from tests.support.visitor import Visitor

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc0000000030001"
    "7b7c2d2b0000000049454e44ae426082"
)
MB = 1024**2


def said(visitor: Visitor, script: str, **members: Any) -> list[str]:
    """What the script wrote to its standard output."""
    run = visitor.complete(a_request(a_source("look", script, writes={}, **members)))
    return [line["message"] for line in visitor.logs(run["ID"], "look") if line["stream"] == "stdout"]


def test_the_program_is_nobody_with_no_power(visitor: Visitor) -> None:
    status = dict(line.split(":\t", 1) for line in said(visitor, "cat /proc/self/status") if ":\t" in line)
    assert status["Uid"].split() == ["65532"] * 4
    assert status["Gid"].split() == ["65532"] * 4
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_nothing_can_be_written_but_outputs_and_tmp(visitor: Visitor) -> None:
    script = """
        for place in / /bin /dev /proc /sys /pup /pup/in /etc /var /run; do
            touch $place/x 2>/dev/null && echo "can write $place"
        done
        (echo more >> "$INPUT_IN") 2>/dev/null && echo "can write its input"
        touch /tmp/x && echo "tmp"
        cat "$INPUT_IN" > "$OUTPUT_OUT"
    """
    run = visitor.complete(a_request(a_step(script=script)), **{"in": b"abc"})
    assert [line["message"] for line in visitor.logs(run["ID"], "copy")] == ["tmp"]


def test_there_is_no_network_and_no_engine(visitor: Visitor) -> None:
    devices = said(
        visitor, "ls /sys/class/net; cat /proc/net/route 2>/dev/null; ls /var/run/docker.sock 2>&1 | tail -1"
    )
    assert devices[0] == "lo" or "No such file" in devices[0]
    assert not [line for line in devices if line.startswith(("eth", "docker", "/var/run/docker.sock"))]
    assert said(visitor, "nc -w 2 127.0.0.1 80 </dev/null || nc -w 2 1.1.1.1 53 </dev/null || echo unreachable") == [
        "unreachable"
    ]


@pytest.mark.parametrize(("tier", "cores", "memory"), [("tiny", 0.5, 32 * MB), ("c-nano", 1, 512 * MB)])
def test_the_limits_of_the_tier_are_the_container_s(visitor: Visitor, tier: str, cores: float, memory: int) -> None:
    script = """
        cd /sys/fs/cgroup
        if [ -e cpu.max ]; then cat cpu.max memory.max memory.swap.max pids.max
        else
            echo $(cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us)
            cat memory/memory.limit_in_bytes
            echo $(( $(cat memory/memory.memsw.limit_in_bytes) - $(cat memory/memory.limit_in_bytes) ))
            cat pids/pids.max
        fi
        ulimit -n; ulimit -c
    """
    cpu, limit, swap, pids, files, core = said(visitor, script, Tier=tier)
    quota, period = (int(number) for number in cpu.split())
    assert quota / period == cores
    assert (int(limit), int(swap)) == (memory, 0)
    assert (int(pids), int(files), int(core)) == (256, 4096, 0)


def test_processes_of_the_host_and_of_others_are_not_seen(visitor: Visitor) -> None:
    names = said(visitor, "for each in /proc/[0-9]*; do cat $each/comm 2>/dev/null; done")
    assert len(names) < 6
    assert {"dockerd", "postgres", "python", "pup"}.isdisjoint(names)


def test_a_fork_bomb_ends_and_harms_nobody(visitor: Visitor) -> None:
    bomb = a_source("bomb", "i=0; while [ $i -lt 400 ]; do sleep 20 & i=$((i+1)); done; wait", writes={}, MaxAttempts=1)
    run = visitor.fail(a_request(bomb))
    assert "fork" in json.dumps(visitor.logs(run["ID"], "bomb"))


def test_the_environment_says_who_where_and_what(visitor: Visitor) -> None:
    flags = [{"Name": "my-flag", "Value": "a b"}, {"Name": "Width", "Value": 800}, {"Name": "deep", "Value": True}]
    step = a_step(
        script='env; cat "$INPUT_IN" > "$OUTPUT_OUT"',
        node={"Flags": flags},
        Env={"OWN": "1", "PUP_NODE_ID": "not this"},
    )
    run = visitor.complete(a_request(step, Name="telling"), **{"in": b"text\n"})
    found = dict(line["message"].split("=", 1) for line in visitor.logs(run["ID"], "copy"))
    assert found | {
        "PUP_RUN_ID": run["ID"], "PUP_NODE_ID": "copy", "PUP_ATTEMPT": "1", "PUP_FLOW_NAME": "telling",
        "INPUT_IN": "/pup/in/in.txt", "OUTPUT_OUT": "/pup/out/out",
        "FLAG_MY_FLAG": "a b", "FLAG_WIDTH": "800", "FLAG_DEEP": "true", "OWN": "1",
    } == found  # fmt: skip
    assert "PUP_SESSION_ID" in found
    assert not [name for name in found if "TOKEN" in name or "SECRET" in name or name.startswith("PUPLOAD_")]


def test_files_have_the_extension_of_their_type(visitor: Visitor) -> None:
    step = a_step(
        script='echo "$INPUT_IN"; cat "$INPUT_IN" > "$OUTPUT_OUT"; echo "$OUTPUT_OUT"',
        Inputs=[{"Name": "in", "Type": ["image/*"]}],
        Outputs=[{"Name": "out", "Type": ["image/png"]}],
    )
    run = visitor.complete(a_request(step), **{"in": PNG})
    assert [line["message"] for line in visitor.logs(run["ID"], "copy")] == ["/pup/in/in.png", "/pup/out/out.png"]
    assert run["Artifacts"]["out"]["ObjectName"].endswith(".png")


def an_exec(arguments: str, flags: Json, **members: Any) -> Step:
    """A step that prints each of its arguments in brackets."""
    exec_ = f"""sh -c 'for each; do echo "[$each]"; done' sh {arguments}"""
    given = [{"Name": name, "Value": value} for name, value in flags.items()]
    command = {"Name": "run", "Exec": exec_}
    return a_step("args", reads={}, writes={}, node={"Flags": given}, Command=command, **members)


def test_a_value_is_one_argument_whatever_is_in_it(visitor: Visitor) -> None:
    nasty = "a b; $(id) `id` ' \" * ${in} $HOME \\ &"
    declared = {"Flags": [{"Name": "a"}, {"Name": "unset"}]}
    step = an_exec("${a} pre-${a} '${a} x' ${unset} x${unset}y $0 $HOME", {"a": nasty}, **declared)
    run = visitor.complete(a_request(step))
    assert [line["message"] for line in visitor.logs(run["ID"], "args")] == [
        f"[{nasty}]", f"[pre-{nasty}]", f"[{nasty} x]", "[xy]", "[$0]", "[$HOME]",
    ]  # fmt: skip


def test_a_value_is_never_an_option_of_its_own_making(visitor: Visitor) -> None:
    answer = visitor.submit(a_request(an_exec("${a}", {"a": "--delete"})), status=400)["error"]
    assert "begins with '-'" in json.dumps(answer)
    run = visitor.complete(a_request(an_exec("--a=${a} -- ${a}", {"a": "--delete"})))
    assert [line["message"] for line in visitor.logs(run["ID"], "args")] == ["[--a=--delete]", "[--]", "[--delete]"]


def test_a_def_without_a_command_runs_the_image_s_own(visitor: Visitor, own_entrypoint: str) -> None:
    node, nodedef = a_step("own")
    del nodedef["Command"]
    run = visitor.complete(a_request((node, nodedef | {"Image": own_entrypoint})), **{"in": b"abc"})
    assert visitor.artifact(run["ID"], "out") == b"abc"
    assert [line["message"] for line in visitor.logs(run["ID"], "own")] == ["own entrypoint"]


def test_a_node_chooses_one_of_its_def_s_commands(visitor: Visitor) -> None:
    commands: list[Json] = [{"Name": name, "Exec": f"echo {name}"} for name in ("first", "second")]
    step, nodedef = a_step("choose", reads={}, writes={}, Commands=commands)
    del nodedef["Command"]
    ids = [visitor.start(a_request((step | chosen, nodedef))) for chosen in ({}, {"Command": "second"})]
    told = [[line["message"] for line in visitor.ended(run_id)["NodeState"]["choose"]["Logs"]] for run_id in ids]
    assert told == [["first"], ["second"]]


def test_links_and_devices_are_no_outputs(visitor: Visitor) -> None:
    scripts = {
        "link": 'ln -s /etc/passwd "$OUTPUT_OUT"',
        "outside": 'ln -s ../../../../../../etc/hostname "$OUTPUT_OUT"',
        "hard": 'echo x > /pup/out/other && ln /pup/out/other "$OUTPUT_OUT"',
        "pipe": 'mkfifo "$OUTPUT_OUT"',
        "folder": 'mkdir "$OUTPUT_OUT"',
        "sparse": 'truncate -s 1T "$OUTPUT_OUT"',
    }
    ids = {name: visitor.start(a_request(a_source(name, script, MaxAttempts=1))) for name, script in scripts.items()}
    for name, run_id in ids.items():
        run = visitor.ended(run_id)
        assert (run["Status"], run["Artifacts"]) == ("ERROR", {}), name
        assert run["NodeState"][name]["Error"], name


def test_an_output_beyond_the_tier_s_storage_is_refused(visitor: Visitor) -> None:
    script = 'dd if=/dev/zero of="$OUTPUT_OUT" bs=1M count=101'
    run = visitor.fail(a_request(a_source("big", script, Tier="tiny", MaxAttempts=1)))
    assert "100mb" in run["NodeState"]["big"]["Error"]


def test_the_modes_of_what_a_program_leaves_do_not_matter(visitor: Visitor) -> None:
    script = 'echo x > "$OUTPUT_OUT"; mkdir -p /pup/out/a/b; chmod 0 "$OUTPUT_OUT" /pup/out/a /pup/out'
    run = visitor.complete(a_request(a_source("closed", script)))
    assert visitor.artifact(run["ID"], "out") == b"x\n"


def test_what_a_program_says_is_text_and_no_more(visitor: Visitor) -> None:
    script = r"printf 'caf\303\251 \033[31mred\rover\000nul\377\n::progress 200%%\n::progress -1%%\n::progress 5/0\n'"
    run = visitor.complete(a_request(a_source("odd", script, writes={})))
    assert [line["message"] for line in visitor.logs(run["ID"], "odd")] == [
        r"café \x1b[31mred\x0dover\x00nul�", "::progress -1%", "::progress 5/0",
    ]  # fmt: skip


def test_the_shipped_picture_node_resizes_the_reference_example(visitor: Visitor) -> None:
    example = Path(__file__).parents[2] / "examples/image-resize"
    request = json.loads((example / "flow.json").read_text())
    run = visitor.complete(request, **{"input-image": (example / "photo.jpg").read_bytes()})
    assert run["Artifacts"]["output-image"]["ContentType"] == "image/jpeg"
    assert 0 < run["Artifacts"]["output-image"]["Size"] < (example / "photo.jpg").stat().st_size


def test_a_network_that_the_operator_does_not_allow_is_refused(visitor: Visitor) -> None:
    error = visitor.submit(a_request(a_step(Network="egress")), status=400)["error"]
    assert error["Code"] == "EGRESS_REFUSED"


@pytest.mark.parametrize("user", ["0", "0:0", "1:0", "root", "1234"])
def test_a_user_that_the_operator_does_not_allow_fails_the_node_at_once(visitor: Visitor, user: str) -> None:
    run = visitor.fail(a_request(a_source("mighty", "true", writes={}, User=user)))
    state = run["NodeState"]["mighty"]
    assert (state["Attempt"], run["Error"]["Code"]) == (1, "NODE_POLICY")
    assert user in state["Error"]
