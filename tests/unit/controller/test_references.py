"""References: what was signed comes back as it was; anything else is refused."""

import base64
import json
from contextlib import suppress
from dataclasses import replace

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from pupload.controller.references import MAX_REFERENCE, Reference, References, Signed
from pupload.controller.secrets import SecretBox
from pupload.errors import Forbidden, TooLarge
from pupload.flow.plan import Edge, NodeID
from pupload.run.state import Artifact, RunID

pytestmark = pytest.mark.unit

ROOT = RunID("run_1")
REFERENCES = References(SecretBox(b"A" * 43 + b"="))
ARTIFACT = Artifact(
    Edge("out"), "default", "run_1/out/1.txt", 3, "text/plain", "f" * 64, "e", NodeID("copy"), 1, origin="run_1"
)
REFERENCE = Reference(ROOT, "d" * 64, ARTIFACT)
SIGNED = REFERENCES.sign(REFERENCE)


def test_what_was_signed_comes_back() -> None:
    assert REFERENCES.read(SIGNED, ROOT) == REFERENCE


def test_a_reference_of_another_run_is_refused() -> None:
    with pytest.raises(Forbidden) as refused:
        REFERENCES.read(SIGNED, RunID("run_2"))
    assert refused.value.code == "REFERENCE_OF_ANOTHER_RUN"


def test_another_accounts_reference_is_refused_as_one_that_nobody_signed() -> None:
    signed = REFERENCES.sign(replace(REFERENCE, account="acc_1"))
    assert REFERENCES.read(signed, ROOT, "acc_1").artifact == ARTIFACT
    for account in ("", "acc_2"):
        with pytest.raises(Forbidden) as refused:
            REFERENCES.read(signed, ROOT, account)
        assert refused.value.code == "BAD_REFERENCE"


def test_another_servers_reference_is_refused() -> None:
    with pytest.raises(Forbidden):
        References(SecretBox(Fernet.generate_key())).read(SIGNED, ROOT)


def test_what_it_says_cannot_be_changed() -> None:
    content, _, mark = SIGNED.removeprefix("ref_").partition(".")
    said = json.loads(base64.urlsafe_b64decode(content + "==")) | {"key": "run_2/out/1.txt"}
    forged = base64.urlsafe_b64encode(json.dumps(said, separators=(",", ":")).encode()).decode().rstrip("=")
    with pytest.raises(Forbidden):
        REFERENCES.read(f"ref_{forged}.{mark}", ROOT)


@given(st.integers(0, len(SIGNED) - 1), st.characters(codec="utf-8"))
def test_no_character_of_it_can_be_changed(place: int, letter: str) -> None:
    changed = SIGNED[:place] + letter + SIGNED[place + 1 :]
    with suppress(Forbidden):
        # The last letter of a text in base64 has bits that say nothing.
        assert REFERENCES.read(changed, ROOT) == REFERENCE


@given(st.text(max_size=200))
def test_no_text_is_taken_for_a_reference(text: str) -> None:
    with pytest.raises(Forbidden):
        REFERENCES.read(text, ROOT)


def test_a_text_of_any_length_is_refused_before_it_is_looked_at() -> None:
    with pytest.raises(TooLarge):
        REFERENCES.read(Signed("ref_" + "A" * MAX_REFERENCE), ROOT)


def test_a_reference_holds_no_address_and_no_secret() -> None:
    content = SIGNED.removeprefix("ref_").partition(".")[0]
    said = json.loads(base64.urlsafe_b64decode(content + "=="))
    assert said.keys() == {
        "root", "definition", "account", "edge", "store", "key", "size_bytes", "content_type", "sha256", "etag", "node",
        "attempt", "origin",
    }  # fmt: skip
