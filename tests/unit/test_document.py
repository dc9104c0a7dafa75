"""How documents are spelled, read and written."""

from typing import ClassVar

import pytest
from pydantic import Field, ValidationError

from pupload.document import Document, pascal
from pupload.protocol import AttemptRef, SignedPut


class Child(Document):
    """A part of the sample."""

    put_url: str = ""


class Sample(Document):
    """A document with what matters: two words, an abbreviation, an alias, a child."""

    ALIASES: ClassVar[dict[str, str]] = {"body": "callback_url"}

    callback_url: str = ""
    run_id: str = ""
    children: list[Child] = Field(default_factory=list)


@pytest.mark.parametrize(
    "spelling", ["CallbackURL", "callback_url", "callbackUrl", "CALLBACKURL", "call_back_url", "body", "Body"]
)
def test_a_member_is_read_in_any_case_and_with_any_underscores(spelling: str) -> None:
    assert Sample.model_validate({spelling: "x"}).callback_url == "x"


def test_a_document_is_written_in_pascal_case() -> None:
    assert Sample(callback_url="x", children=[Child(put_url="u")]).wire() == {
        "CallbackURL": "x",
        "RunID": "",
        "Children": [{"PutURL": "u"}],
    }


def test_an_unknown_member_is_refused_naming_the_nearest() -> None:
    with pytest.raises(ValidationError, match="unknown member 'callback_ur'; the nearest known member is CallbackURL"):
        Sample.model_validate({"callback_ur": "x"})


def test_unknown_members_are_collected_where_the_context_asks_for_it() -> None:
    ignored: list[str] = []
    Sample.model_validate({"Colour": 1, "Children": [{"Size": 2}]}, context={"unknown": ignored})
    assert ignored == ["Sample.Colour", "Child.Size"]


def test_one_member_in_two_spellings_is_refused() -> None:
    with pytest.raises(ValidationError, match="RunID is given twice"):
        Sample.model_validate({"run_id": "a", "RunID": "b"})


def test_a_document_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Sample().run_id = "x"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "wire"), [("ttl", "TTL"), ("sha256", "SHA256"), ("waiting_urls", "WaitingURLs"), ("id", "ID")]
)
def test_abbreviations_stay_upper_case(name: str, wire: str) -> None:
    assert pascal(name) == wire


def test_what_is_written_reads_back() -> None:
    given = SignedPut(edge="out", url="http://x", headers={"Content-MD5": "=="}, key="k")
    assert SignedPut.model_validate(given.wire()) == given
    assert AttemptRef.model_validate({"run_id": "r", "NodeID": "n", "ATTEMPT": 1, "Lease": "t"}).run_id == "r"
