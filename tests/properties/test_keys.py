"""Keys: whatever the template and the values, what comes out is safe or refused."""

from hypothesis import given
from hypothesis import strategies as st

from pupload.errors import InvalidRequest
from pupload.flow.keys import MAX_KEY_BYTES, UNIQUE, VARIABLES, read_template, render_key

VALUE = st.one_of(st.text(max_size=20), st.sampled_from(["..", ".", "/", "a/b", "$RUN_ID", "", "\n", "x" * 300]))
VALUES = st.fixed_dictionaries(dict.fromkeys([*sorted(VARIABLES), "PARAM.p"], VALUE))
PIECE = st.one_of(
    st.sampled_from(
        [f"${{{name}}}" for name in sorted(VARIABLES)] + ["$RUN_ID", "${PARAM.p}", "$$", "/", "..", "$", "${"]
    ),
    st.text(max_size=8),
)
TEMPLATE = st.lists(PIECE, max_size=8).map("".join)
SAFE_VALUE = st.text("abc019", min_size=1, max_size=12)
SAFE_VALUES = st.fixed_dictionaries(dict.fromkeys([*sorted(VARIABLES), "PARAM.p"], SAFE_VALUE))


@given(TEMPLATE, VALUES)
def test_a_rendered_key_never_leaves_its_place(template: str, values: dict[str, str]) -> None:
    try:
        key = render_key(template, values)
    except InvalidRequest:
        return
    assert 0 < len(key.encode()) <= MAX_KEY_BYTES
    assert not {"", ".", ".."} & set(key.split("/"))
    assert all(len(part.encode()) <= 255 for part in key.split("/"))
    assert key.isprintable()


@given(TEMPLATE, SAFE_VALUES)
def test_a_template_without_a_problem_renders_with_harmless_values(template: str, values: dict[str, str]) -> None:
    read = read_template(template)
    if not read.problem and read.variables <= values.keys() and len(template) < 40:
        assert render_key(template, values)


@given(TEMPLATE, SAFE_VALUES)
def test_a_key_with_a_unique_variable_is_another_for_another_run(template: str, values: dict[str, str]) -> None:
    read = read_template(template)
    if read.problem or not read.variables & UNIQUE or not read.variables <= values.keys() or len(template) > 40:
        return
    other = values | {"RUN_ID": values["RUN_ID"] + "x", "UUID": values["UUID"] + "x"}
    assert render_key(template, values) != render_key(template, other)


@given(st.text(max_size=40).filter(lambda text: "$" not in text))
def test_text_without_a_dollar_is_its_own_key_or_refused(text: str) -> None:
    try:
        assert render_key(text, {}) == text
    except InvalidRequest:
        assert read_template(text).problem
