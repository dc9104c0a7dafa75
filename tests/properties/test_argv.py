"""Arguments: no value ever becomes two of them, or an option, or shell."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pupload.errors import InvalidRequest
from pupload.flow.argv import environment, option_problem, render_argv, split
from pupload.flow.names import env_name

NAME = st.sampled_from(["in", "out", "width", "title", "mask"])
PORTS = {"in": "/pup/in/in.jpg", "out": "/pup/out/out"}
KNOWN = ("width", "title", "mask")
FLAGS = st.dictionaries(st.sampled_from(KNOWN), st.text(max_size=30))
WORD = st.one_of(
    NAME.map(lambda name: f"${{{name}}}"),
    NAME.map(lambda name: f"--x=${{{name}}}"),
    st.tuples(NAME, NAME).map(lambda names: f"${{{names[0]}}}${{{names[1]}}}"),
    st.text(max_size=12),
)
ARGV = st.lists(WORD, max_size=6).map(lambda words: ("tool", *words))


@given(st.lists(st.text(max_size=12), min_size=1, max_size=6))
def test_what_is_quoted_for_a_shell_is_split_into_the_same_arguments(words: list[str]) -> None:
    assert split(shlex.join(words)) == tuple(words)


@given(ARGV, FLAGS)
def test_each_argument_of_the_template_gives_one_argument_or_none(argv: tuple[str, ...], flags: dict[str, str]) -> None:
    if option_problem(argv, PORTS, flags):
        with pytest.raises(InvalidRequest):
            render_argv(argv, PORTS, flags, KNOWN)
        return
    rendered = render_argv(argv, PORTS, flags, KNOWN)
    removed = [word for word in argv if word in {f"${{{name}}}" for name in KNOWN if name not in flags}]
    assert len(rendered) == len(argv) - len(removed)


@given(ARGV, FLAGS)
def test_no_value_gives_an_argument_the_dash_of_an_option(argv: tuple[str, ...], flags: dict[str, str]) -> None:
    try:
        rendered = render_argv(argv, PORTS, flags, KNOWN)
    except InvalidRequest:
        return
    kept = [word for word in argv if word not in {f"${{{name}}}" for name in KNOWN if name not in flags}]
    for template, argument in list(zip(kept, rendered, strict=True))[1:]:
        if template == "--":
            return
        if (
            argument.startswith("-")
            and template.startswith("${")
            and not argument[1:2].isdigit()
            and argument[1:2] != "."
        ):
            # The dash is the template's own, behind variables that are empty.
            assert "-" in template


@given(st.text(max_size=30))
def test_a_value_goes_in_as_it_is(value: str) -> None:
    assert render_argv(("tool", "--x=${title}"), PORTS, {"title": value}, KNOWN)[1] == f"--x={value}"


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_variable_of_the_environment_has_a_plain_name(name: str, value: str) -> None:
    env = environment(
        run_id="r", node_id="n", attempt=1, flow_name="f", inputs={name: value}, outputs={}, flags={}, env={}
    )
    assert env[f"INPUT_{env_name(name)}"] == value
    assert set(env_name(name)) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
