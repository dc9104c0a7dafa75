"""Arguments and environment of a node's program."""

import pytest

from pupload.errors import InvalidRequest
from pupload.flow.argv import environment, render_argv, split, variables

PORTS = {"in": "/pup/in/in.jpg", "out": "/pup/out/out.png"}


def _rendered(command: str, flags: dict[str, str] | None = None, known: tuple[str, ...] = ()) -> list[str]:
    return render_argv(split(command), PORTS, flags or {}, known)


def test_ports_are_paths_and_flags_are_values() -> None:
    assert _rendered("tool ${in} ${out} -w ${width}", {"width": "800"}) == [
        "tool", "/pup/in/in.jpg", "/pup/out/out.png", "-w", "800",
    ]  # fmt: skip


def test_quotes_group_words_and_no_shell_is_asked() -> None:
    assert _rendered("""sh -c 'echo "$0" $@ | wc; ls *' a\\ b "c d" ~""") == [
        "sh", "-c", 'echo "$0" $@ | wc; ls *', "a b", "c d", "~",
    ]  # fmt: skip


@pytest.mark.parametrize("value", ["a b", "a; rm -rf /", "$(id)", "`id`", "'", '"', "a\nb", "*", "${in}", "", "ž"])
def test_a_value_stays_one_argument_as_it_is(value: str) -> None:
    assert _rendered("tool ${v} --v=${v} end", {"v": value}) == ["tool", value, f"--v={value}", "end"]


def test_an_unset_optional_takes_its_own_argument_with_it_and_is_empty_in_a_longer_one() -> None:
    assert _rendered("tool ${a} --a=${a} ${in}", known=("a",)) == ["tool", "--a=", "/pup/in/in.jpg"]


@pytest.mark.parametrize("word", ["$HOME", "$0", "$@", "$$", "${", "${}", "${a b}", "${x:-y}", "$(x)", "${unknown}"])
def test_every_other_dollar_stays_for_the_program(word: str) -> None:
    assert render_argv(("tool", word), PORTS, {}, ()) == ["tool", word]


@pytest.mark.parametrize(
    ("command", "value"),
    [
        ("rm ${v}", "-rf"),
        ("rm ${v}x", "--force"),
        ("rm ${v} ${in}", "-"),
        ("rm ${v}", "-5x"),
        ("rm ${unset}${v}", "-rf"),
    ],
)
def test_a_value_never_becomes_an_option(command: str, value: str) -> None:
    with pytest.raises(InvalidRequest, match="flag v begins with '-'"):
        _rendered(command, {"v": value}, known=("unset",))


@pytest.mark.parametrize(
    ("command", "value", "argument"),
    [
        ("tool --name=${v}", "-x", "--name=-x"),
        ("tool -- ${v}", "-x", "-x"),
        ("tool ${v}", "-5", "-5"),
        ("tool ${v}", "-.5e3", "-.5e3"),
        ("tool ${v}", "a-b", "a-b"),
        ("tool ${in}${v}", "-x", "/pup/in/in.jpg-x"),
        ("tool ${unset}-x", "", "-x"),
    ],
)
def test_a_dash_is_harmless_where_it_cannot_be_an_option(command: str, value: str, argument: str) -> None:
    assert _rendered(command, {"v": value}, known=("unset",))[-1] == argument


def test_the_variables_of_a_command_are_named_once_and_in_order() -> None:
    assert variables(split("t ${b} ${a}${b} $c")) == ("b", "a")


def test_a_quotation_must_be_closed() -> None:
    with pytest.raises(ValueError, match="quotation"):
        split("tool 'a")


def test_the_environment_names_run_ports_and_flags() -> None:
    env = environment(
        run_id="run_1",
        node_id="resize-1",
        attempt=2,
        flow_name="photos",
        session_id="s",
        inputs={"input-image": "/pup/in/input-image.jpg"},
        outputs={"out.file": "/pup/out/out.file"},
        flags={"max width": "8"},
        env={"MODE": "fast"},
    )
    assert env == {
        "MODE": "fast",
        "INPUT_INPUT_IMAGE": "/pup/in/input-image.jpg",
        "OUTPUT_OUT_FILE": "/pup/out/out.file",
        "FLAG_MAX_WIDTH": "8",
        "PUP_RUN_ID": "run_1",
        "PUP_NODE_ID": "resize-1",
        "PUP_ATTEMPT": "2",
        "PUP_FLOW_NAME": "photos",
        "PUP_SESSION_ID": "s",
    }


def test_the_env_of_a_def_never_hides_what_we_say() -> None:
    env = environment(
        run_id="run_1", node_id="n", attempt=1, flow_name="f", inputs={"in": "/i"}, outputs={}, flags={},
        env={"PUP_RUN_ID": "forged", "INPUT_IN": "/etc/passwd"},
    )  # fmt: skip
    assert (env["PUP_RUN_ID"], env["INPUT_IN"]) == ("run_1", "/i")
