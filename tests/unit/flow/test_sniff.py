"""What a file is, by its bytes alone."""

import pytest

from pupload.flow.signatures import REVEALED
from pupload.flow.sniff import HEAD_BYTES, TAIL_BYTES, sniff
from tests.support.samples import DOCX, SAMPLES, a_zip


@pytest.mark.parametrize("name", SAMPLES)
def test_a_file_is_known_by_its_content(name: str) -> None:
    content, expected = SAMPLES[name]
    assert sniff(content[:HEAD_BYTES], len(content), content[-TAIL_BYTES:]) == expected


@pytest.mark.parametrize("name", [name for name in SAMPLES if not name.endswith("x")])
def test_the_end_of_a_file_is_needed_only_for_office_documents(name: str) -> None:
    content, expected = SAMPLES[name]
    assert sniff(content[:HEAD_BYTES], len(content)) == expected


def test_an_office_document_is_known_by_the_members_named_at_its_end() -> None:
    content = a_zip("[Content_Types].xml", "docProps/app.xml", "word/document.xml")
    assert sniff(content[:60], len(content), content[-TAIL_BYTES:]) == DOCX


def test_a_character_cut_in_two_at_the_end_of_the_head_is_still_text() -> None:
    assert sniff("kůň".encode()[:2], 5_000_000) == "text/plain"


def test_a_character_cut_in_two_at_the_end_of_the_file_is_no_utf_8() -> None:
    assert sniff(b"\xc5", 1) == "application/octet-stream"


def test_json_longer_than_the_head_is_known_by_its_beginning() -> None:
    head = b'{"name": "' + b"x" * 1000
    assert sniff(head, 10_000_000) == "application/json"


def test_lines_of_json_are_text() -> None:
    assert sniff(b'{"a": 1}\n{"a": 2}\n', 18) == "text/plain"


@pytest.mark.parametrize(
    "hostile", [b"[" * 65536, b"<!--" * 16384, b"<!doctype>" * 6553, b"<!doctype[" * 6553, b'{"' * 32768]
)
def test_text_that_is_made_to_be_slow_or_deep_is_text(hostile: bytes) -> None:
    assert sniff(hostile, len(hostile)) in {"text/plain", "application/json"}


def test_no_sample_is_of_a_type_that_the_table_does_not_reveal() -> None:
    told_by_text = {
        "application/xml",
        "application/json",
        "image/svg+xml",
        "application/x-empty",
        "application/octet-stream",
    }
    types = {kind for _, kind in SAMPLES.values() if not kind.startswith("text/")}
    assert types - told_by_text <= REVEALED
