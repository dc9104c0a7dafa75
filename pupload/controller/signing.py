"""How receivers know that a webhook is ours: the Standard Webhooks signature, under one or several secrets.

Source: https://www.standardwebhooks.com, symmetric signatures (`v1`).
"""

import base64
import binascii
import hmac
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime

from standardwebhooks.webhooks import Webhook

from pupload.config import ControllerConfig
from pupload.controller.secrets import kept
from pupload.errors import InvalidConfig

_PREFIX = "whsec_"
_FEWEST, _MOST = 24, 64


class Signer:
    """Signs with every secret that is in use: while one is replaced, receivers may know either."""

    def __init__(self, secrets_in_use: Sequence[str]) -> None:
        self._secrets = tuple(secrets_in_use)

    def headers(self, delivery: str, at: datetime, body: str, account: str = "") -> Mapping[str, str]:
        """The headers that go with a body of the account's; `delivery` is the same in every try."""
        webhooks = [Webhook(secret_of(secret, account)) for secret in self._secrets]
        return {
            "Content-Type": "application/json",
            "webhook-id": delivery,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(webhook.sign(delivery, at, body) for webhook in webhooks),
        }


def secret_of(secret: str, account: str) -> str:
    """What signs the webhooks of the account: the receivers of one must not be able to sign for another's.

    >>> secret_of("whsec_" + "a" * 32, "acc_1")
    'whsec_H9q2pW8n/Uof1Nai2zFq+2qjCqDcd7sv4aG4YUCh7CI='
    """
    if not account:
        return secret
    own = hmac.digest(base64.b64decode(secret.removeprefix(_PREFIX)), f"webhooks of {account}".encode(), "sha256")
    return _PREFIX + base64.b64encode(own).decode()


def signing_secrets(config: ControllerConfig) -> list[str]:
    """The configured secrets, else the one in the data directory, made when first asked for.

    Errors: InvalidConfig for one of the wrong form.
    """
    if config.webhook_secret is None:
        return [kept(config.data_dir / "webhook.secret", _fresh).decode()]
    given = config.webhook_secret.get_secret_value().split()
    if not given or not all(map(_is_secret, given)):
        raise InvalidConfig(
            f"webhook_secret: write {_PREFIX} and {_FEWEST} to {_MOST} random bytes in base64; several are parted by "
            "blanks"
        )
    return given


def _is_secret(text: str) -> bool:
    try:
        size = len(base64.b64decode(text.removeprefix(_PREFIX), validate=True))
    except binascii.Error:
        return False
    return text.startswith(_PREFIX) and _FEWEST <= size <= _MOST


def _fresh() -> bytes:
    return _PREFIX.encode() + base64.b64encode(secrets.token_bytes(32))
