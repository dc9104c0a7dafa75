"""Signed references: how a client holds the outputs of a step. One text each, with nothing in it to guess or to follow.

A reference says which object of which loop is bound to which edge, under which definition. The server signs it and
keeps nothing: whoever brings it back has it believed as it is, or refused.
"""

import base64
import hmac
import json
from dataclasses import asdict, dataclass
from typing import NewType

from pupload.controller.secrets import SecretBox
from pupload.errors import Forbidden, TooLarge
from pupload.run.state import Artifact, RunID

Signed = NewType("Signed", str)

MAX_REFERENCE = 8192
"""Characters of a reference: more than the longest key, name and type together make."""
_PREFIX = "ref_"


@dataclass(frozen=True, slots=True)
class Reference:
    """An object of a loop of steps. `root` is the loop's first run, `artifact.origin` the run that the object is of.

    `account` is whose loop it is.
    """

    root: RunID
    definition: str
    artifact: Artifact
    account: str = ""


class References:
    """Signs references, and reads those that it signed."""

    def __init__(self, box: SecretBox) -> None:
        self._key = box.derived_key("references")

    def sign(self, reference: Reference) -> Signed:
        """The reference as a client holds it."""
        said = {"root": reference.root, "definition": reference.definition, "account": reference.account}
        said |= asdict(reference.artifact)
        content = json.dumps(said, separators=(",", ":"), ensure_ascii=False).encode()
        return Signed(f"{_PREFIX}{_text(content)}.{_text(self._mark(content))}")

    def read(self, signed: str, root: RunID, account: str = "") -> Reference:
        """What was signed, for this loop of the account.

        Errors: TooLarge; Forbidden for a text that was not signed here, was changed, is another account's, or of
        another loop.
        """
        if len(signed) > MAX_REFERENCE:
            raise TooLarge(f"a reference has at most {MAX_REFERENCE} characters; send it as you got it")
        content, mark = _parts(signed)
        if not hmac.compare_digest(mark, self._mark(content)):
            raise _not_ours()
        said = json.loads(content)
        if said.pop("account", "") != account:
            raise _not_ours()
        if said.pop("root") != root:
            raise Forbidden(
                "this reference is of another run; send the outputs of the loop that RunID names",
                code="REFERENCE_OF_ANOTHER_RUN",
            )
        return Reference(root, said.pop("definition"), Artifact(**said), account)

    def _mark(self, content: bytes) -> bytes:
        return hmac.digest(self._key, content, "sha256")


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _parts(signed: str) -> tuple[bytes, bytes]:
    """Content and mark of a reference, not yet believed."""
    content, _, mark = signed.removeprefix(_PREFIX).partition(".")
    try:
        return _bytes(content), _bytes(mark)
    except ValueError as error:
        raise _not_ours() from error


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _not_ours() -> Forbidden:
    return Forbidden(
        "this is no reference that this server signed; send it exactly as you got it", code="BAD_REFERENCE"
    )
