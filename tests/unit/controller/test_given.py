"""What a value among a request's inputs is."""

from typing import Any

import pytest

from pupload.controller.given import AtURL, Content, KeptFile, agreed_type, read_data_uri, read_input
from pupload.errors import InvalidRequest


@pytest.mark.parametrize("value", [{"Uri": "https://x/y"}, {"uri": "https://x/y", "Name": "y"}, {"URL": "https://x/y"}])
def test_an_object_of_uri_and_name_alone_says_where_a_file_is(value: Any) -> None:
    assert read_input(value) == AtURL("https://x/y")


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"name": "x"},
        {"uri": "https://x/y", "other": 1},
        {"uri": "https://x/y", "name": {}},
        {"uri": "https://x/y", "name": 5},
        {"uri": 5},
        {"uri": ""},
        {"uri": None},
        {"uri": ["https://x/y"]},
        {"uri": "https://x/y", "url": "https://x/y"},
        [{"uri": "https://x/y"}],
        5,
        None,
        True,
    ],
)
def test_every_other_value_is_a_document(value: Any) -> None:
    found = read_input(value)
    assert isinstance(found, Content)
    assert found.told == "application/json"


def test_a_name_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="Name"):
        read_input({"Uri": "https://x/y", "Name": "x" * 3000})


def test_a_text_is_a_text_even_if_it_looks_like_a_url() -> None:
    assert read_input("https://x/y") == Content(b"https://x/y", "text/plain")


def test_a_document_is_written_as_people_read_it() -> None:
    assert read_input({"ä": [1, None]}) == Content('{"ä": [1, null]}'.encode(), "application/json")


def test_a_kept_file_is_named_by_its_id() -> None:
    assert read_input({"Uri": "file://file_0123abc"}) == KeptFile("file_0123abc")


@pytest.mark.parametrize(
    "uri", ["file:///etc/passwd", "file://file_../x", "file:file_01", "file://localhost/x", "file://"]
)
def test_a_path_is_no_kept_file(uri: str) -> None:
    with pytest.raises(InvalidRequest, match="POST /files"):
        read_input({"Uri": uri})


@pytest.mark.parametrize(
    ("uri", "content", "told"),
    [
        ("data:image/png;base64,YWJj", b"abc", "image/png"),
        ("DATA:image/png;BASE64,YWJj", b"abc", "image/png"),
        ("data:text/plain;charset=utf-8;base64,YWJj", b"abc", "text/plain"),
        ("data:;base64,", b"", "text/plain"),
        ("data:,a%20b", b"a b", "text/plain"),
        ("data:text/csv,a,b", b"a,b", "text/csv"),
        ("data:image/png;base64,YWI%3D", b"ab", "image/png"),
    ],
)
def test_a_data_uri_holds_its_bytes_and_type(uri: str, content: bytes, told: str) -> None:
    assert read_data_uri(uri) == Content(content, told)


@pytest.mark.parametrize(
    "uri",
    [
        "data:",
        "data:image/png;base64",
        "data:image/png;base64,YWJ",
        "data:image/png;base64,Y*Jj",
        "data:pic,x",
        "data:image/*,x",
    ],
)
def test_a_bad_data_uri_is_refused(uri: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_data_uri(uri)
    assert refused.value.code == "DATA_URI_INVALID"


@pytest.mark.parametrize(
    ("found", "told", "agreed"),
    [
        ("text/plain", "text/csv", "text/csv"),
        ("text/plain", "image/png", "text/plain"),
        ("image/png", "application/octet-stream", "image/png"),
        ("image/png", "", "image/png"),
        ("image/png", "image/*", "image/png"),
        ("application/octet-stream", "application/x-mine", "application/x-mine"),
    ],
)
def test_the_bytes_decide_and_what_was_told_makes_it_finer(found: str, told: str, agreed: str) -> None:
    assert agreed_type(found, told) == agreed
