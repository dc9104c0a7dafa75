"""What an answer says of a small output."""

import pytest

from pupload.controller.outputs import value_of

pytestmark = pytest.mark.unit


def test_json_is_what_it_says_and_any_other_text_is_a_text() -> None:
    assert value_of(b'{"a": [1, null]}', "application/json") == {"a": [1, None]}
    assert value_of(b'{"a": [1, null]}', "text/plain") == '{"a": [1, null]}'
    assert value_of(b"{", "application/json") == "{"
    assert value_of(b"\xff", "text/plain") is None


@pytest.mark.parametrize(
    "content",
    [b'"\\ud800"', b'{"\\ud800": 1}', b"NaN", b"1e999", b"[" * 100_000, b"[" * 100 + b"]" * 100, b"1" * 5000],
    ids=lambda content: str(content[:10]),
)
def test_json_that_no_document_may_hold_is_a_text(content: bytes) -> None:
    assert value_of(content, "application/json") == content.decode()
