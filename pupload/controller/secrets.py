"""Secrets at rest: encrypted with the server's own key, which never is in the database."""

import hashlib
import hmac
import secrets
from collections.abc import Callable
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from pupload.config import ControllerConfig
from pupload.errors import InvalidConfig


class SecretBox:
    """Encrypts and decrypts with one key."""

    def __init__(self, key: bytes) -> None:
        self._fernet = Fernet(key)
        self._key = key

    def derived_key(self, purpose: str) -> bytes:
        """A key for this purpose alone: it tells nothing of the server's, nor of those for other purposes."""
        return hmac.digest(self._key, purpose.encode(), "sha256")

    def seal(self, secret: str) -> bytes:
        """`secret`, unreadable without the key."""
        return self._fernet.encrypt(secret.encode())

    def open(self, sealed: bytes) -> str:
        """What was sealed.

        Errors: InvalidConfig when it was sealed with another key.
        """
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken as error:
            raise InvalidConfig("a stored secret was encrypted with another secret_key; start with that one") from error


def secret_box(config: ControllerConfig) -> SecretBox:
    """The box for the configured key, else for the one in the data directory, made at the first start.

    Errors: InvalidConfig when the key has the wrong form.
    """
    if config.secret_key is None:
        return SecretBox(kept(config.data_dir / "secret.key", Fernet.generate_key))
    try:
        return SecretBox(config.secret_key.get_secret_value().encode())
    except ValueError as error:
        raise InvalidConfig("secret_key: it must be 32 bytes in URL-safe base64, 44 characters") from error


def kept(path: Path, make: Callable[[], bytes]) -> bytes:
    """What the file holds; made, for its owner alone, when there is none yet."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_bytes(make())
        fresh.rename(path)
    return path.read_bytes()


def new_token() -> str:
    """256 random bits, safe in a header and on a command line."""
    return secrets.token_urlsafe(32)


def token_digest(token: str) -> bytes:
    """What is kept of a token: enough to know it again, too little to use it."""
    # Bytes of a header that are no UTF-8 are such characters in it.
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()
